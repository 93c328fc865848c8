"""Feature neutralisation without LAPACK: the same residuals on every processor.

FNC ranks its residuals again, so a last-bit difference between two LAPACK builds could swap two stocks and change a
score. Here the Gram matrix is exact (features are small integers), the Cholesky factor and the substitutions run in one
fixed order, and residuals are rounded to 12 decimals before they are ranked.
"""

import numpy as np

from scoring.kernels import Array, kernel
from scoring.kernels.passes import dot

_RESIDUAL_SCALE = 1e12
_DEPENDENT = 1e-9
"""A column whose variance beyond the columns before it is below this share of its own is dropped. Features of small
integers that are not dependent leave far more."""


@kernel
def pivoted_cholesky(gram: Array, factor: Array, pivots: Array) -> int:
    """Factors the Gram matrix of the independent columns and returns their number, the rank.

    Args:
        gram: (column, column) float64, symmetric positive semidefinite; overwritten.
        factor: (column, column) float64, written: the lower triangle of the first rank rows.
        pivots: (column,) int64, written: the columns in the order of their pivots.
    """
    columns = gram.shape[0]
    scale = np.empty(columns)
    for c in range(columns):
        pivots[c], scale[c] = c, max(gram[c, c], 1.0)
    left = np.array([gram[c, c] for c in range(columns)])
    for r in range(columns):
        best = r
        for c in range(r + 1, columns):
            if left[pivots[c]] / scale[pivots[c]] > left[pivots[best]] / scale[pivots[best]]:
                best = c
        pivots[r], pivots[best] = pivots[best], pivots[r]
        for c in range(r):
            factor[r, c], factor[best, c] = factor[best, c], factor[r, c]
        pivot = pivots[r]
        if not left[pivot] > _DEPENDENT * scale[pivot]:
            return r
        factor[r, r] = np.sqrt(left[pivot])
        for c in range(r + 1, columns):
            value = gram[pivots[c], pivot]
            for k in range(r):
                value -= factor[c, k] * factor[r, k]
            factor[c, r] = value / factor[r, r]
            left[pivots[c]] -= factor[c, r] * factor[c, r]
    return columns


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
