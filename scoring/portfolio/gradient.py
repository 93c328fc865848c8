"""The derivative of optimal weights, from the matrix of the final active set.

On its piece of the piecewise linear map a bag's weights are w = h∘(a − Cν − sλ) with multipliers linear in a, so that

    J = ∂w/∂a = diag(h) − diag(h) [C s] T K⁻¹ Tᵀ [C s]ᵀ diag(h)

is symmetric, and Jᵀr costs one back-substitution. One or more steps of iterative refinement, against the conditions
themselves (Fᵀg = the change of y, Eᵀg = 0, sᵀg = 0) and not against the stored matrix, take out its damping and
rounding. What is left of the scaled conditions is measured against √(Σ h r²), which no right side exceeds: against the
right side itself, an r that the portfolio is neutral to already could never be exact enough.

The failure guarded against: a gradient whose error is invisible in the weights. Where refinement does not get there, a
bag's gradient is NaN: no number, rather than one that nobody should rely on.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from scoring.portfolio.schur import Factor, solve, to_multipliers, to_unknowns
from scoring.portfolio.structure import Structure

MOST_REFINEMENTS = 8
_EXACT = 1e-14
"""Refinement ends when the conditions hold to this share of √(Σ h r²)."""
TOLERANCE = 1e-12
"""The share above which a gradient counts as not found. On nearly singular matrices (a smallest eigenvalue of 1e-6) a
gradient's own error is a thousand times as large; where refinement works, 1e-15 is left."""


def pull_back(
    structure: Structure, factor: Factor, upstream: Float64[Tensor, "bag stock"]
) -> Float64[Tensor, "bag stock"]:
    """Returns (∂w/∂a)ᵀ upstream of every bag, in the scaled units; NaN for a bag on which refinement fails."""
    steep = factor.active.signed.abs()
    right = _conditions(structure, factor, upstream * steep, None)
    unknowns, size = solve(factor, right), (steep * upstream.square()).sum(1).sqrt()
    gradient = _gradient(structure, factor, upstream, unknowns)
    for refinement in range(MOST_REFINEMENTS + 1):
        left = _conditions(structure, factor, gradient, unknowns)
        errors = (left * factor.scale).abs().amax(1)
        if refinement == MOST_REFINEMENTS or bool((errors <= _EXACT * size).all()):
            break
        unknowns = unknowns + solve(factor, left)
        gradient = _gradient(structure, factor, upstream, unknowns)
    return torch.where((errors <= TOLERANCE * size)[:, None], gradient, float("nan"))


def _gradient(
    structure: Structure,
    factor: Factor,
    upstream: Float64[Tensor, "bag stock"],
    unknowns: Float64[Tensor, "bag unknown"],
) -> Float64[Tensor, "bag stock"]:
    prices, signed = to_multipliers(structure, factor.active, unknowns), factor.active.signed
    gradient = torch.addmm(upstream, prices[:, :-1], structure.columns.mT, alpha=-1).mul_(signed.abs())
    return gradient.addcmul_(signed, prices[:, -1:], value=-1)


def _conditions(
    structure: Structure,
    factor: Factor,
    gradient: Float64[Tensor, "bag stock"],
    unknowns: Float64[Tensor, "bag unknown"] | None,
) -> Float64[Tensor, "bag unknown"]:
    """Returns what is left of the conditions; without unknowns, the right side."""
    active, k = factor.active, structure.factors
    sums = gradient @ structure.columns
    total = (gradient * active.signed.sign()).sum(1, keepdim=True)
    left = to_unknowns(structure, active, torch.cat([sums, total], dim=1))
    if unknowns is not None:
        loose = active.held == 0
        exposures = torch.where(loose, unknowns[:, :k], 0.0) @ structure.covariance
        left[:, :k] -= torch.where(loose, exposures, 0.0)
    return left
