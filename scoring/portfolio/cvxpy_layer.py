"""Any portfolio problem that an operator writes with cvxpy, behind the same interface as the structured solver.

    CvxpyPortfolio(problem, risk_aversion, build=load_builder("my_fund.portfolio:build"))

The problem goes through cvxpylayers: it is brought to a cone program once, solved by Clarabel for each alpha, and
differentiated by diffcp. That is the general case, hundreds of times slower than `FactorPortfolio`, and its gradient is
as good as the problem is scaled: see `default_problem`.

The failure guarded against is a number that nobody solved for. diffcp hands back whatever Clarabel ended with,
infeasible or not, without a word; so the solver here is a `SolverInterface` of our own around the same diffcp, which
keeps the status, measures the optimality conditions itself and takes one more step to meet them. diffcp takes an
upstream gradient below 1e-8 for zero, so it is scaled. A coefficient that is exactly 0 would be dropped from the
program and lose its derivative, so it is kept as a tiny number.

References:
    Agrawal, Barratt, Boyd, Busseti, Moursi: Differentiating through a cone program (2019), section 3.
"""

# ruff: noqa: ARG002, N803  # the names and arguments of a SolverInterface are cvxpylayers'

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cvxpy as cp
import numpy as np
import scipy.sparse as sparse
import torch
from cvxpy.reductions.solvers.conic_solvers.scs_conif import dims_to_solver_dict
from cvxpylayers.interfaces.base import SolverInterface
from cvxpylayers.torch.cvxpylayer import CvxpyLayer
from diffcp.cone_program import solve_and_derivative_internal  # type: ignore[import-untyped]
from diffcp.cones import parse_cone_dict  # type: ignore[import-untyped]
from diffcp.cones import pi as project
from jaxtyping import Float64
from torch import Tensor

from scoring.errors import OperatorError, nearest
from scoring.portfolio import default_problem
from scoring.portfolio.interface import Solved
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.report import BagReport

Build = Callable[[PortfolioProblem, float], tuple[cp.Problem, cp.Parameter, cp.Variable]]
"""An operator's problem: (the round's arrays, risk aversion) → a fresh problem, its parameter alpha, the weights."""

Mode = Literal["dense", "lsqr", "lsmr"]

SETTINGS = {
    **dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-13),
    **dict.fromkeys(("iterative_refinement_abstol", "iterative_refinement_reltol"), 1e-16),
    "iterative_refinement_max_iter": 50,
    "max_iter": 200,
}
"""As far as Clarabel gets: the gradient is taken where it stops, and at its own 1e-8 an active set can be wrong."""

TOLERANCE = 1e-8
"""Relative residual of the optimality conditions above which a bag counts as failed."""

_TINY = 1e-100


class CvxpyPortfolio:
    """A `Portfolio` for any problem that cvxpylayers can differentiate; on the CPU, one bag after the other."""

    def __init__(
        self,
        problem: PortfolioProblem,
        risk_aversion: float,
        build: Build = default_problem.build,
        mode: Mode = "lsqr",
    ) -> None:
        """Builds the problem and brings it to its cone program.

        Args:
            problem: the round's arrays, handed to `build`.
            risk_aversion: γ, handed to `build`.
            build: see `load_builder`.
            mode: how diffcp solves for the gradient. Of the default problem `lsqr` is wrong by 1e-4 to 1e-3, `lsmr` by
                1e-6 to 1e-5 and slower, `dense` by about as much and for some hundred stocks only.

        Raises:
            OperatorError: the builder returned something else than a convex DPP problem with one parameter and one
                variable of one number a stock.
        """
        asked, alpha, weights = _checked(build(problem, risk_aversion), problem.stocks)
        self._solver = _Clarabel(mode)
        try:
            self._layer = CvxpyLayer(asked, parameters=[alpha], variables=[weights], solver=self._solver)
        except (ValueError, NotImplementedError, cp.SolverError) as error:
            raise OperatorError(f"portfolio: cvxpylayers cannot take the problem: {error}") from error

    def solve(self, alpha: Float64[Tensor, "bag stock"]) -> Solved:
        """Returns the optimal weights of every bag.

        Raises:
            OperatorError: the problem has no solution for a bag's alpha, or the solver broke down.
        """
        leaf = alpha.detach().cpu().requires_grad_()
        with torch.enable_grad():
            (weights,) = self._layer(leaf)
        return Solved(weights.detach().to(alpha.device), tuple(self._solver.reports), (leaf, weights))

    def pull_back(
        self, solved: Solved, upstream: Float64[Tensor, " stock"] | Float64[Tensor, "bag stock"]
    ) -> Float64[Tensor, "bag stock"]:
        """Returns (∂w*/∂a)ᵀ upstream of every bag."""
        leaf, weights = solved.state
        above = upstream.detach().cpu().expand_as(weights)
        (gradient,) = torch.autograd.grad(weights, leaf, above, retain_graph=True)
        return gradient.to(solved.weights.device)


def load_builder(name: str) -> Build:
    """Returns the function that `module:function` names.

    Raises:
        OperatorError: the name has another form; the module cannot be imported; it has no such function.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise OperatorError(f"portfolio: the problem must be named as module:function, found {name!r}")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the operator's module may raise anything
        raise OperatorError(
            f"portfolio: cannot import the module {module_name!r} of {name!r}: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        meant = nearest(function_name, [known for known, value in vars(module).items() if callable(value)])
        raise OperatorError(f"portfolio: the module {module_name!r} has no function {function_name!r}{meant}")
    found: Build = function
    return found


def _checked(built: Any, stocks: int) -> tuple[cp.Problem, cp.Parameter, cp.Variable]:
    """Returns what a builder returned, provided that it can be solved and differentiated."""
    kinds = (cp.Problem, cp.Parameter, cp.Variable)
    if not (isinstance(built, tuple) and len(built) == 3 and all(map(isinstance, built, kinds))):
        raise OperatorError(
            "portfolio: the builder must return a cvxpy Problem, its Parameter alpha and its Variable, the weights, "
            f"found {type(built).__name__}"
        )
    problem, alpha, weights = built
    for role, vector in (("parameter alpha", alpha), ("variable of the weights", weights)):
        if vector.shape != (stocks,):
            raise OperatorError(
                f"portfolio: the {role} must have one number for each of {stocks} stocks, found shape {vector.shape}"
            )
    others = [parameter.name() for parameter in problem.parameters() if parameter is not alpha]
    if others:
        raise OperatorError(f"portfolio: only alpha may be a Parameter, found {others}: make them constants")
    for role, vector, known in (("alpha", alpha, problem.parameters()), ("weights", weights, problem.variables())):
        if not any(vector is member for member in known):
            raise OperatorError(f"portfolio: the problem does not contain the {role} that the builder returned")
    if not problem.is_dcp():
        raise OperatorError("portfolio: the problem must be convex by the rules of cvxpy (DCP); it is not")
    if not problem.is_dpp():
        raise OperatorError("portfolio: the problem must be DPP (cvxpy: disciplined parametrized programming)")
    if problem.is_mixed_integer():
        raise OperatorError("portfolio: the problem must have no integer variables: it has no gradient")
    return problem, alpha, weights


class _Clarabel(SolverInterface):
    """diffcp with Clarabel, one bag at a time, that says how it went.

    cvxpylayers hands over the coefficients of a cone program as it stores them: those of −A and b side by side, column
    by column.
    """

    canon_solver = "DIFFCP"

    def __init__(self, mode: Mode) -> None:
        self.reports: list[BagReport] = []
        self._mode = mode

    def setup(self, ctx: Any) -> None:
        """Keeps where the coefficients stand."""
        self._structure = ctx.reduced_A.problem_data_index

    def set_params(self, params: list[np.ndarray]) -> None:
        """Begins a new batch."""
        self.reports = []

    def solve_numpy(
        self, P: Any, q: np.ndarray, A: np.ndarray, dims: Any, solver_args: dict[str, Any], needs_grad: bool
    ) -> tuple[np.ndarray, np.ndarray, Callable[..., Any]]:
        """Solves one bag."""
        rows, starts, shape = self._structure
        both = sparse.csc_matrix((np.where(A == 0, _TINY, A), rows, starts), shape=shape)
        program = _Program(-both[:, :-1], both[:, -1].toarray().ravel(), q[:-1], dims_to_solver_dict(dims))  # type: ignore[no-untyped-call]
        found = solve_and_derivative_internal(
            program.matrix, program.offset, program.cost, program.cones,
            solve_method="Clarabel", mode=self._mode, **SETTINGS,
        )  # fmt: skip
        _check(found)
        point = _refined(program, _point(program, found["x"], found["y"] - found["s"]), found["D"])
        self.reports.append(_report(program, point, found["info"]["iter"]))
        return point.primal, point.dual, found["DT"]

    def derivative_numpy(
        self, dprimal: np.ndarray, ddual: np.ndarray, saved_state: Callable[..., Any]
    ) -> tuple[None, np.ndarray, np.ndarray]:
        """Pulls a gradient back to the coefficients."""
        rows, starts, shape = self._structure
        scale = max(float(np.abs(dprimal).max()), float(np.abs(ddual).max()))
        if scale == 0:
            return None, np.zeros(dprimal.size + 1), np.zeros(len(rows))
        of_matrix, of_offset, of_cost = saved_state(dprimal / scale, ddual / scale, np.zeros_like(ddual))
        both = sparse.hstack([-of_matrix, of_offset[:, None]]).tocsr()
        coefficients = np.asarray(both[rows, np.repeat(np.arange(shape[1]), np.diff(starts))]).ravel()
        return None, scale * np.append(of_cost, 0.0), scale * coefficients


@dataclass(frozen=True, slots=True)
class _Program:
    """Minimise costᵀx subject to matrix @ x + s = offset, s in the cones."""

    matrix: sparse.csc_matrix
    offset: np.ndarray
    cost: np.ndarray
    cones: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Point:
    """A primal and a dual point, exactly complementary and inside their cones, and by how much the rest is wrong."""

    primal: np.ndarray
    dual: np.ndarray
    slack: np.ndarray
    lacking_offset: np.ndarray
    lacking_cost: np.ndarray


def _point(program: _Program, primal: np.ndarray, apart: np.ndarray) -> _Point:
    """Returns the point whose dual less slack is `apart`: what the cones leave of it on either side."""
    dual = project(apart, parse_cone_dict(program.cones), dual=True)
    slack = dual - apart
    lacking = program.offset - program.matrix @ primal - slack
    return _Point(primal, dual, slack, lacking, program.cost + program.matrix.T @ dual)


def _errors(program: _Program, point: _Point) -> tuple[float, float]:
    """Returns by how much the primal and the dual equations are wrong, relative to their right-hand sides."""
    primal = np.abs(point.lacking_offset).max() / (1 + np.abs(program.offset).max())
    return float(primal), float(np.abs(point.lacking_cost).max() / (1 + np.abs(program.cost).max()))


def _refined(program: _Program, point: _Point, derivative: Callable[..., Any]) -> _Point:
    """Takes one Newton step: the point solves a program near by, and its own derivative leads to the one asked for.

    Clarabel leaves the weights of a program with second-order cones wrong by 1e-6; the step makes that 1e-12.
    """
    scale = max(float(np.abs(point.lacking_offset).max()), float(np.abs(point.lacking_cost).max()))
    if scale == 0:
        return point
    still = sparse.csc_matrix(program.matrix.shape)
    primal, dual, slack = derivative(still, point.lacking_offset / scale, point.lacking_cost / scale)
    apart = point.dual - point.slack + scale * (dual - slack)
    moved = _point(program, point.primal + scale * primal, apart)
    return min(point, moved, key=lambda either: max(_errors(program, either)))


def _check(found: dict[str, Any]) -> None:
    status, iterations = found["info"]["status"], found["info"]["iter"]
    if status.startswith("Infeasible"):
        raise OperatorError("portfolio: the problem is infeasible: no weights meet all its limits")
    if status.startswith("Unbounded"):
        raise OperatorError("portfolio: the problem is unbounded: its limits allow any profit")
    if not all(np.isfinite(found[key]).all() for key in "xys"):
        raise OperatorError(f"portfolio: the solver failed after {iterations} iterations")


def _report(program: _Program, point: _Point, iterations: int) -> BagReport:
    """Says how one bag went. A program of any form tells neither its kinks nor its leverage: the margin is unknown."""
    value = float(program.cost @ point.primal)
    gap = abs(value + float(program.offset @ point.dual)) / (1 + abs(value))
    primal, dual = _errors(program, point)
    good = all(error <= TOLERANCE for error in (gap, primal, dual))  # NaN is not
    return BagReport("converged" if good else "failed", int(iterations), gap, primal, float("nan"))
