"""An operator's own problem: what `CvxpyPortfolio` makes of it, and every way in which it can be wrong."""

import sys
import types
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch

from scoring.errors import OperatorError
from scoring.portfolio import default_problem
from scoring.portfolio.cvxpy_layer import CvxpyPortfolio, load_builder
from scoring.portfolio.problem import PortfolioProblem
from tests.reference import portfolio as reference
from tests.scoring.portfolio.problems import Case, Shape, case

N = 12
MODULE = "operators_own_portfolio"


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


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


def pulled(c: Case, build: Callable[..., Any], alpha: np.ndarray, mode: Any = "dense") -> tuple[np.ndarray, np.ndarray]:
    portfolio = CvxpyPortfolio(c.problem, c.risk_aversion, build, mode)
    solved = portfolio.solve(torch.tensor(alpha))
    assert [report.status for report in solved.reports] == ["converged"] * len(alpha)
    return solved.weights.numpy(), portfolio.pull_back(solved, torch.tensor(c.returns)).numpy()


# What it makes of a problem --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "tolerance"), [("dense", 1e-5), ("lsmr", 1e-5), ("lsqr", 1e-3)])
def test_pull_back__is_as_exact_as_its_mode(mode: str, tolerance: float) -> None:
    c = case(12, Shape(100, 8, 5, 2, bags=1))
    if mode == "dense":
        c = case(12, Shape(50, 8, 5, 2, bags=1))
    weights, v = pulled(c, default_problem.build, c.alpha, mode)
    exact = reference.jacobian(c.problem, c.risk_aversion, c.alpha[0]) @ c.returns
    assert np.abs(v[0] - exact).max() <= tolerance * np.abs(exact).max()
    expected = reference.weights(c.problem, c.risk_aversion, c.alpha[0])
    assert np.abs(weights[0] - expected).max() <= 1e-7 * np.abs(expected).max()


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
    """w* = Σ⁻¹a / aᵀΣ⁻¹a. diffcp drops coefficients that are 0, and with them their derivative."""
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
    assert v[0] == pytest.approx(exact, abs=1e-5 * np.abs(exact).max())


def test_solve__a_second_layer_from_the_same_builder_is_its_own() -> None:
    c = small()
    first, second = (CvxpyPortfolio(c.problem, c.risk_aversion * factor) for factor in (1, 3))
    alpha = torch.tensor(c.alpha)
    before = first.solve(alpha)
    assert (second.solve(alpha).weights - before.weights).abs().max() > 1e-3
    assert torch.equal(first.solve(alpha).weights, before.weights)


def test_solve__says_what_it_does_not_know() -> None:
    c = small()
    (report, _) = CvxpyPortfolio(c.problem, c.risk_aversion).solve(torch.tensor(c.alpha)).reports
    assert np.isnan(report.margin)
    assert report.iterations > 3
    assert max(report.gap, report.infeasibility) <= 1e-8


# What can be wrong with it ---------------------------------------------------------------------------------------


def test_load_builder__finds_the_default_problem() -> None:
    assert load_builder("scoring.portfolio.default_problem:build") is default_problem.build


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("build", "module:function, found 'build'"),
        (":build", "module:function"),
        (f"{MODULE}:", "module:function"),
        ("no_such_module_anywhere:build", "cannot import the module 'no_such_module_anywhere'"),
        (f"{MODULE}:biuld", "no function 'biuld' \\(did you mean 'build'\\?\\)"),
        (f"{MODULE}:number", "no function 'number'"),
    ],
)
def test_load_builder__says_what_is_wrong_with_a_name(operator: types.ModuleType, name: str, message: str) -> None:
    operator.build, operator.number = limited_risk, 3  # type: ignore[attr-defined]
    with pytest.raises(OperatorError, match=message):
        load_builder(name)


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
    whole = layer.solve_and_derivative_internal  # type: ignore[attr-defined]

    def broken(*arguments: Any, **settings: Any) -> dict[str, Any]:
        found: dict[str, Any] = whole(*arguments, **settings)
        return {**found, "x": np.full_like(found["x"], np.nan)}

    monkeypatch.setattr(layer, "solve_and_derivative_internal", broken)
    c = small()
    with pytest.raises(OperatorError, match="the solver failed after"):
        CvxpyPortfolio(c.problem, c.risk_aversion).solve(torch.tensor(c.alpha))
