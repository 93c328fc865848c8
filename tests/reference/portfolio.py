"""The portfolio problem solved slowly: by a general solver, and the derivative by its textbook closed form.

    maximise  aᵀw − (γ/2) wᵀ(FΩFᵀ + diag d)w   subject to  Eᵀw = 0, |Fᵀw| ≤ e, |w| ≤ u, Σ|w| ≤ L

`weights` asks Clarabel, reads off which constraints hold with equality, and solves the linear system that these leave:
that is the exact solution, provided that Clarabel's is close to it and that it is feasible, both of which are checked.
`jacobian` is Z (ZᵀHZ)⁻¹ Zᵀ, Z a basis of the null space of those constraints. Everything is dense, one bag a time.
"""

import contextlib
import warnings
from dataclasses import dataclass

import cvxpy as cp
import numpy as np
import scipy.linalg
import torch
from cvxpylayers.torch import CvxpyLayer

from scoring.portfolio.problem import PortfolioProblem

TIGHTEST = [1e-13, 1e-11, 1e-9]
"""Clarabel's tolerances, tried in this order: it gives up where it cannot reach one."""
TOLERANCES = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
REFINEMENT = {"max_iter": 50, "abstol": 1e-16, "reltol": 1e-16}
"""Of Clarabel's linear systems; its own settings leave a gradient that is taken there wrong by 1e-7."""
SHARPER = 0.1
CLOSE = 1e-7
"""How far Clarabel's solution may be from the exact one, relative to the largest weight."""


@dataclass(frozen=True)
class Active:
    """The constraints that hold with equality: rows @ w = values."""

    rows: np.ndarray
    values: np.ndarray


def columns(problem: PortfolioProblem) -> np.ndarray:
    """E, one column a neutrality row."""
    found = np.zeros((len(problem.specific), len(problem.rows)))
    for column, (partition, group) in enumerate(problem.rows):
        for stock, its_group in enumerate(problem.groups[partition]):
            found[stock, column] = 1.0 if its_group == group else 0.0
    return found


def risk(problem: PortfolioProblem) -> np.ndarray:
    """The covariance of the stocks."""
    return problem.factors @ problem.covariance @ problem.factors.T + np.diag(problem.specific)


def by_solver(
    problem: PortfolioProblem, gamma: float, alpha: np.ndarray, solver: str = "CLARABEL"
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The weights as a general solver finds them, and by constraint the multipliers.

    The solver sees x = w n/L and alpha over its mean, numbers near 1; the multipliers are in those units too.
    """
    n, scale = problem.stocks, float(np.abs(alpha).mean()) or 1.0
    unit = problem.leverage / n
    x, long, short = cp.Variable(n), cp.Variable(n), cp.Variable(n)
    spread = np.linalg.cholesky(risk(problem)).T * np.sqrt(gamma * unit / scale)
    bounded = np.isfinite(problem.bounds)
    exposure, bound = problem.factors[:, bounded].T * np.sqrt(n), problem.bounds[bounded] * np.sqrt(n) / unit
    limits = {
        "neutral": columns(problem).T @ x == 0,
        "above": exposure @ x <= bound,
        "below": -exposure @ x <= bound,
        "cap": x <= problem.cap / unit,
        "floor": -x <= problem.cap / unit,
        "leverage": cp.sum(long + short) <= n,
        "long": -long <= 0,
        "short": -short <= 0,
    }
    goal = cp.Minimize(0.5 * cp.sum_squares(spread @ x) - (alpha / scale) @ x)
    kept = {name: limit for name, limit in limits.items() if limit.size}
    asked = cp.Problem(goal, [*kept.values(), x == long - short])
    if solver == "OSQP":
        asked.solve(solver=solver, eps_abs=1e-10, eps_rel=1e-10, max_iter=400_000)
    for tolerance in TIGHTEST if solver == "CLARABEL" else []:
        with contextlib.suppress(cp.SolverError):
            asked.solve(solver=solver, **dict.fromkeys(TOLERANCES, tolerance))
        if asked.status == "optimal":
            break
    assert asked.status == "optimal", asked.status
    return x.value * unit, {name: limit.dual_value for name, limit in kept.items()}


def weights(problem: PortfolioProblem, gamma: float, alpha: np.ndarray) -> np.ndarray:
    """w*, to rounding."""
    return solution(problem, gamma, alpha)[0]


def solution(problem: PortfolioProblem, gamma: float, alpha: np.ndarray) -> tuple[np.ndarray, Active]:
    """w* to rounding, and the constraints it holds with equality."""
    near, multipliers = by_solver(problem, gamma, alpha)
    active = _active(problem, near, multipliers)
    basis = scipy.linalg.null_space(active.rows) if len(active.rows) else np.eye(problem.stocks)
    start = np.linalg.lstsq(active.rows, active.values, rcond=None)[0] if len(active.rows) else np.zeros_like(near)
    hessian = gamma * risk(problem)
    step = np.linalg.solve(basis.T @ hessian @ basis, basis.T @ (alpha - hessian @ start))
    exact = start + basis @ step
    largest = np.abs(exact).max()
    assert np.abs(exact - near).max() <= CLOSE * largest, np.abs(exact - near).max() / largest
    assert _violation(problem, exact) <= 1e-11, _violation(problem, exact)
    return exact, active


def _active(problem: PortfolioProblem, near: np.ndarray, multipliers: dict[str, np.ndarray]) -> Active:
    """A limit holds with equality where its multiplier is larger than what is left of it, both in units near 1."""
    n = problem.stocks
    unit = problem.leverage / n
    bounded = np.flatnonzero(np.isfinite(problem.bounds))
    exposures = problem.factors[:, bounded].T @ near
    rows, values = [*columns(problem).T], [0.0] * len(problem.rows)
    for sign, name in ((1, "above"), (-1, "below")):
        for place, factor in enumerate(bounded):
            left = (problem.bounds[factor] - sign * exposures[place]) * np.sqrt(n) / unit
            if multipliers[name][place] > left:
                rows.append(sign * problem.factors[:, factor])
                values.append(problem.bounds[factor])
    for sign, name in ((1, "cap"), (-1, "floor")):
        for stock in np.flatnonzero(multipliers[name] > (problem.cap - sign * near) / unit):
            rows.append(sign * np.eye(n)[stock])
            values.append(problem.cap)
    if multipliers["leverage"] > (problem.leverage - np.abs(near).sum()) / unit:
        at_zero = (multipliers["long"] > np.abs(near) / unit) & (multipliers["short"] > np.abs(near) / unit)
        rows += [np.eye(n)[stock] for stock in np.flatnonzero(at_zero)]
        rows.append(np.where(at_zero, 0.0, np.sign(near)))
        values += [0.0] * int(at_zero.sum()) + [problem.leverage]
    return Active(np.array(rows).reshape(len(rows), n), np.array(values))


def _violation(problem: PortfolioProblem, w: np.ndarray) -> float:
    """The largest violation of a limit, each as a share of its own size."""
    violations = [np.abs(columns(problem).T @ w) / problem.leverage]
    violations.append(np.abs(problem.factors.T @ w) / problem.bounds - 1)
    violations.append(np.abs(w) / problem.cap - 1)
    violations.append(np.array([np.abs(w).sum() / problem.leverage - 1]))
    return float(np.concatenate(violations).max())


def jacobian(problem: PortfolioProblem, gamma: float, alpha: np.ndarray) -> np.ndarray:
    """∂w*/∂a = Z (ZᵀHZ)⁻¹ Zᵀ; symmetric, so that it is its own transpose."""
    active = solution(problem, gamma, alpha)[1]
    basis = scipy.linalg.null_space(active.rows) if len(active.rows) else np.eye(problem.stocks)
    return basis @ np.linalg.solve(basis.T @ (gamma * risk(problem)) @ basis, basis.T)


def slope(problem: PortfolioProblem, gamma: float, alpha: np.ndarray, returns: np.ndarray, along: np.ndarray) -> float:
    """d(rᵀw*)/da along a direction: the problem solved again on both sides, 1e-6 away."""
    step = 1e-6
    after = weights(problem, gamma, alpha + step * along)
    before = weights(problem, gamma, alpha - step * along)
    return float(returns @ (after - before) / (2 * step))


def gradient_by_cvxpylayers(
    problem: PortfolioProblem, gamma: float, alpha: np.ndarray, returns: np.ndarray
) -> np.ndarray:
    """(∂w*/∂a)ᵀ r from cvxpylayers' own diffcp backend, in its exact mode.

    diffcp differentiates where Clarabel stops. There the risk, a second-order cone |(1 − t, 2z)| ≤ 1 + t, leaves the
    weights wrong by the root of what the objective is: by 1e-8 to 1e-5, whatever its tolerances, and the gradient by up
    to 2e-6. So it is asked for the step h from Clarabel's own solution, x = near + h/10: the same weights and
    derivative in other coordinates, in which the cone is ten times as sharp. (A hundred times, and its slacks are so
    large that it loses them.) The upstream gradient is near 1, as diffcp takes one below 1e-8 for 0.
    """
    n, scale = problem.stocks, float(np.abs(alpha).mean())
    unit = problem.leverage / n
    near = by_solver(problem, gamma, alpha)[0] / unit
    a, h = cp.Parameter(n), cp.Variable(n)
    spread = np.linalg.cholesky(risk(problem)).T * np.sqrt(gamma * unit / scale)
    x = near / SHARPER + h  # in units of unit · SHARPER
    bounded, whole = np.isfinite(problem.bounds), unit * SHARPER
    limits = [columns(problem).T @ x == 0] if len(problem.rows) else []
    limits += [cp.abs(problem.factors[:, bounded].T @ x) <= problem.bounds[bounded] / whole] if bounded.any() else []
    limits += [cp.abs(x) <= problem.cap / whole, cp.norm1(x) <= problem.leverage / whole]
    rising = (a - spread.T @ (spread @ near)) / SHARPER
    asked = cp.Problem(cp.Maximize(rising @ h - 0.5 * cp.sum_squares(spread @ h)), limits)
    refinement = {f"iterative_refinement_{name}": value for name, value in REFINEMENT.items()}
    settings = {"solve_method": "Clarabel", "mode": "dense", **dict.fromkeys(TOLERANCES, 1e-14), **refinement}
    layer = CvxpyLayer(asked, parameters=[a], variables=[h], solver="DIFFCP", solver_args=settings)
    at = torch.tensor(alpha / scale, requires_grad=True)
    with warnings.catch_warnings():  # cvxpylayers 1.2 copies tensors in a way that numpy 2.4 deprecates
        warnings.filterwarnings("ignore", message="__array__", category=DeprecationWarning)
        (found,) = layer(at)
        upstream = torch.tensor(returns / np.abs(returns).max())
        (gradient,) = torch.autograd.grad(found, at, upstream)
    return gradient.numpy() * whole / scale * np.abs(returns).max()
