"""The structured solver: optimality conditions in easy and hard settings, and what it says about each bag."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from scoring.errors import OperatorError
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import Solved
from scoring.portfolio.problem import PortfolioProblem, auto_risk_aversion


@dataclass(frozen=True)
class Setting:
    """A random problem."""

    stocks: int = 200
    factors: int = 12
    groups: int = 8
    cap: float = 5.0
    bound: float = 0.3
    leverage: float = 1.0
    seed: int = 0


def make_problem(setting: Setting) -> PortfolioProblem:
    draw = np.random.default_rng(setting.seed)
    stocks, factors = setting.stocks, setting.factors
    volatility = draw.uniform(0.005, 0.05, factors)
    mix = draw.standard_normal((factors, factors))
    correlation = np.eye(factors) + 0.1 * mix @ mix.T / max(factors, 1)
    labels = draw.permutation(np.arange(stocks) % setting.groups)[None, :]
    return PortfolioProblem(
        factors=draw.standard_normal((stocks, factors)),
        covariance=correlation * np.outer(volatility, volatility),
        bounds=np.full(factors, setting.bound * setting.leverage / np.sqrt(stocks)),
        specific=draw.uniform(0.05, 0.2, stocks) ** 2,
        groups=labels.astype(np.int64),
        rows=np.array([(0, group) for group in range(setting.groups)], dtype=np.int64).reshape(-1, 2),
        cap=setting.cap * setting.leverage / stocks,
        leverage=setting.leverage,
    )


def make_alphas(stocks: int, bags: int, seed: int = 0) -> np.ndarray:
    """Alphas that have much in common, as those of stake dropout have."""
    draw = np.random.default_rng(seed)
    return draw.standard_normal(stocks) + 0.4 * draw.standard_normal((bags, stocks))


def solve(problem: PortfolioProblem, alphas: np.ndarray, times: float = 1.0) -> tuple[FactorPortfolio, Solved]:
    portfolio = FactorPortfolio(problem, times * auto_risk_aversion(alphas[0], problem))
    return portfolio, portfolio.solve(torch.as_tensor(alphas))


def assert_optimal(problem: PortfolioProblem, gamma: float, alphas: np.ndarray, solved: Solved) -> None:
    """Checks feasibility, and that no feasible direction improves: the gradient of the objective is a bound's price.

    With the exposures, neutrality rows, caps and the leverage as linear limits, w is optimal if the linear programme
    max ∇ᵀx over the same limits has its optimum at x = w. Its value is found by an independent solver.
    """
    from scipy.optimize import linprog

    neutral = problem.neutral_columns()
    bounded = np.isfinite(problem.bounds)
    for alpha, weights in zip(alphas, solved.weights.numpy(), strict=True):
        assert np.abs(neutral.T @ weights).max(initial=0) <= 1e-10 * problem.leverage
        assert np.abs(weights).max() <= problem.cap * (1 + 1e-12)
        assert np.abs(weights).sum() <= problem.leverage * (1 + 1e-10)
        exposure = problem.factors.T @ weights
        assert (np.abs(exposure) - problem.bounds <= 1e-9 * problem.leverage).all()
        risk = problem.factors @ (problem.covariance @ exposure) + problem.specific * weights
        slope = alpha - gamma * risk
        sides = problem.factors[:, bounded].T
        limits = np.block([[sides, -sides], [-sides, sides], [np.ones((1, 2 * problem.stocks))]])
        edges = np.concatenate([problem.bounds[bounded], problem.bounds[bounded], [problem.leverage]])
        best = linprog(
            -np.concatenate([slope, -slope]),
            A_ub=limits,
            b_ub=edges,
            A_eq=np.hstack([neutral.T, -neutral.T]),
            b_eq=np.zeros(neutral.shape[1]),
            bounds=(0, problem.cap),
        )
        assert -best.fun - slope @ weights <= 1e-7 * np.abs(alpha).mean() * problem.leverage


@pytest.mark.parametrize(
    ("setting", "times"),
    [
        pytest.param(Setting(), 1.0, id="default"),
        pytest.param(Setting(), 5.0, id="leverage slack"),
        pytest.param(Setting(), 0.05, id="leverage tight"),
        pytest.param(Setting(cap=1.2), 1.0, id="caps of 1.2/n"),
        pytest.param(Setting(bound=np.inf), 1.0, id="no exposure bounds"),
        pytest.param(Setting(bound=0.01), 1.0, id="tight exposure bounds"),
        pytest.param(Setting(bound=0.0), 1.0, id="exposures of exactly 0"),
        pytest.param(Setting(groups=1, factors=0), 1.0, id="market neutral, no factor"),
        pytest.param(Setting(groups=0), 1.0, id="no neutrality"),
        pytest.param(Setting(leverage=3.0), 1.0, id="leverage 3"),
    ],
)
def test_solve__is_optimal_and_converged(setting: Setting, times: float) -> None:
    problem = (
        make_problem(setting)
        if setting.groups
        else replace(make_problem(replace(setting, groups=1)), rows=np.zeros((0, 2), np.int64))
    )
    alphas = make_alphas(setting.stocks, 4)
    _, solved = solve(problem, alphas, times)
    assert [report.status for report in solved.reports] == ["converged"] * 4
    assert_optimal(problem, times * auto_risk_aversion(alphas[0], problem), alphas, solved)


def duplicated(problem: PortfolioProblem) -> PortfolioProblem:
    twin = np.arange(problem.stocks) // 2 * 2
    return replace(
        problem, factors=problem.factors[twin], specific=problem.specific[twin], groups=problem.groups[:, twin]
    )


def single_stock_groups(problem: PortfolioProblem) -> PortfolioProblem:
    labels = np.maximum(np.arange(problem.stocks) - problem.stocks + 21, 0)[None, :]
    return replace(problem, groups=labels, rows=np.array([(0, group) for group in range(21)], dtype=np.int64))


def five_bins(alphas: np.ndarray) -> np.ndarray:
    order = alphas.argsort(axis=1).argsort(axis=1)
    return np.floor(5 * order / alphas.shape[1]) / 4 - 0.5


@pytest.mark.parametrize("times", [1.0, 0.1], ids=["auto", "tight leverage"])
@pytest.mark.parametrize(
    ("setting", "change", "alpha"),
    [
        pytest.param(Setting(1000, 70, 60), None, None, id="n = 1000"),
        pytest.param(Setting(400, 100, 100), None, None, id="k = c = 100"),
        pytest.param(Setting(400, 40, 40, cap=1.2, bound=0.1), None, None, id="all limits tight"),
        pytest.param(Setting(400), duplicated, None, id="duplicated stocks"),
        pytest.param(Setting(400), duplicated, five_bins, id="duplicated stocks, ties in 5 bins"),
        pytest.param(Setting(400), None, five_bins, id="ties in 5 bins"),
        pytest.param(Setting(400), single_stock_groups, None, id="single-stock groups"),
    ],
)
def test_solve__hard_settings_converge(
    setting: Setting,
    change: Callable[[PortfolioProblem], PortfolioProblem] | None,
    alpha: Callable[[np.ndarray], np.ndarray] | None,
    times: float,
) -> None:
    problem = make_problem(setting)
    problem = problem if change is None else change(problem)
    alphas = make_alphas(setting.stocks, 6)
    alphas = alphas if alpha is None else alpha(alphas)
    _, solved = solve(problem, alphas, times)
    assert [report.status for report in solved.reports] == ["converged"] * 6
    assert max(report.gap for report in solved.reports) < 1e-10
    assert max(report.infeasibility for report in solved.reports) < 1e-10
    assert_optimal(problem, times * auto_risk_aversion(alphas[0], problem), alphas, solved)


def test_solve__pinned_groups_are_no_kinks() -> None:
    _, solved = solve(single_stock_groups(make_problem(Setting())), make_alphas(200, 4))
    assert all(report.pinned_groups >= 20 for report in solved.reports)
    assert all(report.margin > 1e-9 for report in solved.reports)


def test_solve__a_kink_is_called_degenerate() -> None:
    # Two stocks and the market: w = (a₁ − a₂)/(2γd), which is exactly the cap here, at multiplier 0.
    problem = replace(
        make_problem(Setting(stocks=2, factors=0, groups=1, cap=1.0)), specific=np.ones(2), leverage=10.0, cap=0.5
    )
    solved = FactorPortfolio(problem, 1.0).solve(torch.tensor([[0.5, -0.5], [0.4, -0.4]], dtype=torch.float64))
    assert [report.status for report in solved.reports] == ["degenerate", "converged"]
    np.testing.assert_allclose(solved.weights.numpy(), [[0.5, -0.5], [0.4, -0.4]])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_solve__auto_takes_out_the_scale_of_alpha(scale: float) -> None:
    problem, alphas = make_problem(Setting()), make_alphas(200, 3)
    _, plain = solve(problem, alphas)
    _, scaled = solve(problem, scale * alphas)
    np.testing.assert_allclose(scaled.weights.numpy(), plain.weights.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_solve__fixed_risk_aversion_bears_any_alpha(scale: float) -> None:
    problem, alphas = make_problem(Setting()), make_alphas(200, 3)
    portfolio = FactorPortfolio(problem, auto_risk_aversion(alphas[0], problem))
    solved = portfolio.solve(torch.as_tensor(scale * alphas))
    assert [report.status for report in solved.reports] == ["converged"] * 3


def test_solve__zero_alpha_is_no_portfolio() -> None:
    problem = make_problem(Setting())
    solved = FactorPortfolio(problem, 1.0).solve(torch.zeros(2, 200, dtype=torch.float64))
    assert not solved.weights.any()
    assert [report.status for report in solved.reports] == ["converged"] * 2


def test_solve__a_bag_does_not_depend_on_its_batch() -> None:
    problem, alphas = make_problem(Setting(400, 20, 10)), make_alphas(400, 7)
    portfolio, together = solve(problem, alphas)
    alone = torch.cat([portfolio.solve(torch.as_tensor(alphas[row : row + 1])).weights for row in range(7)])
    np.testing.assert_allclose(alone.numpy(), together.weights.numpy(), rtol=0, atol=1e-14)
    # Rows of one matrix product may differ in their last bits.
    same = portfolio.solve(torch.as_tensor(np.repeat(alphas[:1], 5, axis=0))).weights.numpy()
    np.testing.assert_allclose(same, np.repeat(same[:1], 5, axis=0), rtol=0, atol=1e-15)


def test_solve__not_a_number_is_a_failed_bag() -> None:
    problem, alphas = make_problem(Setting()), make_alphas(200, 2)
    alphas[1, 3] = np.nan
    _, solved = solve(problem, alphas)
    assert [report.status for report in solved.reports] == ["converged", "failed"]


def test_factor_portfolio__refuses_a_risk_aversion_of_0() -> None:
    with pytest.raises(OperatorError, match="risk_aversion must be a number above 0"):
        FactorPortfolio(make_problem(Setting()), 0.0)
