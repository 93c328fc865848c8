"""One Newton step: where the quadratic model leads, and how far to follow it.

The model of Ψ takes each bag's free stocks as they are, but keeps the kinks of η and λ: a primal-dual active set method
finds which factors are held and whether the leverage binds. R stays, so that each switch costs small matrices only, and
one step does the work of many. Towards the model's minimum Ψ falls at first; its slope along the step is monotone, and
the step is shortened, by regula falsi, until the slope at its end is no longer well above 0.

The failures guarded against: an active set that goes to and fro (the slope of Ψ, not a residual, decides on a step's
length), and differences of Ψ that drown in rounding while its slope is still exact.

References:
    Lee, Sun and Saunders, Proximal Newton-type methods for minimizing composite functions (SIAM J. Optimization 24,
    2014). Dowell and Jarratt, A modified regula falsi method (BIT 11, 1971), for halving the end that stays.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from scoring.portfolio.batch import put, take
from scoring.portfolio.dual import Multipliers, Point, evaluate, finite_bounds, outside, position_sizes, residuals
from scoring.portfolio.schur import ActiveSet, Factor, active_matrix, factorise, solve, to_multipliers, to_unknowns
from scoring.portfolio.structure import Structure

MOST_SWITCHES = 10
"""Of the held factors within one step."""
_MOST_HALVINGS = 12
_FLAT = 0.3
"""A search ends where the slope is below this share of the slope at the beginning."""
_ROUNDING = 1e-13
"""Of a slope, in shares of the sum of its terms' absolute values."""


@dataclass(frozen=True, slots=True)
class Direction:
    """A step.

    Attributes:
        by: the change of the multipliers.
        prices: (bag, factor) the change of Ωy.
        slope: (bag,) of Ψ at its beginning.
    """

    by: Multipliers
    prices: Float64[Tensor, "bag factor"]
    slope: Float64[Tensor, " bag"]


def newton_direction(
    structure: Structure, point: Point, active: ActiveSet, damping: Float64[Tensor, " bag"]
) -> tuple[Factor, Direction]:
    """Returns the step to the minimum of Ψ's quadratic model on the point's stocks, and the matrix that led there.

    The model still has the kinks of η and λ: which factors are held is found by a primal-dual active set method, whose
    matrices are small.
    """
    normal = active_matrix(structure, active)
    factor = factorise(structure, active, normal, damping)
    goal, wrong = _goal(structure, point, factor, normal)
    for _ in range(MOST_SWITCHES):
        rows = (wrong.held != factor.active.held).any(1) | (wrong.leveraged != factor.active.leveraged)
        rows = rows.nonzero()[:, 0]
        if len(rows) == 0:
            break
        some = factorise(structure, take(wrong, rows), normal[rows], damping[rows])
        factor = put(factor, rows, some, len(normal))
        changed, next_wrong = _goal(structure, take(point, rows), some, normal[rows])
        goal, wrong = put(goal, rows, changed, len(normal)), put(wrong, rows, next_wrong, len(normal))
    at = point.at
    by = Multipliers(
        goal.exposures - at.exposures, goal.bound - at.bound, goal.neutral - at.neutral, goal.leverage - at.leverage
    )
    prices = by.exposures @ structure.covariance
    along = Direction(by, prices, at.leverage)
    return factor, replace(along, slope=_slope(structure, point, along, 0.0))


def _goal(
    structure: Structure, point: Point, factor: Factor, normal: Float64[Tensor, "bag unknown unknown"]
) -> tuple[Multipliers, ActiveSet]:
    """Returns where the conditions of an active set lead, and the active set that fits that better."""
    active, at, k = factor.active, point.at, structure.factors
    loose, edges = active.held == 0, finite_bounds(structure)
    known = torch.zeros_like(normal[:, 0])
    exposures = torch.where(loose, 0.0, active.held * edges - at.exposures)
    drop = torch.where(loose, -at.bound, 0.0)
    known[:, :k] = exposures @ structure.covariance + drop
    known[:, -1] = torch.where(active.leveraged, 0.0, -at.leverage)
    moved = (normal @ known.unsqueeze(-1)).squeeze(-1)
    left = residuals(structure, point, active.held)
    step = solve(factor, to_unknowns(structure, active, left - moved))
    exposures = at.exposures + torch.where(loose, step[:, :k], exposures)
    bound = torch.where(loose, 0.0, at.bound + step[:, :k])
    leverage = torch.where(active.leveraged, at.leverage + step[:, -1], 0.0)
    change = to_multipliers(structure, active, step) + known
    total = left[:, -1] - (normal[:, -1] * change).sum(1)
    kept = (bound * active.held > 0) | (structure.bounds == 0)
    held = torch.where(loose, outside(structure, exposures), torch.where(kept, active.held, 0.0))
    fits = torch.where(active.leveraged, leverage > 0, total > 0)
    goal = Multipliers(exposures, torch.where(kept, bound, 0.0), at.neutral + step[:, k:-1], leverage.clamp(min=0.0))
    return goal, ActiveSet(active.signed, held, fits)


def _slope(structure: Structure, point: Point, along: Direction, length: float) -> Float64[Tensor, " bag"]:
    """Returns the derivative of Ψ along a direction, at its beginning (length 0) or end (1)."""
    k, by = structure.factors, along.by
    exposures, neutral = point.sums[:, :k], point.sums[:, k:]
    # At a kink the side that the step comes from, or leaves to.
    inwards = by.bound.sign() if length == 0 else -by.bound.sign()
    sides = torch.where(point.at.bound == 0, inwards, point.at.bound.sign())
    edge = sides * finite_bounds(structure)
    factors = ((point.at.exposures - exposures) * along.prices).sum(1) + ((edge - exposures) * by.bound).sum(1)
    return factors - (neutral * by.neutral).sum(1) + (structure.stocks - point.total) * by.leverage


def advance(
    structure: Structure, alpha: Float64[Tensor, "bag stock"], point: Point, along: Direction
) -> tuple[Point, Float64[Tensor, " bag"]]:
    """Returns the next point, and the share of the step that was taken."""
    length = torch.ones_like(along.slope)
    trial = evaluate(structure, alpha, _moved(point.at, along.by, length))
    end = _slope(structure, trial, along, 1.0)
    noise = _ROUNDING * (point.weights.abs() * (trial.reduced - point.reduced).abs()).sum(1)
    short = ((end > -0.5 * along.slope + noise) | (along.slope > noise)).nonzero()[:, 0]
    if len(short) == 0:
        return trial, length
    here, rest = take(point, short), take(along, short)
    length[short] = _search(structure, here, trial.reduced[short], rest, end[short])
    retried = evaluate(structure, alpha[short], _moved(here.at, rest.by, length[short]))
    return put(trial, short, retried, len(alpha)), length


def _search(
    structure: Structure,
    point: Point,
    far: Float64[Tensor, "bag stock"],
    along: Direction,
    end: Float64[Tensor, " bag"],
) -> Float64[Tensor, " bag"]:
    """Returns where Ψ's slope along a direction is small, by regula falsi; 0 for a direction that leads up.

    Args:
        far: q at the end of the step.
        end: the slope there, positive.
    """
    low, high = torch.zeros_like(end), torch.ones_like(end)
    at_low, at_high = along.slope.clone(), end.clone()
    change = far - point.reduced
    curvature = (along.by.exposures * along.prices).sum(1)
    offset, edges = (point.at.exposures * along.prices).sum(1), finite_bounds(structure)
    for _ in range(_MOST_HALVINGS):
        length = torch.clamp((low * at_high - high * at_low) / (at_high - at_low), min=0.0)
        length = torch.where(length.isfinite(), length, 0.0)
        reduced = torch.addcmul(point.reduced, change, length[:, None])
        leverage = point.at.leverage + length * along.by.leverage
        sizes = position_sizes(structure, reduced, leverage)
        gain = (torch.copysign(sizes, reduced) * change).sum(1)
        bound = torch.addcmul(point.at.bound, along.by.bound, length[:, None])
        kinked = (bound.sign() * edges * along.by.bound).sum(1)
        slope = gain + kinked + offset + length * curvature + (structure.stocks - sizes.sum(1)) * along.by.leverage
        flat = slope.abs() <= -_FLAT * along.slope
        if bool(flat.all()):
            break
        below = slope < 0
        at_high = torch.where(below, torch.where(low == length, at_high, at_high * 0.5), slope)
        at_low = torch.where(below, slope, at_low * 0.5)
        low, high = torch.where(below, length, low), torch.where(below, high, length)
    return torch.where(along.slope < 0, torch.where(flat, length, low), 0.0)


def _moved(at: Multipliers, by: Multipliers, length: Float64[Tensor, " bag"]) -> Multipliers:
    column = length[:, None]
    return Multipliers(
        at.exposures + column * by.exposures,
        at.bound + column * by.bound,
        at.neutral + column * by.neutral,
        at.leverage + length * by.leverage,
    )
