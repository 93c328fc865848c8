"""How far a solution is from the places where its gradient jumps, and how good it is.

The weights are piecewise linear in alpha. A kink is where a stock's unclipped size x = (|q| − λ)/d is exactly 0 or the
cap, an exposure exactly at its bound with multiplier 0, or the leverage exactly used up at price 0. The margin is the
distance to the nearest one, in scaled units, where a typical weight, multiplier or bound is 1.

A group whose stocks are all at 0 or at the cap leaves its own multiplier free within an interval, while weights and
gradient are unique. Newton ends anywhere in that interval, often at its edge, where a stock seems to sit on a kink. So
the multiplier is put in the middle first; the group is called pinned.
"""

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from scoring.portfolio.dual import Point, evaluate
from scoring.portfolio.schur import ActiveSet
from scoring.portfolio.structure import Structure

NEAR = 1e-9
"""A size this close to 0 or to the cap counts as there."""
_SWEEPS = 2
"""A stock belongs to several groups; centring one moves the interval of another."""


def centre_pinned(
    structure: Structure, alpha: Float64[Tensor, "bag stock"], point: Point
) -> tuple[Point, Bool[Tensor, "bag row"]]:
    """Returns the point with the multipliers of pinned groups in the middle of their intervals, and which these are."""
    fixed = _at_kink_or_beyond(structure, point)
    pinned = _pinned(structure, point, fixed)
    rows = pinned.any(0).nonzero()[:, 0].tolist()  # one look at the device for all groups
    if not rows:
        return point, pinned
    neutral, reduced = point.at.neutral.clone(), point.reduced.clone()
    starts = (0, *structure.group_ends)
    for row in rows * _SWEEPS:
        bags = pinned[:, row].nonzero()[:, 0]
        inside = (bags[:, None], structure.members[starts[row] : starts[row + 1]])
        shift = _middle(structure, point, reduced[inside], inside)
        neutral[bags, row] += shift
        reduced[inside] -= shift[:, None]
    at = type(point.at)(point.at.exposures, point.at.bound, neutral, point.at.leverage)
    return evaluate(structure, alpha, at), pinned


def margins(structure: Structure, point: Point, active: ActiveSet) -> Float64[Tensor, " bag"]:
    """Returns the distance of every bag to its nearest kink."""
    at, infinite = point.at, float("inf")
    sizes = unclipped(structure, point)
    to_zero = torch.where(active.leveraged, sizes.abs().amin(1), infinite)
    to_cap = (sizes - structure.cap).abs().amin(1)
    room = (structure.bounds - at.exposures.abs()) / structure.bounds
    bound = torch.where(active.held == 0, room.nan_to_num(nan=infinite, posinf=infinite), at.bound.abs())
    bound = torch.where(structure.bounds == 0, infinite, bound)
    leverage = torch.where(active.leveraged, at.leverage, (1.0 - point.total / structure.stocks).abs())
    return torch.cat([torch.stack([to_zero, to_cap, leverage], dim=1), bound], dim=1).amin(1)


def gaps(structure: Structure, alpha: Float64[Tensor, "bag stock"], point: Point) -> Float64[Tensor, " bag"]:
    """Returns the duality gap of every bag, relative to the objective."""
    at, k, weights = point.at, structure.factors, point.weights
    sizes = weights.abs()
    risk = (weights.square() * structure.specific).sum(1)
    exposures = point.sums[:, :k]
    primal = (alpha * weights).sum(1) - 0.5 * (risk + (exposures @ structure.covariance * exposures).sum(1))
    bounded = torch.where(at.bound == 0, 0.0, structure.bounds * at.bound.abs()).sum(1)
    own = (sizes * (point.reduced.abs() - at.leverage[:, None])).sum(1) - 0.5 * risk
    prices = at.exposures @ structure.covariance
    dual = own + 0.5 * (prices * at.exposures).sum(1) + bounded + structure.stocks * at.leverage
    return torch.where(dual == primal, 0.0, (dual - primal).abs() / dual.abs())


def unclipped(structure: Structure, point: Point) -> Float64[Tensor, "bag stock"]:
    """Returns (|q| − λ)/d."""
    return (point.reduced.abs() - point.at.leverage[:, None]) * structure.inverse


def _at_kink_or_beyond(structure: Structure, point: Point) -> Bool[Tensor, "bag stock"]:
    sizes = point.weights.abs()
    at_zero = (sizes <= NEAR) & (point.at.leverage > 0)[:, None]
    return at_zero | (sizes >= structure.cap - NEAR)


def _pinned(structure: Structure, point: Point, fixed: Bool[Tensor, "bag stock"]) -> Bool[Tensor, "bag row"]:
    moving = (~fixed).to(point.weights.dtype) @ structure.columns[:, structure.factors :]
    return moving == 0


def _middle(
    structure: Structure,
    point: Point,
    reduced: Float64[Tensor, "some member"],
    inside: tuple[Tensor, Tensor],
) -> Float64[Tensor, " some"]:
    """Returns how far to move a pinned group's multiplier, that is to lower its stocks' q."""
    price, weights = point.at.leverage[inside[0]], point.weights[inside]
    at_cap = weights.abs() > 0.5 * structure.cap
    edge = torch.where(at_cap, price + structure.specific[inside[1]] * structure.cap, price)
    most = torch.where(at_cap & (weights < 0), float("inf"), torch.where(at_cap, reduced - edge, reduced + edge))
    least = torch.where(at_cap & (weights > 0), -float("inf"), torch.where(at_cap, reduced + edge, reduced - edge))
    high, low = most.amin(1), least.amax(1)
    middle = 0.5 * (high + low)
    return torch.where(middle.isfinite(), middle, 0.0)
