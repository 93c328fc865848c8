"""The two passes over ranks: weighted sums over models, and dot products over stocks.

`add_weighted` makes meta models. Each term weight · table[rank] is rounded once to a multiple of 2^-FRACTION_BITS and
added as a 64-bit integer, so that the sum has no order and no block size.
`dot_rows` makes scores: one price vector a score, one dot product a model.
"""

import numpy as np

from scoring.kernels import LANES, Array, kernel

FRACTION_BITS = 58
"""Σ weight·|Φ⁻¹| ≤ 5.2 for weights that sum to 1 and up to a million stocks, so a sum stays below 2^61. The rounding of
one term is at most 2^-59: 10 000 models move a meta model by less than 2e-14 at worst, 1e-16 typically."""

# Stocks handled at a time: 21 rows of sums × 512 × 8 bytes stay in the second-level cache.
_TILE = 512


@kernel
def add_weighted(doubled: Array, table: Array, weights: Array, sums: Array) -> None:
    """Adds Σ_model weights[k, model] · table[rank] to sums[k], in fixed point.

    Args:
        doubled: (model, stock) ranks.
        table: (2n + 1,) float64, the value of each doubled rank.
        weights: (sum, model) float64, 0 … 1; a zero weight adds exactly nothing.
        sums: (sum, stock) int64 in units of 2^-FRACTION_BITS, added to.
    """
    models, n = doubled.shape
    scale = 2.0**FRACTION_BITS
    values = np.empty(_TILE)
    for start in range(0, n, _TILE):
        width = min(_TILE, n - start)
        for i in range(models):
            for j in range(width):
                values[j] = table[doubled[i, start + j]] * scale  # a power of two: exact
            for k in range(weights.shape[0]):
                weight = weights[k, i]
                if weight != 0.0:
                    row = sums[k, start : start + width]
                    for j in range(width):
                        row[j] += np.int64(np.rint(values[j] * weight))


@kernel
def dot(left: Array, right: Array) -> float:
    """Returns Σ left·right over float64 vectors, in eight fixed lanes."""
    lanes = np.zeros(LANES)
    whole = left.size - left.size % LANES
    for j in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += left[j + lane] * right[j + lane]
    for j in range(whole, left.size):
        lanes[j - whole] += left[j] * right[j]
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))


@kernel
def dot_rows(doubled: Array, table: Array, vectors: Array, inner: Array, moments: Array) -> None:
    """Writes each model's products with some vectors, and its own sum and sum of squares.

    Args:
        doubled: (model, stock) ranks.
        table: (2n + 1,) float64, the value of each doubled rank.
        vectors: (k, stock) float64.
        inner: (model, k) float64, written: Σ_stock table[rank] · vectors[k, stock].
        moments: (model, 2) float64, written: Σ table[rank] and Σ table[rank]².
    """
    models, n = doubled.shape
    values, ones = np.empty(n), np.ones(n)
    for i in range(models):
        for j in range(n):
            values[j] = table[doubled[i, j]]
        for k in range(vectors.shape[0]):
            inner[i, k] = dot(values, vectors[k])
        moments[i, 0] = dot(values, ones)
        moments[i, 1] = dot(values, values)
