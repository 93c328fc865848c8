"""The Cholesky factor of features' Gram matrix, without LAPACK: the same on every processor, dependent columns dropped.

FNC ranks its residuals again, so a last-bit difference between two LAPACK builds could swap two stocks and change a
score. Here the Gram matrix is exact (features are small integers), and the factor is made in one fixed order.
"""

import numpy as np

from scoring.kernels import Array, kernel

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
