"""An operator's own problem: what `CvxpyPortfolio` makes of it, and every way in which it can be wrong."""

import sys
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch

from scoring.errors import OperatorError
from scoring.portfolio import cone_program, default_problem
from scoring.portfolio.cvxpy_layer import CvxpyPortfolio
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.solvers import Solver, gradients
from tests.reference import portfolio as reference
from tests.scoring.portfolio.problems import HARD, Case, Shape, case

N = 12
DEFAULT = "scoring.portfolio.default_problem:build"


def small() -> Case:
    return case(11, Shape(N, 3, 2, 2, bags=2))


def limited_risk(problem: PortfolioProblem, risk_aversion: float) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """Another problem: no more risk than a limit, instead of a price for it. It ignores the size of alpha."""
    alpha, w = cp.Parameter(problem.stocks), cp.Variable(problem.stocks)
    spread = np.linalg.cholesky(reference.risk(problem)).T
    limits = [cp.norm(spread @ w) <= 1.0, reference.columns(problem).T @ w == 0]
    return cp.Problem(cp.Maximize(alpha @ w), limits), alpha, w


def promised(problem: PortfolioProblem, risk_aversion: float) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """The least risk that earns a promised sum: here alpha stands in a limit."""
    alpha, w = cp.Parameter(problem.stocks), cp.Variable(problem.stocks)
    spread = np.linalg.cholesky(reference.risk(problem)).T * 100
    return cp.Problem(cp.Minimize(cp.sum_squares(spread @ w)), [alpha @ w >= 1]), alpha, w


def eigenvalue(problem: PortfolioProblem, risk_aversion: float) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """A price for the largest eigenvalue of a mix of matrices: a semidefinite cone."""
    alpha, w = cp.Parameter(problem.stocks), cp.Variable(problem.stocks)
    drawn = np.random.default_rng(1).normal(size=(problem.stocks, 4, 4))
    mixed = sum((a + a.T) * w[stock] for stock, a in enumerate(drawn))
    goal = alpha @ w - cp.sum_squares(w) - 0.05 * cp.lambda_max(mixed)
    return cp.Problem(cp.Maximize(goal), [cp.sum(w) == 0]), alpha, w


def entropy(problem: PortfolioProblem, risk_aversion: float) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """A reward for evenness: exponential cones."""
    alpha, w = cp.Parameter(problem.stocks), cp.Variable(problem.stocks)
    goal = alpha @ w + 1.5 * cp.sum(cp.entr(w + 1))
    return cp.Problem(cp.Maximize(goal), [cp.sum(w) == 0, w <= 0.25]), alpha, w


def in_weights(problem: PortfolioProblem, risk_aversion: float) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """The default problem as one writes it down, of whatever scale it is."""
    alpha, w = cp.Parameter(problem.stocks), cp.Variable(problem.stocks)
    limits = [cp.norm1(w) <= problem.leverage, cp.abs(w) <= problem.cap, reference.columns(problem).T @ w == 0]
    limits.append(cp.abs(problem.factors.T @ w) <= problem.bounds)
    goal = alpha @ w - risk_aversion / 2 * cp.quad_form(w, cp.psd_wrap(reference.risk(problem)))
    return cp.Problem(cp.Maximize(goal), limits), alpha, w


def pulled(c: Case, build: Callable[..., Any], alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    portfolio = CvxpyPortfolio(c.problem, c.risk_aversion, build)
    solved = portfolio.solve(torch.tensor(alpha))
    assert [report.status for report in solved.reports] == ["converged"] * len(alpha)
    return solved.weights.numpy(), portfolio.pull_back(solved, torch.tensor(c.returns)).numpy()


# What it makes of a problem --------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [default_problem.build, in_weights], ids=["scaled", "unscaled"])
def test_pull_back__is_exact_in_any_scale(build: Callable[..., Any]) -> None:
    """diffcp's own iterative gradient of the second of these is wrong by all of it."""
    c = case(12, Shape(100, 8, 5, 2, bags=2))
    weights, v = pulled(c, build, c.alpha)
    for bag, alpha in enumerate(c.alpha):
        exact = reference.jacobian(c.problem, c.risk_aversion, alpha) @ c.returns
        assert np.abs(v[bag] - exact).max() <= 1e-11 * np.abs(exact).max()
        expected = reference.weights(c.problem, c.risk_aversion, alpha)
        assert np.abs(weights[bag] - expected).max() <= 1e-11 * np.abs(expected).max()


@pytest.mark.parametrize("build", [limited_risk, promised, eigenvalue, entropy])
def test_pull_back__equals_central_differences_whatever_the_cones(build: Callable[..., Any]) -> None:
    c, step = small(), 1e-5
    _, v = pulled(c, build, c.alpha)
    along = np.random.default_rng(2).normal(size=c.alpha.shape)
    after, before = (pulled(c, build, c.alpha + sign * step * along)[0] for sign in (1, -1))
    expected = (after - before) @ c.returns / (2 * step)
    assert (v * along).sum(1) == pytest.approx(expected, abs=1e-6 * np.abs(v * along).sum(1).max())


@pytest.mark.parametrize("setting", [name for name in HARD if "100" not in name])
def test_pull_back__in_hard_settings_is_exact_where_it_counts_as_found(setting: str) -> None:
    """Where nothing may move the gradient is 0, so that an error is measured by r/(γd), its size without limits."""
    c = HARD[setting](3)
    portfolio = CvxpyPortfolio(c.problem, c.risk_aversion)
    solved = portfolio.solve(torch.tensor(c.alpha))
    v = portfolio.pull_back(solved, torch.tensor(c.returns)).numpy()
    natural = np.abs(c.returns / c.problem.specific).max() / c.risk_aversion
    structured = FactorPortfolio(c.problem, c.risk_aversion)
    expected = structured.pull_back(structured.solve(torch.tensor(c.alpha)), torch.tensor(c.returns)).numpy()
    assert [report.status for report in solved.reports] == ["converged"] * 3
    assert np.abs(v - expected).max() <= 1e-11 * natural


def test_solve__takes_an_operators_own_problem() -> None:
    """With a limit on risk the size of alpha does not matter: Σ s_i TC_i = 0; and w is the known closed form."""
    c = small()
    weights, v = pulled(c, limited_risk, c.alpha)
    for bag, alpha in enumerate(c.alpha):
        basis = np.linalg.svd(reference.columns(c.problem).T)[2][len(c.problem.rows) :].T
        inside = basis.T @ reference.risk(c.problem) @ basis
        direction = basis @ np.linalg.solve(inside, basis.T @ alpha)
        expected = direction / np.sqrt(direction @ reference.risk(c.problem) @ direction)
        assert weights[bag] == pytest.approx(expected, abs=1e-7 * np.abs(expected).max())
        assert abs(v[bag] @ alpha) <= 1e-6 * np.abs(v[bag] * alpha).sum()
        assert np.abs(v[bag] * alpha).sum() > 0


def test_pull_back__alpha_may_stand_in_a_limit_even_where_it_is_0() -> None:
    """w* = Σ⁻¹a / aᵀΣ⁻¹a. A coefficient that is 0 must not be dropped, and with it its derivative."""
    c = small()
    alpha = c.alpha[:1].copy()
    alpha[0, 3] = 0.0
    weights, v = pulled(c, promised, alpha)
    inverse = np.linalg.inv(reference.risk(c.problem))
    promise = alpha[0] @ inverse @ alpha[0]
    expected = inverse @ alpha[0] / promise
    jacobian = inverse / promise - 2 * np.outer(expected, expected)
    assert weights[0] == pytest.approx(expected, abs=1e-7 * np.abs(expected).max())
    exact = jacobian.T @ c.returns
    assert v[0] == pytest.approx(exact, abs=1e-10 * np.abs(exact).max())


def test_solve__a_second_layer_from_the_same_builder_is_its_own() -> None:
    c = small()
    first, second = (CvxpyPortfolio(c.problem, c.risk_aversion * factor) for factor in (1, 3))
    alpha = torch.tensor(c.alpha)
    before = first.solve(alpha)
    assert (second.solve(alpha).weights - before.weights).abs().max() > 1e-3
    assert torch.equal(first.solve(alpha).weights, before.weights)


def test_solve__says_how_it_went() -> None:
    c = small()
    (report, _) = CvxpyPortfolio(c.problem, c.risk_aversion).solve(torch.tensor(c.alpha)).reports
    assert 1e-6 < report.margin < 1
    assert report.iterations > 3
    assert max(report.gap, report.infeasibility) <= 1e-14


# Gradients that are not to be had ---------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [1e-3, 0.1, 0.5])
def test_pull_back__a_gradient_that_was_not_found_is_no_number(monkeypatch: pytest.MonkeyPatch, damping: float) -> None:
    """J with a lot added to its diagonal: refinement goes the right way, and arrives in time or does not."""
    c = HARD["five bins, tight leverage"](3)
    portfolio = CvxpyPortfolio(c.problem, c.risk_aversion)
    solved = portfolio.solve(torch.tensor(c.alpha))
    exact = portfolio.pull_back(solved, torch.tensor(c.returns))
    monkeypatch.setattr(cone_program, "_DAMPING", damping)
    found = portfolio.pull_back(solved, torch.tensor(c.returns))
    lost = found.isnan().all(1)
    assert bool(lost.any()) == (damping > 1e-3)
    assert bool(((found - exact).abs().amax(1) <= 1e-7 * exact.abs().amax(1))[~lost].all())


def test_pull_back__a_bag_whose_weights_were_not_found_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    c = small()
    portfolio = CvxpyPortfolio(c.problem, c.risk_aversion)
    good = portfolio.pull_back(portfolio.solve(torch.tensor(c.alpha)), torch.tensor(c.returns))
    alpha = torch.tensor(np.vstack([c.alpha, c.alpha[:1]]))
    alpha[1, 3] = float("nan")
    found = portfolio.solve(alpha)
    assert [report.status for report in found.reports] == ["converged", "failed", "converged"]
    pulled_back = portfolio.pull_back(found, torch.tensor(c.returns))
    assert bool(pulled_back[1].isnan().all())
    assert torch.equal(pulled_back[[0, 2]], good[[0, 0]])


def test_gradients__of_an_operators_problem_fail_bag_by_bag(monkeypatch: pytest.MonkeyPatch) -> None:
    c = small()
    monkeypatch.setattr(sys.modules["scoring.portfolio.cvxpy_layer"], "GRADIENT_TOLERANCE", 1e-30)
    found, reports = gradients(Solver(c.problem, c.risk_aversion, DEFAULT), c.alpha, c.returns)
    assert [report.status for report in reports] == ["failed"] * 2
    assert np.isnan(found).all()


@pytest.mark.parametrize("off", [0.0, 1e-11, -1e-11])
def test_solve__next_to_a_kink_a_bag_is_flagged(off: float) -> None:
    """Without factors and groups w_j = a_j/(γ d_j) up to the cap: one stock is put next to it."""
    groups, rows = np.zeros((0, 6), dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    none, specific = np.zeros((6, 0)), np.full(6, 1 / 1024)
    problem = PortfolioProblem(none, np.zeros((0, 0)), np.zeros(0), specific, groups, rows, cap=0.25, leverage=1.0)
    alpha = torch.tensor([[0.25 + off, 0.1, -0.05, 0.02, 0.03, -0.01]], dtype=torch.float64)
    (report,) = CvxpyPortfolio(problem, 1024.0).solve(alpha).reports
    assert report.status in ("degenerate", "failed")


# What can be wrong with it ---------------------------------------------------------------------------------------


ALPHA, W = cp.Parameter(N), cp.Variable(N)
RISK = cp.sum_squares(W)
SHARE, WHOLE = cp.Parameter(nonneg=True, name="share"), cp.Variable(N, integer=True)

WRONG = {
    "no triple": (lambda: cp.Problem(cp.Minimize(RISK)), "must return a cvxpy Problem"),
    "other order": (lambda: (ALPHA, cp.Problem(cp.Minimize(RISK - ALPHA @ W)), W), "must return a cvxpy Problem"),
    "short alpha": (
        lambda: (cp.Problem(cp.Minimize(RISK)), cp.Parameter(N - 1), W),
        f"parameter alpha must have one number for each of {N} stocks, found shape \\({N - 1},\\)",
    ),
    "matrix of weights": (
        lambda: (cp.Problem(cp.Minimize(RISK - ALPHA @ W)), ALPHA, cp.Variable((N, 1))),
        f"variable of the weights must have one number for each of {N} stocks",
    ),
    "another parameter": (
        lambda: (cp.Problem(cp.Minimize(SHARE * RISK - ALPHA @ W)), ALPHA, W),
        "only alpha may be a Parameter, found \\['share'\\]",
    ),
    "alpha unused": (lambda: (cp.Problem(cp.Minimize(RISK)), ALPHA, W), "does not contain the alpha"),
    "weights unused": (
        lambda: (cp.Problem(cp.Minimize(RISK - ALPHA @ W)), ALPHA, cp.Variable(N)),
        "does not contain the weights",
    ),
    "not convex": (lambda: (cp.Problem(cp.Maximize(RISK - ALPHA @ W)), ALPHA, W), "must be convex"),
    "not DPP": (
        lambda: (cp.Problem(cp.Minimize(RISK - cp.multiply(ALPHA, ALPHA) @ W)), ALPHA, W),
        "must be DPP",
    ),
    "integers": (lambda: (cp.Problem(cp.Minimize(-ALPHA @ WHOLE), [WHOLE <= 1]), ALPHA, WHOLE), "no integer variables"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_cvxpy_portfolio__says_what_is_wrong_with_a_problem(fault: str) -> None:
    built, message = WRONG[fault]
    with pytest.raises(OperatorError, match=message):
        CvxpyPortfolio(small().problem, 1.0, lambda problem, risk_aversion: built())


@pytest.mark.parametrize(
    ("limits", "message"),
    [(lambda w: [w >= 1, w <= 0], "infeasible"), (lambda w: [cp.sum(w) == 0], "unbounded")],
)
def test_solve__says_that_a_problem_has_no_solution(limits: Callable[[Any], list[Any]], message: str) -> None:
    def build(problem: PortfolioProblem, risk_aversion: float) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
        alpha, w = cp.Parameter(problem.stocks), cp.Variable(problem.stocks)
        return cp.Problem(cp.Maximize(alpha @ w), limits(w)), alpha, w

    c = small()
    with pytest.raises(OperatorError, match=message):
        CvxpyPortfolio(c.problem, 1.0, build).solve(torch.tensor(c.alpha))


def test_solve__a_bag_that_did_not_converge_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["scoring.portfolio.cvxpy_layer"].SETTINGS, "max_iter", 2)
    c = small()
    reports = CvxpyPortfolio(c.problem, c.risk_aversion).solve(torch.tensor(c.alpha)).reports
    assert {report.status for report in reports} == {"failed"}


def test_solve__an_alpha_that_is_no_number_is_flagged() -> None:
    c = small()
    alpha = torch.full((1, N), float("nan"), dtype=torch.float64)
    (report,) = CvxpyPortfolio(c.problem, c.risk_aversion).solve(alpha).reports
    assert report.status == "failed"


def test_solve__says_that_the_solver_broke_down(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = sys.modules["scoring.portfolio.cvxpy_layer"]
    whole = layer.solve_internal

    def broken(*arguments: Any, **settings: Any) -> dict[str, Any]:
        found: dict[str, Any] = whole(*arguments, **settings)
        return {**found, "x": np.full_like(found["x"], np.nan)}

    monkeypatch.setattr(layer, "solve_internal", broken)
    c = small()
    with pytest.raises(OperatorError, match="the solver failed after"):
        CvxpyPortfolio(c.problem, c.risk_aversion).solve(torch.tensor(c.alpha))
