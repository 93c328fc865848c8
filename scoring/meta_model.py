"""Meta models: weighted means of the cleaned predictions, exact in any order.

`M_j = Σ_i w_i · g(p_ij)`, g = Φ⁻¹ of the tie-kept rank, w the weights of the staked, on-time, valid models (SPEC §1,
SWMM). Each term is rounded once to a multiple of 2⁻⁵⁸ and added as an integer. So the sums of blocks merge by integer
addition with `zero` as the neutral element, and neither blocks nor workers nor a rejected submission in the middle can
move a bit of the published meta model.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scoring.kernels.passes import FRACTION_BITS, add_kept, add_weighted
from scoring.ranks import Ranks, gauss_table

Sums = Int64[np.ndarray, "sum stock"]
"""Fixed-point sums over models, in units of 2^-58; they merge by `+`."""


def zero(sums: int, stocks: int) -> Sums:
    """Returns the neutral element of merging."""
    return np.zeros((sums, stocks), np.int64)


def partial_sums(ranks: Ranks, weights: Float64[np.ndarray, "sum model"]) -> Sums:
    """Returns Σ_model weight · g(p) for these models and any number of meta models at once.

    Args:
        ranks: some of the round's models.
        weights: one row a meta model, one column a model of `ranks`; each row sums to at most 1 over the whole round.
    """
    return weighted_sums(ranks, gauss_table(ranks.stocks), weights)


def weighted_sums(ranks: Ranks, table: Float64[np.ndarray, " rank"], weights: Float64[np.ndarray, "sum model"]) -> Sums:
    """Returns Σ_model weight · table[rank] in fixed point."""
    sums = zero(weights.shape[0], ranks.stocks)
    add_weighted(ranks.doubled, table, np.ascontiguousarray(weights), sums)
    return sums


def kept_sums(ranks: Ranks, weights: Float64[np.ndarray, " model"], kept: Bool[np.ndarray, "sum model"]) -> Sums:
    """Returns Σ_model weight · g(p) over the models that each sum keeps, in fixed point.

    Args:
        ranks: some of the round's models.
        weights: theirs in the full meta model.
        kept: who counts in each sum.
    """
    sums = zero(kept.shape[0], ranks.stocks)
    if kept.shape[0]:
        add_kept(ranks.doubled, gauss_table(ranks.stocks), weights, np.ascontiguousarray(kept), sums)
    return sums


def from_sums(sums: Int64[np.ndarray, " stock"]) -> Float64[np.ndarray, " stock"]:
    """Returns the meta model of its fixed-point sums: one rounding to the nearest double, then an exact scaling."""
    return sums.astype(np.float64) * 2.0**-FRACTION_BITS


def meta_model(ranks: Ranks, weights: Float64[np.ndarray, " model"]) -> Float64[np.ndarray, " stock"]:
    """Returns the meta model of models that are all at hand."""
    return from_sums(partial_sums(ranks, weights[None, :])[0])
