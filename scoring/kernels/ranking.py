"""Ranks of many rows: a coarse radix sort, a bounded insertion sort, then twice the average rank of each tie.

Twice the average rank of a tie is an integer (first + last), so ranks with ties need no floats. A row is first sorted
by 22 bits of its position between its least and greatest value (two counting passes), which leaves a few stocks in the
wrong order; an insertion sort mends them. Rows made to defeat that (all values in one corner of their range) run out of
a budget of moves and are sorted by all 64 bits instead, so no submission can slow a round down.
"""

import numpy as np

from scoring.kernels import Array, kernel

_DIGIT_BITS = 11
_BUCKETS = 1 << _DIGIT_BITS
_MASK = _BUCKETS - 1
_FULL_DIGITS = 6
_MOVES_A_STOCK = 8


@kernel
def _coarse_order(values: Array, order: Array, tagged: Array, spare: Array) -> None:
    """Writes to order the stocks sorted by 22 bits of their value's place between the least and the greatest.

    Key and stock travel in one 64-bit word, so that each of the two passes touches memory once.
    """
    low, high = values[0], values[0]
    for j in range(values.size):
        low, high = min(low, values[j]), max(high, values[j])
    scale = (_BUCKETS * _BUCKETS - 1) / (high - low) if high > low else 0.0
    if not np.isfinite(scale):
        scale = 0.0  # a range below the smallest normal number: leave all to the full sort
    counts = np.zeros((2, _BUCKETS), np.int64)
    for j in range(values.size):
        key = np.int64((values[j] - low) * scale)  # rounding never swaps two values
        counts[0, key & _MASK] += 1
        counts[1, key >> _DIGIT_BITS] += 1
        tagged[j] = key << 32 | j
    for digit in range(2):
        start = counts[digit]
        total = 0
        for value in range(_BUCKETS):
            count = start[value]
            start[value] = total
            total += count
        for j in range(values.size):
            word = tagged[j]
            value = (word >> (32 + digit * _DIGIT_BITS)) & _MASK
            spare[start[value]] = word
            start[value] += 1
        tagged, spare = spare, tagged
    for j in range(values.size):
        order[j] = tagged[j] & 0xFFFFFFFF


@kernel
def _full_order(values: Array, order: Array) -> None:
    """Writes to order the stocks sorted by all 64 bits of their value, in six passes of 11 bits."""
    bits = values.view(np.uint64)
    sign = np.uint64(1) << np.uint64(63)
    keys = np.empty(values.size, np.uint64)
    spare = np.empty(values.size, np.uint32)
    for j in range(values.size):
        key = np.uint64(0) if values[j] == 0.0 else bits[j]  # -0.0 ties with 0.0
        keys[j] = ~key if key & sign else key | sign
        order[j] = j
    for digit in range(_FULL_DIGITS):
        shift = np.uint64(digit * _DIGIT_BITS)
        start = np.zeros(_BUCKETS + 1, np.int64)
        for j in range(values.size):
            start[((keys[j] >> shift) & np.uint64(_MASK)) + 1] += 1
        start = np.cumsum(start)
        for j in range(values.size):
            value = (keys[order[j]] >> shift) & np.uint64(_MASK)
            spare[start[value]] = order[j]
            start[value] += 1
        order[:] = spare


@kernel
def _insertion_sort(values: Array, order: Array, budget: int) -> bool:
    """Sorts values in place and carries order along; returns False where the budget of moves ran out."""
    for j in range(1, values.size):
        value, position = values[j], order[j]
        to = j
        while to > 0 and values[to - 1] > value:
            values[to], order[to] = values[to - 1], order[to - 1]
            to -= 1
        values[to], order[to] = value, position
        budget -= j - to
        if budget < 0:
            return False
    return True


@kernel
def rank_rows(values: Array, doubled: Array) -> None:
    """Writes twice the average rank of each value in its row.

    Args:
        values: (model, stock) float64, finite.
        doubled: (model, stock) unsigned integers, written: 2 … 2n.
    """
    models, n = values.shape
    tagged, spare = np.empty(n, np.int64), np.empty(n, np.int64)
    order, ascending = np.empty(n, np.uint32), np.empty(n, np.float64)
    for i in range(models):
        _coarse_order(values[i], order, tagged, spare)
        for j in range(n):
            ascending[j] = values[i, order[j]]
        if not _insertion_sort(ascending, order, _MOVES_A_STOCK * n):
            _full_order(values[i], order)
            for j in range(n):
                ascending[j] = values[i, order[j]]
        first = 0
        while first < n:
            last = first
            while last + 1 < n and ascending[last + 1] == ascending[first]:
                last += 1
            for j in range(first, last + 1):
                doubled[i, order[j]] = first + last + 2
            first = last + 1


@kernel
def restrict_rows(doubled: Array, positions: Array, out: Array) -> None:
    """Ranks anew among the stocks at `positions`, by counting: ranks are already small integers.

    Args:
        doubled: (model, stock) ranks over the whole universe.
        positions: (scored,) ascending.
        out: (model, scored), written.
    """
    models, n = doubled.shape
    new_rank = np.empty(2 * n + 1, np.int64)
    for i in range(models):
        new_rank[:] = 0
        for j in range(positions.size):
            new_rank[doubled[i, positions[j]]] += 1
        below = 0
        for value in range(2 * n + 1):
            count = new_rank[value]
            new_rank[value] = 2 * below + count + 1
            below += count
        for j in range(positions.size):
            out[i, j] = new_rank[doubled[i, positions[j]]]


@kernel
def break_ties_rows(doubled: Array, out: Array) -> None:
    """Writes twice the rank with ties broken by position: the stock that stands first gets the lower rank.

    Args:
        doubled: (model, stock) tie-kept ranks.
        out: (model, stock), written: the even numbers 2 … 2n, each once a row.
    """
    models, n = doubled.shape
    following = np.empty(2 * n + 1, np.int64)
    for i in range(models):
        following[:] = 0
        for j in range(n):
            following[doubled[i, j]] += 1
        for value in range(2 * n + 1):
            following[value] = value - following[value] + 1  # a tie of c stocks begins (c − 1)/2 ranks below its mean
        for j in range(n):
            value = doubled[i, j]
            out[i, j] = following[value]
            following[value] += 2
