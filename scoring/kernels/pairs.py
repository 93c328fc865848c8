"""Exact products of one submission with a few others: what decides `cwmm_max` after the screening."""

import numpy as np

from scoring.kernels import Array, kernel
from scoring.kernels.passes import dot


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
