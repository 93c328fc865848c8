"""The dual of the portfolio problem: weights from multipliers, and what is left of the optimality conditions.

In the scaled units of `structure`, with multipliers y (of y = Fᵀw), η (of |y_f| ≤ e_f), μ (of Eᵀw = 0), λ ≥ 0 (of the
leverage), the weights are a closed form,

    q = a − F(Ωy + η) − Eμ        |w_j| = clip((|q_j| − λ)/d_j, 0, u), with the sign of q_j

and the multipliers minimise the convex, piecewise quadratic

    Ψ = Σ_j φ_j(q_j, λ) + ½ yᵀΩy + Σ_f e_f|η_f| + λ n        φ_j = max over |w| ≤ u of  q_j w − λ|w| − ½ d_j w²

The failure guarded against: slacks by subtraction of nearly equal weights; all sizes come from the multipliers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from scoring.portfolio.schur import ActiveSet
from scoring.portfolio.structure import Structure


@dataclass(frozen=True, slots=True)
class Multipliers:
    """What the dual is minimised over.

    Attributes:
        exposures: (bag, factor) y.
        bound: (bag, factor) η.
        neutral: (bag, row) μ.
        leverage: (bag,) λ ≥ 0.
    """

    exposures: Float64[Tensor, "bag factor"]
    bound: Float64[Tensor, "bag factor"]
    neutral: Float64[Tensor, "bag row"]
    leverage: Float64[Tensor, " bag"]


@dataclass(frozen=True, slots=True)
class Point:
    """The dual at some multipliers.

    Attributes:
        at: the multipliers.
        reduced: (bag, stock) q.
        weights: (bag, stock) w, in scaled units.
        sums: (bag, column) Cᵀw: exposures, then the neutrality rows.
        total: (bag,) Σ|w|.
    """

    at: Multipliers
    reduced: Float64[Tensor, "bag stock"]
    weights: Float64[Tensor, "bag stock"]
    sums: Float64[Tensor, "bag column"]
    total: Float64[Tensor, " bag"]


def origin(structure: Structure, bags: int) -> Multipliers:
    """Returns multipliers of 0."""
    k, rows = structure.factors, structure.unknowns - 1 - structure.factors
    zero = structure.columns.new_zeros
    return Multipliers(zero(bags, k), zero(bags, k), zero(bags, rows), zero(bags))


def evaluate(structure: Structure, alpha: Float64[Tensor, "bag stock"], at: Multipliers) -> Point:
    """Returns the weights that some multipliers lead to, and their sums."""
    prices = torch.cat([at.exposures @ structure.covariance + at.bound, at.neutral], dim=1)
    reduced = torch.addmm(alpha, prices, structure.columns.mT, alpha=-1)
    sizes = position_sizes(structure, reduced, at.leverage)
    weights = torch.copysign(sizes, reduced)
    return Point(at, reduced, weights, weights @ structure.columns, sizes.sum(1))


def position_sizes(
    structure: Structure, reduced: Float64[Tensor, "bag stock"], leverage: Float64[Tensor, " bag"]
) -> Float64[Tensor, "bag stock"]:
    """Returns |w| from q and λ."""
    sizes = reduced.abs().sub_(leverage[:, None]).mul_(structure.inverse)
    return sizes.clamp_(0.0, structure.cap)


def active_set(structure: Structure, point: Point) -> ActiveSet:
    """Returns the piece that a point is on; a condition that is violated counts as active."""
    at, k = point.at, structure.factors
    leveraged = (at.leverage > 0) | (point.total > structure.stocks)
    sizes = point.weights.abs()
    # Without a price on leverage there is no kink at 0: a stock whose weight is 0 by chance is free.
    free = (sizes < structure.cap) & ((sizes > 0) | (at.leverage == 0)[:, None])
    signs = torch.where(leveraged[:, None], point.reduced, 1.0)
    signed = torch.where(free, torch.copysign(structure.inverse, signs), 0.0)
    signed_side = (at.bound != 0) & (structure.bounds > 0)
    held = torch.where(signed_side, at.bound.sign(), outside(structure, point.sums[:, :k]))
    return ActiveSet(signed, held, leveraged)


def outside(structure: Structure, exposures: Float64[Tensor, "bag factor"]) -> Float64[Tensor, "bag factor"]:
    """Returns −1, 0, 1: the side on which exposures are out of bounds; a bound of 0 always holds its factor."""
    sides = torch.where(exposures.abs() > structure.bounds, exposures.sign(), 0.0)
    return torch.where(structure.bounds == 0, 1.0, sides)


def residuals(
    structure: Structure, point: Point, held: Float64[Tensor, "bag factor"]
) -> Float64[Tensor, "bag unknown"]:
    """Returns what is left of the conditions on exposures, neutrality rows and leverage, in the order of the unknowns.

    For a loose factor that is Fᵀw − y, for a held one Fᵀw ∓ e.
    """
    k = structure.factors
    wanted = torch.where(held == 0, point.at.exposures, held * finite_bounds(structure))
    excess = point.total - structure.stocks
    return torch.cat([point.sums[:, :k] - wanted, point.sums[:, k:], excess[:, None]], dim=1)


def violation(structure: Structure, point: Point, active: ActiveSet) -> Float64[Tensor, " bag"]:
    """Returns the largest violated condition, in shares of the leverage."""
    left = residuals(structure, point, active.held)
    left[:, -1] = torch.where(active.leveraged, left[:, -1], 0.0)
    drift = point.sums[:, : structure.factors] - point.at.exposures
    return torch.cat([left, drift], dim=1).abs().amax(1) / structure.stocks


def finite_bounds(structure: Structure) -> Float64[Tensor, " factor"]:
    """Returns the bounds, 0 for none: a factor without a bound is never held."""
    return torch.where(structure.bounds.isfinite(), structure.bounds, 0.0)


def same_piece(active: ActiveSet, other: ActiveSet) -> Bool[Tensor, " bag"]:
    """Says which bags are on the same piece."""
    same = (active.signed == other.signed).all(1) & (active.held == other.held).all(1)
    return same & (active.leveraged == other.leveraged)
