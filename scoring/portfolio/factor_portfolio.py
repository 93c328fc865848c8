"""The default portfolio solver: structured, exact, all bags in one batch, the same code on CPU and CUDA.

It scales the problem (`structure`), minimises the dual of every bag (`newton`, and `interior_point` for bags on which
that stalls), moves the multipliers of pinned groups away from kinks and measures the distance to the nearest
(`kinks`), takes rounding out of the weights (`polish`), and pulls gradients back through the matrix of the final active
set (`gradient`). It is read only once made: threads may share one.

Results of a bag do not depend on the other bags of its batch but in the last bits.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from scoring.errors import OperatorError
from scoring.portfolio.batch import put, take
from scoring.portfolio.dual import Point, active_set, origin, same_piece, violation
from scoring.portfolio.gradient import pull_back
from scoring.portfolio.interface import BagReport, BagStatus, Solved
from scoring.portfolio.interior_point import interior_point
from scoring.portfolio.kinks import centre_pinned, gaps, margins
from scoring.portfolio.newton import TOLERANCE, Found, newton
from scoring.portfolio.polish import polished
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.schur import LEAST_DAMPING, ActiveSet, Factor, active_matrix, factorise
from scoring.portfolio.structure import make_structure
from scoring.portfolio.turnover import without_turnover

STEPS_BEFORE_FALLBACK = 12
STEPS_AFTER_FALLBACK = 40
DEGENERATE = 1e-9


class FactorPortfolio:
    """Solves one problem for batches of alphas."""

    def __init__(self, problem: PortfolioProblem, risk_aversion: float, device: str = "cpu") -> None:
        """Prepares a round's problem.

        Args:
            problem: of the round.
            risk_aversion: γ > 0, see `auto_risk_aversion`.
            device: where to compute: `cpu` or `cuda`.

        Raises:
            OperatorError: the risk aversion is not above 0.
        """
        if not risk_aversion > 0:
            raise OperatorError(f"portfolio: risk_aversion must be a number above 0, found {risk_aversion}")
        plain, shift = without_turnover(problem)
        self._structure = make_structure(plain, risk_aversion, device)
        self._shift = None if shift is None else torch.as_tensor(risk_aversion * shift, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of what is prepared, but for some thousand."""
        structure = self._structure
        return structure.pairs.nbytes + structure.columns.nbytes + structure.member_columns.nbytes

    def solve(self, alpha: Float64[Tensor, "bag stock"]) -> Solved:
        """Returns the optimal weights of every bag, on the solver's device."""
        structure = self._structure
        given = alpha.to(structure.columns.device)
        scaled = (given if self._shift is None else given + self._shift) / structure.alpha_unit
        found, helped = self._minimise(scaled)
        point, pinned = centre_pinned(structure, scaled, found.point)
        active = active_set(structure, point)
        factor = self._final(found.factor, active)
        right = found.repeated.nonzero()[:, 0]
        point = put(point, right, take(polished(structure, point, factor), right), len(alpha))
        return Solved(
            weights=point.weights * structure.weight_unit,
            reports=self._reports(scaled, found, point, active, (helped, pinned)),
            state=factor,
        )

    def pull_back(
        self, solved: Solved, upstream: Float64[Tensor, " stock"] | Float64[Tensor, "bag stock"]
    ) -> Float64[Tensor, "bag stock"]:
        """Returns (∂w*/∂a)ᵀ upstream of every bag; NaN for a bag whose gradient refinement did not make exact."""
        structure, factor = self._structure, solved.state
        upstream = upstream.to(structure.columns.device).expand(len(factor.scale), structure.stocks)
        return pull_back(structure, factor, upstream) * (structure.weight_unit / structure.alpha_unit)

    def _minimise(self, alpha: Float64[Tensor, "bag stock"]) -> tuple[Found, Bool[Tensor, " bag"]]:
        """Returns where Newton ends, and which bags needed the interior point."""
        structure = self._structure
        found = newton(structure, alpha, origin(structure, len(alpha)), STEPS_BEFORE_FALLBACK)
        stalled = ~found.repeated
        rows = stalled.nonzero()[:, 0]
        if len(rows):
            close = interior_point(structure, alpha[rows])
            again = newton(structure, alpha[rows], close, STEPS_AFTER_FALLBACK)
            found = put(found, rows, replace(again, steps=again.steps + STEPS_BEFORE_FALLBACK), len(alpha))
        return found, stalled

    def _final(self, factor: Factor, active: ActiveSet) -> Factor:
        """Returns the matrices of the final active sets, with the least damping.

        Only those are made again whose set centring changed, or that Newton's last steps damped: a damped matrix would
        take refinement more steps than it has.
        """
        structure = self._structure
        same = same_piece(active, factor.active)
        rows = (~same | (factor.damping > LEAST_DAMPING)).nonzero()[:, 0]
        if len(rows) == 0:
            return factor
        changed = take(active, rows)
        damping = factor.scale.new_full((len(rows),), LEAST_DAMPING)
        again = factorise(structure, changed, active_matrix(structure, changed), damping)
        return put(factor, rows, again, len(same))

    def _reports(
        self,
        alpha: Float64[Tensor, "bag stock"],
        found: Found,
        point: Point,
        active: ActiveSet,
        flags: tuple[Bool[Tensor, " bag"], Bool[Tensor, "bag row"]],
    ) -> tuple[BagReport, ...]:
        structure, (helped, pinned) = self._structure, flags
        columns = (
            found.repeated,
            found.steps,
            gaps(structure, alpha, point),
            violation(structure, point, active),
            margins(structure, point, active),
            helped,
            pinned.sum(1),
        )
        return tuple(_report(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def _report(repeated: bool, steps: int, gap: float, left: float, margin: float, helped: bool, pinned: int) -> BagReport:
    status: BagStatus = "converged" if margin >= DEGENERATE else "degenerate"
    if not (repeated and left <= TOLERANCE):
        status = "failed"
    return BagReport(status, steps, gap, left, margin, helped, pinned)
