"""The cost of leaving what is held: against the problem as it is written down, its limits, and what one hears."""

from collections.abc import Callable
from dataclasses import replace

import cvxpy as cp
import diffcp  # noqa: F401  # first imported inside jaxtyping's hook it is compiled anew, and its docstring warns
import numpy as np
import pytest
import torch

from scoring.errors import OperatorError
from scoring.portfolio.cvxpy_layer import CvxpyPortfolio
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import Portfolio
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.turnover import with_turnover
from tests.reference import portfolio as reference
from tests.scoring.portfolio.problems import Case, Shape, case

WEIGHTS = 1e-7
SHAPE = Shape(60, 6, 4, 3, bags=2)
Make = Callable[[PortfolioProblem, float], Portfolio]
BOTH = pytest.mark.parametrize(
    "make", [FactorPortfolio, lambda problem, aversion: CvxpyPortfolio(problem, aversion)], ids=["factor", "cvxpy"]
)


def weights(make: Make, problem: PortfolioProblem, c: Case) -> np.ndarray:
    solved = make(problem, c.risk_aversion).solve(torch.tensor(c.alpha))
    assert [report.status for report in solved.reports] == ["converged"] * len(c.alpha)
    return np.asarray(solved.weights.numpy())


def by_solver(problem: PortfolioProblem, gamma: float, alpha: np.ndarray, solver: str) -> np.ndarray:
    """As it is written down, for x = w n/L and alpha over its mean, with another vector for the trades."""
    n, scale = problem.stocks, float(np.abs(alpha).mean())
    unit = problem.leverage / n
    x, trades = cp.Variable(n), cp.Variable(n)
    risk = cp.sum_squares(np.linalg.cholesky(reference.risk(problem)).T * np.sqrt(gamma * unit / scale) @ x)
    prices = gamma * problem.turnover_cost * problem.specific * unit / scale
    goal = (alpha / scale) @ x - risk / 2 - cp.sum(cp.multiply(prices, cp.square(trades))) / 2
    limits = [
        trades == x - problem.previous / unit,
        reference.columns(problem).T @ x == 0,
        cp.abs(problem.factors.T @ x) * np.sqrt(n) <= problem.bounds * np.sqrt(n) / unit,
        cp.abs(x) <= problem.cap / unit,
        cp.norm1(x) <= n,
    ]
    settings = dict.fromkeys(reference.TOLERANCES, 1e-11)
    asked = cp.Problem(cp.Maximize(goal), limits)
    asked.solve(
        solver=solver, **settings if solver == "CLARABEL" else {"eps_abs": 1e-10, "eps_rel": 1e-10, "max_iter": 400_000}
    )
    assert asked.status == "optimal", asked.status
    return np.asarray(x.value * unit)


@BOTH
@pytest.mark.parametrize("aversion", [0.2, 3.0])
@pytest.mark.parametrize("cost", [0.3, 5.0])
def test_solve__with_a_cost_equals_clarabel_and_osqp(make: Make, cost: float, aversion: float) -> None:
    """From a portfolio that breaks every limit."""
    c = case(21, replace(SHAPE, aversion=aversion))
    held = np.random.default_rng(21).normal(0, 3 / SHAPE.stocks, SHAPE.stocks)
    problem = with_turnover(c.problem, cost, held)
    for found, alpha in zip(weights(make, problem, c), c.alpha, strict=True):
        for solver in ("CLARABEL", "OSQP"):
            expected = by_solver(problem, c.risk_aversion, alpha, solver)
            assert np.abs(found - expected).max() <= WEIGHTS * np.abs(expected).max()


@BOTH
def test_solve__a_cost_of_almost_nothing_is_the_portfolio_without(make: Make) -> None:
    c = case(22, SHAPE)
    plain = weights(make, c.problem, c)
    held = np.random.default_rng(22).normal(0, 1 / SHAPE.stocks, SHAPE.stocks)
    near = weights(make, with_turnover(c.problem, 1e-10, held), c)
    assert np.abs(near - plain).max() <= WEIGHTS * np.abs(plain).max()
    far = weights(make, with_turnover(c.problem, 0.1, held), c)
    assert np.abs(far - plain).max() > 1e-3 * np.abs(plain).max()


@BOTH
def test_solve__at_any_price_stays_where_it_is_allowed_to(make: Make) -> None:
    c = case(23, SHAPE)
    held = 0.9 * weights(FactorPortfolio, c.problem, replace(c, bag_stakes=c.bag_stakes[::-1]))[0]
    assert np.abs(weights(FactorPortfolio, c.problem, c)[0] - held).max() > 0.1 * np.abs(held).max()
    found = weights(make, with_turnover(c.problem, 1e9, held), c)
    assert np.abs(found - held).max() <= WEIGHTS * np.abs(held).max()


@pytest.mark.parametrize("cost", [0.5, 1.0, 4.0])
def test_solve__without_limits_goes_the_stated_share_of_the_way(cost: float) -> None:
    groups, rows = np.zeros((0, 9), dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    specific, gamma = np.linspace(0.01, 0.04, 9), 50.0
    empty = np.zeros((9, 0))
    problem = PortfolioProblem(empty, np.zeros((0, 0)), np.zeros(0), specific, groups, rows, cap=1e3, leverage=1e3)
    alpha, held = np.linspace(-0.7, 1.1, 9), np.linspace(2.0, -1.0, 9)
    aim = alpha / (gamma * specific)
    solved = FactorPortfolio(with_turnover(problem, cost, held), gamma).solve(torch.tensor(alpha[None]))
    assert solved.weights[0].numpy() == pytest.approx(held + (aim - held) / (1 + cost), rel=1e-13)


def test_solve__a_portfolio_of_nothing_counts_its_whole_size_as_a_trade() -> None:
    c = case(24, SHAPE)
    zero = np.zeros(SHAPE.stocks)
    from_nothing = weights(FactorPortfolio, with_turnover(c.problem, 2.0, None), c)
    assert np.array_equal(from_nothing, weights(FactorPortfolio, with_turnover(c.problem, 2.0, zero), c))
    assert (np.abs(from_nothing).sum(1) < 0.99 * np.abs(weights(FactorPortfolio, c.problem, c)).sum(1)).all()


def test_pull_back__with_a_cost_equals_central_differences() -> None:
    c, step = case(25, SHAPE), 1e-6
    held = np.random.default_rng(25).normal(0, 1 / SHAPE.stocks, SHAPE.stocks)
    portfolio = FactorPortfolio(with_turnover(c.problem, 0.7, held), c.risk_aversion)
    v = portfolio.pull_back(portfolio.solve(torch.tensor(c.alpha)), torch.tensor(c.returns)).numpy()
    along = c.gaussianised[4]
    up, down = (portfolio.solve(torch.tensor(c.alpha + sign * step * along)).weights.numpy() for sign in (1, -1))
    slopes = (up - down) @ c.returns / (2 * step)
    assert np.abs(v @ along - slopes).max() <= 1e-6 * (np.abs(v) @ np.abs(along)).max()


@pytest.mark.parametrize(
    ("cost", "held", "message"),
    [
        (1.0, np.zeros(59), "a finite weight for each of 60 stocks"),
        (1.0, np.full(60, np.nan), "a finite weight for each of 60 stocks"),
        (0.0, np.zeros(60), r"turnover_cost must be a number above 0, found 0\.0"),
        (np.inf, np.zeros(60), "turnover_cost must be a number above 0, found inf"),
    ],
)
def test_with_turnover__says_what_must_hold(cost: float, held: np.ndarray, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        with_turnover(case(26, SHAPE).problem, cost, held)
