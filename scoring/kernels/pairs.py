"""All pairs of submissions: integer dot products to screen, exact ones to decide.

Ten thousand submissions make fifty million pairs of six thousand stocks. Small integers stand in for the values: their
products add up in 32 bits without rounding, in any order, 16 to 32 at a time. What rounding the values to integers can
have changed is bounded, so that only the few pairs near a submission's best need the exact dot product.
"""

import numpy as np
from numpy.typing import NDArray

from scoring.kernels import kernel
from scoring.kernels.passes import dot


@kernel()
def look_up_rows(doubled: NDArray, table: NDArray, out: NDArray) -> None:
    """Writes out[model, stock] = table[rank]."""
    models, n = doubled.shape
    for i in range(models):
        for j in range(n):
            out[i, j] = table[doubled[i, j]]


@kernel()
def integer_products(left: NDArray, right: NDArray, out: NDArray) -> None:
    """Writes out[i, k] = Σ_stock left[i]·right[k] over int16 values as int32; the caller rules out overflow.

    Two rows meet four at a time, so that six reads serve eight products: 18 billion products a second on one core, where
    one row against one reaches 9. The numbers of rows are multiples of four; callers pad with zeros.
    """
    for k in range(0, right.shape[0], 4):
        c, d, e, f = right[k], right[k + 1], right[k + 2], right[k + 3]
        for i in range(0, left.shape[0], 2):
            a, b = left[i], left[i + 1]
            ac = ad = ae = af = bc = bd = be = bf = np.int32(0)
            for j in range(left.shape[1]):
                x, y = np.int32(a[j]), np.int32(b[j])
                u, v, w, z = np.int32(c[j]), np.int32(d[j]), np.int32(e[j]), np.int32(f[j])
                ac += x * u
                ad += x * v
                ae += x * w
                af += x * z
                bc += y * u
                bd += y * v
                be += y * w
                bf += y * z
            out[i, k], out[i, k + 1], out[i, k + 2], out[i, k + 3] = ac, ad, ae, af
            out[i + 1, k], out[i + 1, k + 1], out[i + 1, k + 2], out[i + 1, k + 3] = bc, bd, be, bf


@kernel()
def products_of(row: NDArray, partners: NDArray, table: NDArray, out: NDArray) -> None:
    """Writes out[k] = Σ_stock table[row]·table[partners[k]] over ranks, in the fixed lanes of `dot`."""
    n = row.size
    left, right = np.empty(n), np.empty(n)
    for j in range(n):
        left[j] = table[row[j]]
    for k in range(partners.shape[0]):
        for j in range(n):
            right[j] = table[partners[k, j]]
        out[k] = dot(left, right)
