"""The ladder of checks that a portfolio solver has to climb, rung by rung, for both solvers.

Small and checked by torch; against cvxpylayers; against the problem solved again at both sides; against Clarabel and
OSQP; the closed forms of True Contribution; and last the settings that are hard on a solver, where every bag is right
or says that it is not. The oracles are in `tests/reference/portfolio.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from scoring.correlation import products
from scoring.portfolio.cvxpy_layer import CvxpyPortfolio
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import Portfolio, Solved, as_layer
from scoring.portfolio.problem import PortfolioProblem
from scoring.ranks import Ranks, gauss_table
from tests.reference import portfolio as reference
from tests.scoring.portfolio.problems import HARD, Case, Shape, case, equality_only, scale_free


@dataclass(frozen=True)
class Climber:
    """A solver, how exact its gradient is, and where it computes."""

    make: Callable[[PortfolioProblem, float], Portfolio]
    gradient: float
    device: str = "cpu"


FACTOR = Climber(lambda problem, aversion: FactorPortfolio(problem, aversion, device="cpu"), 1e-9)
ON_CUDA = Climber(lambda problem, aversion: FactorPortfolio(problem, aversion, device="cuda"), 1e-9, "cuda")
CVXPY = Climber(CvxpyPortfolio, 1e-9)
with_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
FACTORS = pytest.mark.parametrize("climber", [FACTOR, pytest.param(ON_CUDA, marks=with_cuda)], ids=["cpu", "cuda"])
ALL = pytest.mark.parametrize(
    "climber", [FACTOR, pytest.param(ON_CUDA, marks=with_cuda), CVXPY], ids=["factor", "factor on cuda", "cvxpy"]
)
WEIGHTS = 1e-7


def weights_of(climber: Climber, c: Case, alpha: np.ndarray) -> np.ndarray:
    """The weights of all bags."""
    return climber.make(c.problem, c.risk_aversion).solve(torch.tensor(alpha)).weights.cpu().numpy()


def solved_and_pulled(climber: Climber, c: Case) -> tuple[Solved, np.ndarray]:
    """The weights of all bags, and the gradient of what they earned."""
    portfolio = climber.make(c.problem, c.risk_aversion)
    solved = portfolio.solve(torch.tensor(c.alpha))
    pulled = portfolio.pull_back(solved, torch.tensor(c.returns)).cpu().numpy()
    return replace(solved, weights=solved.weights.cpu()), pulled


def natural_size(c: Case) -> float:
    """The gradient's size where nothing is limited, r/(γd): what an error is measured by, as it can be 0 itself."""
    return float(np.abs(c.returns / c.problem.specific).max() / c.risk_aversion)


def shares_of_tc(c: Case, v: np.ndarray, bag: int) -> np.ndarray:
    """s_i TC_i of one bag, at the bag's own stakes."""
    return c.bag_stakes[bag] * (c.gaussianised @ v[bag]) / c.stakes.sum()


def assert_weights(c: Case, weights: np.ndarray, bag: int) -> None:
    exact = reference.weights(c.problem, c.risk_aversion, c.alpha[bag])
    assert np.abs(weights - exact).max() <= WEIGHTS * np.abs(exact).max()


# The derivative --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("climber", "stocks", "aversion", "whole"),
    [
        (FACTOR, 40, 1.0, True),
        (FACTOR, 40, 0.2, False),
        pytest.param(ON_CUDA, 40, 1.0, True, marks=with_cuda),
        (CVXPY, 16, 1.0, True),
    ],
)
def test_as_layer__passes_gradcheck(climber: Climber, stocks: int, aversion: float, whole: bool) -> None:
    """The whole Jacobian or a random projection of it; weights in units of 1/n, for torch's absolute tolerance."""
    c = case(1, Shape(stocks, bags=1, aversion=aversion))
    portfolio = climber.make(c.problem, c.risk_aversion)
    alpha = torch.tensor(c.alpha, device=climber.device, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a: stocks * as_layer(portfolio, a), (alpha,), atol=1e-5, rtol=1e-4, fast_mode=not whole
    )


@ALL
@pytest.mark.parametrize("aversion", [0.2, 1.0, 3.0])
def test_pull_back__equals_the_closed_form(climber: Climber, aversion: float) -> None:
    """∂w*/∂a = Z (ZᵀHZ)⁻¹ Zᵀ, Z a basis of the null space of the active rows."""
    c = case(2, Shape(aversion=aversion))
    solved, v = solved_and_pulled(climber, c)
    for bag, alpha in enumerate(c.alpha):
        exact = reference.jacobian(c.problem, c.risk_aversion, alpha) @ c.returns
        assert solved.reports[bag].status == "converged"
        assert np.abs(v[bag] - exact).max() <= climber.gradient * np.abs(exact).max()


@FACTORS
@pytest.mark.parametrize("seed", range(1, 7))
def test_pull_back__equals_cvxpylayers_dense(climber: Climber, seed: int) -> None:
    """At 200 stocks, on a problem that is written a third way; the closed form tells who is off, should they differ.

    Over these six this solver was 1e-14 away from the closed form, and cvxpylayers 8e-10 to 9e-9.
    """
    c = case(seed, Shape(200, 8, 5, 3, bags=1))
    _, v = solved_and_pulled(climber, c)
    theirs = reference.gradient_by_cvxpylayers(c.problem, c.risk_aversion, c.alpha[0], c.returns)
    assert np.abs(v[0] - theirs).max() <= 1e-7 * np.abs(theirs).max()
    exact = reference.jacobian(c.problem, c.risk_aversion, c.alpha[0]) @ c.returns
    assert np.abs(v[0] - exact).max() <= 1e-12 * np.abs(exact).max()


@ALL
def test_pull_back__equals_central_differences_along_a_submission(climber: Climber) -> None:
    """What TC_i means: the reference solves again with a little more and a little less of p_i."""
    c = case(4, Shape(bags=2, aversion=0.5))
    _, v = solved_and_pulled(climber, c)
    for bag, alpha in enumerate(c.alpha):
        for along in c.gaussianised[:4]:
            expected = reference.slope(c.problem, c.risk_aversion, alpha, c.returns, along)
            assert v[bag] @ along == pytest.approx(expected, abs=1e-6 * np.abs(v[bag] * along).sum())


@ALL
def test_pull_back__equals_central_differences_of_its_own_weights(climber: Climber) -> None:
    c, step = case(5, Shape(bags=1, aversion=0.5)), 1e-6
    _, v = solved_and_pulled(climber, c)
    along = c.gaussianised[3:7]
    both_sides = np.concatenate([c.alpha + step * along, c.alpha - step * along])
    earned = weights_of(climber, c, both_sides) @ c.returns
    slopes = (earned[:4] - earned[4:]) / (2 * step)
    assert np.abs(along @ v[0] - slopes).max() <= 1e-6 * (np.abs(along) @ np.abs(v[0])).max()


@ALL
def test_pull_back__takes_one_upstream_a_bag_or_one_for_all_of_any_size(climber: Climber) -> None:
    """diffcp alone would return 0 for the smallest of these."""
    c = case(6, Shape(20))
    portfolio = climber.make(c.problem, c.risk_aversion)
    solved = portfolio.solve(torch.tensor(c.alpha))
    whole = portfolio.pull_back(solved, torch.tensor(c.returns)).cpu().numpy()
    sizes = np.array([[1e-12], [0.0], [1e9]])
    apart = portfolio.pull_back(solved, torch.tensor(sizes * c.returns)).cpu().numpy()
    assert np.abs(apart - sizes * whole).max(axis=1) == pytest.approx(0, abs=1e-9 * np.abs(apart).max())
    assert apart[0] == pytest.approx(1e-12 * whole[0], rel=1e-9)
    assert not apart[1].any()


# The weights -----------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("aversion", [0.05, 0.5, 1.0, 5.0])
def test_solve__equals_clarabel_and_osqp(climber: Climber, aversion: float) -> None:
    c = case(7, Shape(60, 6, 4, 3, bags=2, aversion=aversion))
    weights = weights_of(climber, c, c.alpha)
    for bag, alpha in enumerate(c.alpha):
        for solver in ("CLARABEL", "OSQP"):
            expected = reference.by_solver(c.problem, c.risk_aversion, alpha, solver)[0]
            assert np.abs(weights[bag] - expected).max() <= WEIGHTS * np.abs(expected).max()


@ALL
def test_solve__a_meta_model_of_nobody_gives_no_portfolio(climber: Climber) -> None:
    """A bag may drop everybody; it still has a gradient, and it does not disturb the other bags."""
    c = case(8, Shape(20, bags=2))
    portfolio = climber.make(c.problem, c.risk_aversion)
    solved = portfolio.solve(torch.tensor(np.vstack([c.alpha, np.zeros(20)])))
    v = portfolio.pull_back(solved, torch.tensor(c.returns)).cpu().numpy()
    assert [report.status for report in solved.reports] == ["converged"] * 3
    assert np.abs(solved.weights[2].cpu().numpy()).max() <= 1e-12
    exact = reference.jacobian(c.problem, c.risk_aversion, c.alpha[0] * 1e-3) @ c.returns
    assert np.abs(v[2] - exact).max() <= climber.gradient * np.abs(exact).max()
    assert_weights(c, solved.weights[1].cpu().numpy(), 1)


# The closed forms of True Contribution ---------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("seed", [1, 2])
def test_true_contribution__adds_up_to_the_return_under_equality_constraints_alone(climber: Climber, seed: int) -> None:
    """w* is then linear in the meta model: Σ s_i TC_i = R, with every bag's own stakes, dropped out or not."""
    c = equality_only(seed)
    solved, v = solved_and_pulled(climber, c)
    for bag, weights in enumerate(solved.weights.numpy()):
        shares = shares_of_tc(c, v, bag)
        assert shares.sum() == pytest.approx(weights @ c.returns, abs=climber.gradient * np.abs(shares).sum())


@ALL
@pytest.mark.parametrize("seed", [1, 2])
def test_true_contribution__adds_up_to_0_where_the_size_of_alpha_does_not_matter(climber: Climber, seed: int) -> None:
    c = scale_free(seed)
    solved, v = solved_and_pulled(climber, c)
    stretched = torch.tensor(weights_of(climber, c, 2 * c.alpha))
    assert (stretched - solved.weights).abs().max() <= WEIGHTS * solved.weights.abs().max()
    for bag, report in enumerate(solved.reports):
        shares = shares_of_tc(c, v, bag)
        assert report.status == "converged"
        assert_weights(c, solved.weights[bag].numpy(), bag)
        assert np.abs(v[bag]).max() > 0.01 * natural_size(c)
        assert abs(shares.sum()) <= climber.gradient * np.abs(v[bag] * c.alpha[bag]).sum()


def tc(ranks: Ranks, price: np.ndarray) -> np.ndarray:
    """TC of each model: its gaussianised ranks times the price vector, by the pass that scores are computed with."""
    return products(ranks, gauss_table(ranks.stocks), [price]).inner[:, 0]


@pytest.mark.parametrize("setting", ["five bins", "no leverage"])
def test_true_contribution__opposites_are_exact_opposites_and_copies_equal_at_any_stake(setting: str) -> None:
    c = HARD[setting](9)
    _, v = solved_and_pulled(FACTOR, c)
    found = tc(c.ranks, v.mean(axis=0) / c.stakes.sum())
    assert c.stakes[0] != c.stakes[1] != c.stakes[2] != c.stakes[0]
    assert found[1] == -found[0] != 0
    assert found[2] == found[0]


def test_true_contribution__a_model_without_stake_has_one() -> None:
    """It is the slope of what the portfolio would have earned with a little of its stake."""
    c = case(10, Shape(bags=1))
    _, v = solved_and_pulled(FACTOR, c)
    assert c.stakes[-1] == 0
    along = c.gaussianised[-1] / c.stakes.sum()
    expected = reference.slope(c.problem, c.risk_aversion, c.alpha[0], c.returns, along * 100) / 100
    assert tc(c.ranks, v[0] / c.stakes.sum())[-1] == pytest.approx(expected, rel=1e-6)


# Hard settings ---------------------------------------------------------------------------------------------------


SETTINGS = [(name, seed) for name in HARD for seed in (1, 2) if seed == 1 or "100" not in name]


@ALL
@pytest.mark.parametrize(("setting", "seed"), SETTINGS)
def test_solve__in_hard_settings_every_bag_is_right_or_flagged(climber: Climber, setting: str, seed: int) -> None:
    c = HARD[setting](seed)
    solved, v = solved_and_pulled(climber, c)
    for bag, report in enumerate(solved.reports):
        assert report.status != "failed"
        assert_weights(c, solved.weights[bag].numpy(), bag)
        if report.status == "degenerate":
            assert report.margin < 1e-9
            continue
        exact = reference.jacobian(c.problem, c.risk_aversion, c.alpha[bag]) @ c.returns
        assert np.abs(v[bag] - exact).max() <= 1e-8 * natural_size(c)
        expected = reference.slope(c.problem, c.risk_aversion, c.alpha[bag], c.returns, c.gaussianised[4])
        assert abs(v[bag] @ c.gaussianised[4] - expected) <= 1e-6 * natural_size(c)


@ALL
def test_solve__a_stock_on_a_kink_is_flagged(climber: Climber) -> None:
    """Without factors and groups w_j = a_j/(γ d_j): one alpha is chosen to put its stock exactly on the cap."""
    empty = np.zeros((6, 0))
    specific = np.full(6, 1 / 1024)
    groups, rows = np.zeros((0, 6), dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    problem = PortfolioProblem(empty, np.zeros((0, 0)), np.zeros(0), specific, groups, rows, cap=0.25, leverage=1.0)
    alpha = np.array([[0.25, 0.1, -0.05, 0.02, 0.03, -0.01], [0.3, 0.1, -0.05, 0.02, 0.03, -0.01]])
    solved = climber.make(problem, 1024.0).solve(torch.tensor(alpha))
    assert solved.weights.cpu().numpy() == pytest.approx(np.minimum(alpha, 0.25), abs=1e-12)
    assert [report.status for report in solved.reports] == ["degenerate", "converged"]
    assert solved.reports[0].margin < 1e-9
