"""The structured solver: a semismooth Newton method on the dual of the portfolio problem, all bags in one batch.

A step (see `step`) solves the linear conditions of a bag's free stocks, with one small matrix a bag (`schur`), and goes
towards that as far as the dual falls. After a step that had to be cut short the next matrix is damped. On the right
active set a step is exact, so a bag is done when its active set repeats and all conditions hold; as a rule after four
to seven steps.

The failures guarded against: one slow bag that delays all (finished bags leave the batch), and a result that is nearly
optimal, whose weights are right to 1e-5 and whose gradient is wrong by a percent (hence the repeated active set).

References:
    Qi and Sun, A nonsmooth version of Newton's method (Mathematical Programming 58, 1993).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from scoring.portfolio.batch import put, take
from scoring.portfolio.dual import Multipliers, Point, active_set, evaluate, same_piece, violation
from scoring.portfolio.polish import rounding
from scoring.portfolio.schur import LEAST_DAMPING, MOST_DAMPING, Factor
from scoring.portfolio.step import advance, newton_direction
from scoring.portfolio.structure import Structure

TOLERANCE = 1e-10
"""Of the largest violated condition, in shares of the leverage."""
_SHORT = 0.1
"""A step cut to less than this share was a bad direction."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a batch ended.

    Attributes:
        point: the last point of every bag.
        factor: the matrix of that point's active set.
        steps: (bag,) Newton steps.
        repeated: (bag,) whether the active set repeated and the conditions hold, but for rounding (see `polish`).
    """

    point: Point
    factor: Factor
    steps: Int64[Tensor, " bag"]
    repeated: Bool[Tensor, " bag"]


def newton(structure: Structure, alpha: Float64[Tensor, "bag stock"], start: Multipliers, most_steps: int) -> Found:
    """Minimises the dual of every bag.

    Args:
        alpha: scaled.
        start: where to begin.
        most_steps: bags that need more come back as they are then.
    """
    bags, live = len(alpha), torch.arange(len(alpha), device=alpha.device)
    damping = alpha.new_full((bags,), LEAST_DAMPING)
    point = evaluate(structure, alpha, start)
    active = active_set(structure, point)
    found: Found | None = None
    for step in range(1, most_steps + 1):
        factor, along = newton_direction(structure, point, active, damping)
        point, length = advance(structure, alpha, point, along)
        damping = _next_damping(damping, length)
        active = active_set(structure, point)
        close = violation(structure, point, active) <= TOLERANCE + rounding(structure, alpha, point, active)
        repeated = same_piece(active, factor.active) & close
        leaving = repeated if step < most_steps else torch.ones_like(repeated)
        rows = leaving.nonzero()[:, 0]
        if len(rows) == 0:
            continue
        steps = torch.full_like(rows, step)
        part = Found(take(point, rows), take(factor, rows), steps, repeated[rows])
        found = put(found, live[rows], part, bags)
        stay = (~leaving).nonzero()[:, 0]
        if len(stay) == 0:
            break
        live, alpha, damping = live[stay], alpha[stay], damping[stay]
        point, active = take(point, stay), take(active, stay)
    if found is None:
        raise ValueError("newton: most_steps must be at least 1, and there must be a bag")
    return found


def _next_damping(damping: Float64[Tensor, " bag"], length: Float64[Tensor, " bag"]) -> Float64[Tensor, " bag"]:
    more = (damping * 1e3).clamp(1e-6, MOST_DAMPING)
    return torch.where(length < _SHORT, more, (damping * 1e-3).clamp(min=LEAST_DAMPING))
