"""The matrix of a Newton step: what is left of the optimality conditions once the weights are eliminated.

With θ = Ωy + η and h = 1/d on the free stocks, all other stocks fixed, the conditions of an active set are linear in
the multipliers (θ, μ, λ), with the matrix R = [C s]ᵀ diag(h) [C s]. A factor is either held at its bound (y_f = ±e_f
known, η_f unknown) or loose (η_f = 0, y_f unknown): with v the unknowns and T = Ω on the loose factors' columns, the
identity elsewhere, θ = T v + known, and the matrix

    K = Tᵀ R T + Ω on the loose factors

is symmetric and positive semidefinite whatever Ω's condition. It is scaled to a diagonal of 1 before it is factorised.

The failure guarded against: a group without a free stock makes a row of K zero. Its multiplier is free, so the row gets
a diagonal instead of the whole bag an infinite step; combinations of rows that no free stock tells apart get a damping
far below what one step of refinement removes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from scoring.portfolio.structure import Structure, normal_matrix

LEAST_DAMPING = 1e-13
MOST_DAMPING = 1e3
_MOST_RAISES = 8
"""Of the damping, by 100 each; only a matrix that is not finite fails after that, and then so does its bag."""


@dataclass(frozen=True, slots=True)
class ActiveSet:
    """Which piece of the piecewise linear map a bag is on.

    Attributes:
        signed: (bag, stock) 1/d̂ times the sign of the position (+ where the leverage is slack) for free stocks, else 0.
        held: (bag, factor) −1, 0, 1: the factor is at its lower bound, loose, at its upper bound.
        leveraged: (bag,) whether the leverage binds.
    """

    signed: Float64[Tensor, "bag stock"]
    held: Float64[Tensor, "bag factor"]
    leveraged: Bool[Tensor, " bag"]


@dataclass(frozen=True, slots=True)
class Factor:
    """A factorised K.

    Attributes:
        active: the active set that it belongs to.
        lower: (bag, unknown, unknown) Cholesky factor of the scaled K.
        scale: (bag, unknown) K's diagonal to the power −½.
        damping: (bag,) what the diagonal of the scaled K was to be raised by.
    """

    active: ActiveSet
    lower: Float64[Tensor, "bag unknown unknown"]
    scale: Float64[Tensor, "bag unknown"]
    damping: Float64[Tensor, " bag"]


def active_matrix(structure: Structure, active: ActiveSet) -> Float64[Tensor, "bag unknown unknown"]:
    """Returns R of an active set's free stocks."""
    free = active.signed.abs()
    return normal_matrix(structure, free, active.signed, free.sum(1))


def factorise(
    structure: Structure,
    active: ActiveSet,
    normal: Float64[Tensor, "bag unknown unknown"],
    damping: Float64[Tensor, " bag"],
) -> Factor:
    """Returns K factorised.

    Args:
        normal: R of the active set's stocks, from `active_matrix`.
        damping: added to the diagonal of the scaled K; more where that is not enough.
    """
    matrix = _transformed(structure, active, normal)
    diagonal = torch.diagonal(matrix, dim1=1, dim2=2)
    scale = torch.where(diagonal > 0, diagonal, structure.full_diagonal).rsqrt()
    matrix.mul_(scale[:, :, None]).mul_(scale[:, None, :])
    torch.diagonal(matrix, dim1=1, dim2=2).fill_(1.0)
    return Factor(active, cholesky(matrix, damping), scale, damping)


def solve(factor: Factor, right: Float64[Tensor, "bag unknown"]) -> Float64[Tensor, "bag unknown"]:
    """Returns K⁻¹ right."""
    scaled = (right * factor.scale).unsqueeze(-1)
    return torch.cholesky_solve(scaled, factor.lower).squeeze(-1) * factor.scale


def to_multipliers(
    structure: Structure, active: ActiveSet, unknowns: Float64[Tensor, "bag unknown"]
) -> Float64[Tensor, "bag unknown"]:
    """Returns T v: the change of (θ, μ, λ) that a change of the unknowns makes."""
    k = structure.factors
    loose = torch.where(active.held == 0, unknowns[:, :k], 0.0) @ structure.covariance
    theta = loose + torch.where(active.held == 0, 0.0, unknowns[:, :k])
    leverage = torch.where(active.leveraged, unknowns[:, -1], 0.0)
    return torch.cat([theta, unknowns[:, k:-1], leverage[:, None]], dim=1)


def to_unknowns(
    structure: Structure, active: ActiveSet, residual: Float64[Tensor, "bag unknown"]
) -> Float64[Tensor, "bag unknown"]:
    """Returns Tᵀ residual."""
    k = structure.factors
    factors = torch.where(active.held == 0, residual[:, :k] @ structure.covariance, residual[:, :k])
    leverage = torch.where(active.leveraged, residual[:, -1], 0.0)
    return torch.cat([factors, residual[:, k:-1], leverage[:, None]], dim=1)


def _transformed(
    structure: Structure, active: ActiveSet, normal: Float64[Tensor, "bag unknown unknown"]
) -> Float64[Tensor, "bag unknown unknown"]:
    k, loose = structure.factors, (active.held == 0).to(normal.dtype)
    change = structure.covariance * loose[:, None, :]
    torch.diagonal(change, dim1=1, dim2=2).add_(1.0 - loose)
    matrix = normal.clone()
    matrix[:, :k] = change.mT @ normal[:, :k]
    matrix[:, :, :k] = matrix[:, :, :k] @ change
    matrix[:, :k, :k] += structure.covariance * loose[:, None, :] * loose[:, :, None]
    slack = ~active.leveraged
    matrix[slack, -1, :] = 0.0
    matrix[slack, :, -1] = 0.0
    return matrix


def cholesky(
    matrix: Float64[Tensor, "bag unknown unknown"], damping: Float64[Tensor, " bag"]
) -> Float64[Tensor, "bag unknown unknown"]:
    """Factorises matrices with a diagonal of 1, in place, with a damping that grows where it has to."""
    diagonal = torch.diagonal(matrix, dim1=1, dim2=2)
    diagonal.add_(damping[:, None])
    lower, failed = torch.linalg.cholesky_ex(matrix)
    for _ in range(_MOST_RAISES):
        rows = failed.nonzero()[:, 0]
        if len(rows) == 0:
            break
        damping = damping * 100
        diagonal[rows] += damping[rows, None]
        lower[rows], failed[rows] = torch.linalg.cholesky_ex(matrix[rows])
    return lower
