"""Any portfolio problem that an operator writes with cvxpy, behind the same interface as the structured solver.

    CvxpyPortfolio(problem, risk_aversion, build=load_builder("my_fund.portfolio:build"))

The problem goes through cvxpylayers: it is brought to a cone program once, and solved by Clarabel for each alpha. That
is the general case, hundreds of times slower than `FactorPortfolio`: with 70 factors 1.3 s a bag at 1 000 stocks, and
11 s at 5 000.

The failure guarded against is a number that nobody solved for. diffcp, the usual way from there, hands back whatever
Clarabel ended with, infeasible or not, and a gradient that is taken next to the solution, by an iteration that may end
too early; neither is said. On the hard settings of the tests its `lsqr` was wrong by up to 4e-5 of the gradient's
natural size, and `dense` is by as much as Clarabel stops short. So the solver here is a `SolverInterface` of our own:
it goes on to where the optimality conditions hold to rounding (`cone_program`), differentiates them there by a sparse
factorisation, and measures what is left of either. On the same settings the gradient is right to 1e-13. A bag on a kink
is `degenerate`; one whose weights or gradient were not found is `failed`, and its gradient NaN.

References:
    Agrawal, Barratt, Boyd, Busseti, Moursi: Differentiating through a cone program (2019), section 3.
"""

# ruff: noqa: ARG002, N803  # the names and arguments of a SolverInterface are cvxpylayers'

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sparse
import torch
from cvxpy.reductions.solvers.conic_solvers.scs_conif import dims_to_solver_dict
from cvxpylayers.interfaces.base import SolverInterface
from cvxpylayers.torch.cvxpylayer import CvxpyLayer
from diffcp.cone_program import solve_internal  # type: ignore[import-untyped]  # diffcp has no stubs
from jaxtyping import Float64
from torch import Tensor

from scoring.errors import OperatorError
from scoring.portfolio import default_problem
from scoring.portfolio.cone_program import Point, Program, System, errors, point_at, refined
from scoring.portfolio.interface import Solved
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.report import BagReport, BagStatus

_State = tuple[Program, Point] | None

Build = Callable[[PortfolioProblem, float], tuple[cp.Problem, cp.Parameter, cp.Variable]]
"""An operator's problem: (the round's arrays, risk aversion) → a fresh problem, its parameter alpha, the weights."""

SETTINGS = {
    **dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-13),
    **dict.fromkeys(("iterative_refinement_abstol", "iterative_refinement_reltol"), 1e-16),
    "iterative_refinement_max_iter": 50,
    "max_iter": 200,
}
"""As far as Clarabel gets: Newton steps go on from where it stops, and need the right active set to begin with."""

TOLERANCE = 1e-10
"""Relative residual of the optimality conditions above which a bag counts as failed; 1e-15 is usual."""

GRADIENT_TOLERANCE = 1e-8
"""A gradient counts as not found where its equations lack more than this share of what was pulled back, or where one
more refinement would change it by more. In the hard settings of the tests both stay below 1e-9, and the gradient is
right to 1e-13 of its natural size.
"""

DEGENERATE = 1e-9
"""Margin below which a bag is on a kink; see `cones`."""


class CvxpyPortfolio:
    """A `Portfolio` for any problem that cvxpylayers can differentiate; on the CPU, one bag after the other."""

    def __init__(
        self,
        problem: PortfolioProblem,
        risk_aversion: float,
        build: Build = default_problem.build,
    ) -> None:
        """Builds the problem and brings it to its cone program.

        Args:
            problem: the round's arrays, handed to `build`.
            risk_aversion: γ, handed to `build`.
            build: the default problem's, or an operator's own.

        Raises:
            OperatorError: the builder returned something else than a convex DPP problem with one parameter and one
                variable of one number a stock.
        """
        asked, alpha, weights = _checked(build(problem, risk_aversion), problem.stocks)
        self._solver = _Clarabel()
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
        """Returns (∂w*/∂a)ᵀ upstream of every bag; NaN for a bag whose weights or gradient were not found."""
        leaf, weights = solved.state
        above = upstream.detach().cpu().expand_as(weights)
        (gradient,) = torch.autograd.grad(weights, leaf, above, retain_graph=True)
        return gradient.to(solved.weights.device)


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
    """Clarabel, one bag at a time, with a solution that is exact to rounding and a gradient taken there.

    cvxpylayers hands over the coefficients of a cone program as it stores them: those of −A and b side by side, column
    by column.
    """

    canon_solver = "DIFFCP"

    def __init__(self) -> None:
        self.reports: list[BagReport] = []

    def setup(self, ctx: Any) -> None:
        """Keeps where the coefficients stand."""
        self._rows, starts, self._shape = ctx.reduced_A.problem_data_index
        self._starts, self._columns = starts, np.repeat(np.arange(self._shape[1]), np.diff(starts))

    def set_params(self, params: list[np.ndarray]) -> None:
        """Begins a new batch."""
        self.reports = []

    def solve_numpy(
        self, P: Any, q: np.ndarray, A: np.ndarray, dims: Any, solver_args: dict[str, Any], needs_grad: bool
    ) -> tuple[np.ndarray, np.ndarray, _State]:
        """Solves one bag."""
        both = sparse.csc_matrix((A, self._rows, self._starts), shape=self._shape)
        # cvxpy leaves `dims_to_solver_dict` untyped.
        program = Program(-both[:, :-1], both[:, -1].toarray().ravel(), q[:-1], dims_to_solver_dict(dims))  # type: ignore[no-untyped-call]
        found = solve_internal(
            program.matrix, program.offset, program.cost, program.cones,
            solve_method="Clarabel", raise_on_error=False, **SETTINGS,
        )  # fmt: skip
        _check(found)
        point = refined(program, point_at(program, found["x"], found["y"] - found["s"]))
        report = _report(program, point, found["info"]["iter"])
        self.reports.append(report)
        return point.primal, point.split.dual, None if report.status == "failed" else (program, point)

    def derivative_numpy(
        self, dprimal: np.ndarray, ddual: np.ndarray, saved_state: _State
    ) -> tuple[None, np.ndarray, np.ndarray]:
        """Pulls a gradient back to the coefficients; NaN where it was not found."""
        rows, columns = self._rows, self._columns
        if saved_state is None:
            return None, np.full(dprimal.size + 1, np.nan), np.full(rows.size, np.nan)
        program, point = saved_state
        slope = point.split.slope
        above = np.concatenate([dprimal, slope.times(ddual)])
        found = System(program, slope).solve(above, transposed=True)  # made anew: a chunk's would not fit into memory
        good = max(found.left, found.change) <= GRADIENT_TOLERANCE
        of_cost, of_offset = np.split(-found.values if good else np.full_like(above, np.nan), [dprimal.size])
        # The last column is the offset: −1 in the place of x, and no equation of the dual's.
        primal, cost = np.append(point.primal, -1.0), np.append(of_cost, 0.0)
        return None, cost, of_offset[rows] * primal[columns] - cost[columns] * point.split.dual[rows]


def _check(found: dict[str, Any]) -> None:
    status, iterations = found["info"]["status"], found["info"]["iter"]
    if status.startswith("Infeasible"):
        raise OperatorError("portfolio: the problem is infeasible: no weights meet all its limits")
    if status.startswith("Unbounded"):
        raise OperatorError("portfolio: the problem is unbounded: its limits allow any profit")
    if not all(np.isfinite(found[key]).all() for key in "xys"):
        raise OperatorError(f"portfolio: the solver failed after {iterations} iterations")


def _report(program: Program, point: Point, iterations: int) -> BagReport:
    """Says how one bag went."""
    value = float(program.cost @ point.primal)
    gap = abs(value + float(program.offset @ point.split.dual)) / (1 + abs(value))
    primal, dual = errors(program, point)
    good = all(error <= TOLERANCE for error in (gap, primal, dual))  # NaN is not
    status: BagStatus = "converged" if point.split.margin >= DEGENERATE else "degenerate"
    return BagReport(status if good else "failed", int(iterations), gap, primal, point.split.margin)
