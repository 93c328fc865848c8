"""The passes over ranks: weighted sums over models, and dot products over stocks.

`add_weighted` and `add_kept` make meta models. Each term weight · table[rank] is rounded once to a multiple of
2^-FRACTION_BITS and added as a 64-bit integer, so that the sum has no order and no block size.
`dot_rows` makes scores: one price vector a score, one dot product a model. `products_of` decides `cwmm_max` after the
screening, `residual_rows` takes the features out of submissions.

All that call `dot` stand in this one file: numba keeps compiled code until the file of the caller changes, so a caller
elsewhere would go on with the `dot` of yesterday.
"""

import numpy as np

from scoring.kernels import Array, kernel

FRACTION_BITS = 58
"""Σ weight·|Φ⁻¹| ≤ 5.2 for weights that sum to 1 and up to a million stocks, so a sum stays below 2^61. The rounding of
one term is at most 2^-59: 10 000 models move a meta model by less than 2e-14 at worst, 1e-16 typically."""

_LANES = 8
"""Partial sums of a dot product. Eight doubles fill one 512-bit register; narrower machines use more registers and get
the same bits."""

_RESIDUAL_SCALE = 1e12

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
def add_kept(doubled: Array, table: Array, weights: Array, kept: Array, sums: Array) -> None:
    """Adds Σ_model weights[model] · table[rank] over the models that sum k keeps, in fixed point.

    A model's term is the same in every sum, so it is rounded once and then only added: 100 sums of 5 000 models and
    6 000 stocks take 0.3 s of one core.

    Args:
        doubled: (model, stock) ranks.
        table: (2n + 1,) float64, the value of each doubled rank.
        weights: (model,) float64, 0 … 1.
        kept: (sum, model) bool.
        sums: (sum, stock) int64 in units of 2^-FRACTION_BITS, added to.
    """
    models, n = doubled.shape
    scale = 2.0**FRACTION_BITS
    terms = np.empty(_TILE, np.int64)
    for start in range(0, n, _TILE):
        width = min(_TILE, n - start)
        for i in range(models):
            if weights[i] != 0.0:
                for j in range(width):
                    terms[j] = np.int64(np.rint(table[doubled[i, start + j]] * scale * weights[i]))
                for k in range(kept.shape[0]):
                    if kept[k, i]:
                        row = sums[k, start : start + width]
                        for j in range(width):
                            row[j] += terms[j]


@kernel
def dot(left: Array, right: Array) -> float:
    """Returns Σ left·right over float64 vectors, in eight fixed lanes."""
    lanes = np.zeros(_LANES)
    whole = left.size - left.size % _LANES
    for j in range(0, whole, _LANES):
        for lane in range(_LANES):
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


@kernel
def products_of(row: Array, partners: Array, chosen: Array, table: Array, out: Array) -> None:
    """Writes out[k] = Σ_stock table[row]·table[partners[chosen[k]]] over ranks, in the fixed lanes of `dot`.

    Args:
        row: (stock,) ranks.
        partners: (model, stock) ranks.
        chosen: (k,) rows of partners.
        table: (2n + 1,) float64.
        out: (k,) float64, written.
    """
    n = row.size
    left, right = np.empty(n), np.empty(n)
    for j in range(n):
        left[j] = table[row[j]]
    for k in range(chosen.size):
        partner = partners[chosen[k]]
        for j in range(n):
            right[j] = table[partner[j]]
        out[k] = dot(left, right)


@kernel
def _subtract_projection(residual: Array, columns: Array, factor: Array, spare: Array) -> None:
    """Subtracts from residual its least-squares fit on the columns, by two triangular substitutions."""
    rank = columns.shape[0]
    for r in range(rank):
        value = dot(columns[r], residual)
        for k in range(r):
            value -= factor[r, k] * spare[k]
        spare[r] = value / factor[r, r]
    for r in range(rank - 1, -1, -1):
        for k in range(r + 1, rank):
            spare[r] -= factor[k, r] * spare[k]
        spare[r] /= factor[r, r]
    for r in range(rank):
        coefficient, column = spare[r], columns[r]
        for j in range(residual.size):
            residual[j] -= coefficient * column[j]


@kernel
def residual_rows(doubled: Array, table: Array, columns: Array, factor: Array, out: Array) -> None:
    """Writes the residuals of table[rank] on the columns, in units of 1e-12, rounded to whole ones.

    Projecting twice takes the error of the normal equations (condition number squared) out of the residual.

    Args:
        doubled: (model, stock) ranks.
        table: (2n + 1,) float64.
        columns: (rank, stock) float64, independent.
        factor: (rank, rank) float64, the Cholesky factor of their Gram matrix.
        out: (model, stock) float64, written: whole numbers.
    """
    models, n = doubled.shape
    spare = np.empty(columns.shape[0])
    for i in range(models):
        residual = out[i]
        for j in range(n):
            residual[j] = table[doubled[i, j]]
        _subtract_projection(residual, columns, factor, spare)
        _subtract_projection(residual, columns, factor, spare)
        for j in range(n):
            residual[j] = np.rint(residual[j] * _RESIDUAL_SCALE)
