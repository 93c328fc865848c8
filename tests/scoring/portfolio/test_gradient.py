"""The derivative of optimal weights: against finite differences of the re-solved problem, and closed forms."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch

from scoring.portfolio import gradient as refined
from scoring.portfolio.interface import as_layer
from scoring.portfolio.problem import PortfolioProblem, auto_risk_aversion
from scoring.portfolio.schur import active_matrix, factorise
from scoring.portfolio.solvers import Solver, gradients
from tests.scoring.portfolio.test_newton import (
    Setting,
    duplicated,
    make_alphas,
    make_problem,
    single_stock_groups,
    solve,
)


@pytest.mark.parametrize("times", [0.3, 1.0, 5.0], ids=["tight leverage", "auto", "slack leverage"])
@pytest.mark.parametrize("cap", [1.5, 5.0])
def test_as_layer__passes_gradcheck(cap: float, times: float) -> None:
    problem = make_problem(Setting(stocks=40, factors=4, groups=3, cap=cap))
    alphas = make_alphas(40, 1)
    portfolio, solved = solve(problem, alphas, times)
    assert min(report.margin for report in solved.reports) > 1e-4
    alpha = torch.tensor(alphas, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: as_layer(portfolio, a), (alpha,), eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("times", [0.1, 1.0], ids=["tight leverage", "auto"])
@pytest.mark.parametrize(
    "change", [None, duplicated, single_stock_groups], ids=["plain", "duplicated", "single stocks"]
)
def test_pull_back__equals_central_differences(
    change: Callable[[PortfolioProblem], PortfolioProblem] | None, times: float
) -> None:
    problem = make_problem(Setting(1000, 40, 30))
    problem = problem if change is None else change(problem)
    alphas = make_alphas(1000, 5)
    portfolio, solved = solve(problem, alphas, times)
    draw = np.random.default_rng(1)
    returns, direction = torch.tensor(draw.standard_normal(1000)), torch.tensor(draw.standard_normal(1000))
    gradient = portfolio.pull_back(solved, returns)
    step = 1e-7
    up = portfolio.solve(torch.as_tensor(alphas) + step * direction).weights
    down = portfolio.solve(torch.as_tensor(alphas) - step * direction).weights
    expected = ((up - down) @ returns) / (2 * step)
    size = gradient.norm(dim=1) * direction.norm() / np.sqrt(1000)
    assert ((gradient @ direction - expected).abs() <= 1e-6 * size).all()


def test_pull_back__is_linear_and_symmetric() -> None:
    problem, alphas = make_problem(Setting(300, 20, 10)), make_alphas(300, 3)
    portfolio, solved = solve(problem, alphas)
    draw = np.random.default_rng(2)
    left, right = torch.tensor(draw.standard_normal((3, 300))), torch.tensor(draw.standard_normal((3, 300)))
    first, second = portfolio.pull_back(solved, left), portfolio.pull_back(solved, right)
    size = float(first.abs().max())
    torch.testing.assert_close(portfolio.pull_back(solved, 3 * left), 3 * first, rtol=1e-12, atol=1e-12 * size)
    torch.testing.assert_close((first * right).sum(1), (second * left).sum(1), rtol=1e-10, atol=1e-11 * size)


def test_pull_back__stays_in_the_limits_that_bind() -> None:
    problem, alphas = make_problem(Setting(300, 20, 10)), make_alphas(300, 3)
    portfolio, solved = solve(problem, alphas)
    returns = torch.tensor(np.random.default_rng(3).standard_normal(300))
    gradient = portfolio.pull_back(solved, returns).numpy()
    size = np.abs(gradient).max()
    assert np.abs(gradient @ problem.neutral_columns()).max() <= 1e-12 * size
    assert np.abs((gradient * np.sign(solved.weights.numpy())).sum(1)).max() <= 1e-12 * size
    at_bound = np.isclose(np.abs(solved.weights.numpy() @ problem.factors), problem.bounds, rtol=1e-9)
    assert at_bound.any()
    assert np.abs((gradient @ problem.factors)[at_bound]).max() <= 1e-11 * size


def test_pull_back__without_limits_is_the_projected_inverse_risk() -> None:
    # J = Z (ZᵀHZ)⁻¹ Zᵀ, Z a basis of what is neutral, H = γΣ.
    problem = make_problem(Setting(60, 5, 4, cap=1e6, bound=np.inf, leverage=1.0))
    alphas = make_alphas(60, 2)
    portfolio, solved = solve(problem, alphas, 10.0)
    gamma = float(np.abs(alphas[0] / problem.specific).sum() / (2 * problem.leverage)) * 10
    hessian = gamma * (problem.factors @ problem.covariance @ problem.factors.T + np.diag(problem.specific))
    basis = np.linalg.qr(problem.neutral_columns(), mode="complete")[0][:, 4:]
    expected = basis @ np.linalg.solve(basis.T @ hessian @ basis, basis.T)
    returns = np.random.default_rng(4).standard_normal(60)
    np.testing.assert_allclose(solved.weights.numpy(), alphas @ expected, rtol=0, atol=1e-14)
    pulled = portfolio.pull_back(solved, torch.tensor(returns)).numpy()
    np.testing.assert_allclose(
        pulled, np.stack([expected @ returns] * 2), rtol=1e-10, atol=1e-12 * np.abs(pulled).max()
    )


# Gradients that were not found ------------------------------------------------------------------------------------


def test_pull_back__a_matrix_that_refinement_cannot_mend_gives_no_number() -> None:
    """A matrix with its diagonal doubled: each refinement takes away about half of the error, and there are eight."""
    problem, alphas = make_problem(Setting(300, 20, 10)), make_alphas(300, 3)
    portfolio, solved = solve(problem, alphas)
    returns = torch.tensor(np.random.default_rng(6).standard_normal(300))
    exact = portfolio.pull_back(solved, returns)
    active, structure = solved.state.active, portfolio._structure
    damping = torch.tensor([1e-13, 1.0, 1e-6], dtype=torch.float64)
    damped = factorise(structure, active, active_matrix(structure, active), damping)
    found = portfolio.pull_back(replace(solved, state=damped), returns)
    assert found.isnan().all(1).tolist() == [False, True, False]
    for bag in (0, 2):
        torch.testing.assert_close(found[bag], exact[bag], rtol=0, atol=1e-12 * float(exact[bag].abs().max()))


def test_gradients__a_bag_whose_gradient_was_not_found_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, alphas = make_problem(Setting(300, 20, 10)), make_alphas(300, 3)
    returns = np.random.default_rng(6).standard_normal(300)
    solver = Solver(problem, auto_risk_aversion(alphas[0], problem))
    found, reports = gradients(solver, alphas, returns)
    assert np.isfinite(found).all()
    assert [report.status for report in reports] == ["converged"] * 3
    monkeypatch.setattr(refined, "TOLERANCE", 1e-19)
    found, reports = gradients(solver, alphas, returns)
    assert np.isnan(found).all()
    assert [report.status for report in reports] == ["failed"] * 3


def test_pull_back__an_upstream_that_the_portfolio_is_neutral_to_already_is_exact_enough() -> None:
    """Its conditions hold to rounding before the first step, so that a share of them would be no measure."""
    problem, alphas = make_problem(Setting(300, 20, 10, cap=1e6, bound=np.inf)), make_alphas(300, 2)
    portfolio, solved = solve(problem, alphas, 10.0)
    gamma = 10 * auto_risk_aversion(alphas[0], problem)
    basis = scipy.linalg.null_space(np.hstack([problem.neutral_columns(), problem.factors]).T)
    inside = problem.specific * (basis @ np.random.default_rng(7).standard_normal(basis.shape[1]))
    found = portfolio.pull_back(solved, torch.tensor(inside)).numpy()
    expected = inside / (gamma * problem.specific)
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


# Nearly linear programmes -----------------------------------------------------------------------------------------


def closed_form(problem: PortfolioProblem, gamma: float, weights: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Z (ZᵀHZ)⁻¹ Zᵀ r, Z a basis of what the limits that hold with equality leave; read off the weights."""
    unit = problem.leverage / problem.stocks
    sizes, exposures = np.abs(weights), problem.factors.T @ weights
    still = (sizes < 1e-9 * unit) | (sizes > problem.cap - 1e-9 * unit)
    held = np.abs(exposures) > problem.bounds * (1 - 1e-9)
    rows = [problem.neutral_columns(), problem.factors[:, held], np.eye(problem.stocks)[:, still]]
    basis = scipy.linalg.null_space(np.column_stack([*rows, np.sign(weights)]).T)
    hessian = gamma * (problem.factors @ problem.covariance @ problem.factors.T + np.diag(problem.specific))
    return np.asarray(basis @ np.linalg.solve(basis.T @ hessian @ basis, basis.T @ returns))


@pytest.mark.parametrize("times", [1e-4, 1e-6, 1e-8])
def test_solve__with_hardly_any_aversion_is_as_exact_as_ever(times: float) -> None:
    """Alpha is then 1/times as large as what a weight is off by, and a hundredth of a bag's stocks are free."""
    problem, alphas = make_problem(Setting(200, 12, 8)), make_alphas(200, 12)
    portfolio, solved = solve(problem, alphas, times)
    assert [report.status for report in solved.reports] == ["converged"] * 12
    assert max(report.infeasibility for report in solved.reports) <= 1e-14
    weights = solved.weights.numpy()
    assert np.abs(weights @ problem.neutral_columns()).max() <= 1e-14
    assert np.abs(weights).sum(1) == pytest.approx(1, abs=1e-13)
    returns = np.random.default_rng(8).standard_normal(200)
    found = portfolio.pull_back(solved, torch.tensor(returns)).numpy()
    gamma = times * auto_risk_aversion(alphas[0], problem)
    natural = np.abs(returns / problem.specific).max() / gamma
    for bag in range(12):
        expected = closed_form(problem, gamma, weights[bag], returns)
        assert np.abs(found[bag] - expected).max() <= 1e-9 * natural
