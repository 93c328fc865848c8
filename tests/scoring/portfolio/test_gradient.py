"""The derivative of optimal weights: against finite differences of the re-solved problem, and closed forms."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from scoring.portfolio.interface import as_layer
from scoring.portfolio.problem import PortfolioProblem
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
