"""What rounding leaves of the conditions, taken out of the weights themselves.

A weight is the small difference of large terms: alpha, and the prices on everything that the portfolio is held to.
With little risk aversion these are 1e6 times a weight, and no multiplier can be written down finely enough for the
weights to be neutral to more than 1e-10. But on the right active set the conditions are linear, and the matrix of the
last step says what change of the *weights* makes them hold. That change is small, so it has all its digits.

The failure guarded against: a portfolio called failed, or one that is neutral only nearly, for the last digits of
numbers that nobody publishes.
"""

from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from scoring.portfolio.dual import Point, residuals
from scoring.portfolio.schur import ActiveSet, Factor, solve, to_multipliers, to_unknowns
from scoring.portfolio.structure import Structure

_EPSILON = 2.0**-52
MOST_ROUNDING = 1e-6
"""Of the conditions, in shares of the leverage: what is further off was not rounded but not found."""


def rounding(
    structure: Structure, alpha: Float64[Tensor, "bag stock"], point: Point, active: ActiveSet
) -> Float64[Tensor, " bag"]:
    """Returns how far rounding alone may leave the conditions open, in shares of the leverage.

    Every free weight is off by the last digit of the terms of its q, over d; columns have a size of about 1.
    """
    prices = point.at.exposures @ structure.covariance + point.at.bound
    terms = alpha.abs().amax(1) + prices.abs().sum(1) + point.at.neutral.abs().sum(1)
    steepness = active.signed.abs().sum(1) / structure.stocks
    return (_EPSILON * terms * steepness).clamp(max=MOST_ROUNDING)


def polished(structure: Structure, point: Point, factor: Factor) -> Point:
    """Returns the point with weights that keep the conditions to their own last digits.

    Args:
        point: on the right active set.
        factor: the matrix of that active set.
    """
    active, k = factor.active, structure.factors
    step = solve(factor, to_unknowns(structure, active, residuals(structure, point, active.held)))
    change = to_multipliers(structure, active, step)
    drop = (change[:, :-1] @ structure.columns.mT).mul_(active.signed.abs())
    drop.addcmul_(active.signed, change[:, -1:])
    weights = (point.weights - drop).clamp(-structure.cap, structure.cap)
    exposures = point.at.exposures + torch.where(active.held == 0, step[:, :k], 0.0)
    at = replace(point.at, exposures=exposures)
    return Point(at, point.reduced, weights, weights @ structure.columns, weights.abs().sum(1))
