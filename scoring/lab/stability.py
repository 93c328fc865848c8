"""How steady a score is: over a model's rounds, against other models, and against another score's scale.

All take a matrix of scores, (round, model), NaN where a model has none; a figure that no scores tell is None. The
failure guarded against: rounds that share most of the days of their targets, and so look alike whatever the score. The
pairs of rounds that are compared are the caller's choice, and rounds that do not overlap can be asked for.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from scoring.correlation import total
from scoring.lab.influence import spearman

Pairs = Sequence[tuple[int, int]]
"""Pairs of rows: an earlier round and a later one."""

_FEWEST_MODELS = 3
"""Below it, a correlation of two rounds says nothing: with two models it is always 1 or −1."""


def spread_over_rounds(scores: Float64[np.ndarray, "round model"]) -> float | None:
    """Returns the mean over models of the standard deviation over their rounds, of models with at least two."""
    return mean_of(scores.T, standard_deviation)


def spread_over_models(scores: Float64[np.ndarray, "round model"]) -> float | None:
    """Returns the mean over rounds of the standard deviation over their models, of rounds with at least two."""
    return mean_of(scores, standard_deviation)


def rank_persistence(scores: Float64[np.ndarray, "round model"], pairs: Pairs) -> Float64[np.ndarray, " told"]:
    """Returns the rank correlation of each pair of rounds that tells one, over models with a score in both."""
    both = [_both(scores, pair) for pair in pairs]
    found = [spearman(earlier, later) for earlier, later in both if earlier.size >= _FEWEST_MODELS]
    return np.array([each for each in found if each is not None], dtype=np.float64)


def sign_changes(scores: Float64[np.ndarray, "round model"], pairs: Pairs) -> float | None:
    """Returns the share of a model's pairs of rounds between which its score changes its sign; a 0 changes none."""
    changed, counted = 0, 0
    for pair in pairs:
        earlier, later = _both(scores, pair)
        changed += int(np.count_nonzero(earlier * later < 0.0))
        counted += earlier.size
    return changed / counted if counted else None


def distance(one: Float64[np.ndarray, " a"], other: Float64[np.ndarray, " b"]) -> float | None:
    """Returns the largest difference between two samples' distribution functions: 0 for equal ones, 1 for disjoint.

    References:
        Kolmogorov's and Smirnov's statistic of two samples.
    """
    if not one.size or not other.size:
        return None
    at = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(each), at, side="right") / each.size for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def standard_deviation(values: Float64[np.ndarray, " value"]) -> float | None:
    """Returns the standard deviation with n − 1; None for fewer than two values."""
    if values.size < 2:
        return None
    centred = values - total(values) / values.size
    return float(np.sqrt(total(centred * centred) / (values.size - 1)))


def mean_of(
    rows: Float64[np.ndarray, "row value"], figure: Callable[[Float64[np.ndarray, " value"]], float | None]
) -> float | None:
    """Returns the mean over rows of a figure of what is present in each; rows without it are left out."""
    found = [figure(np.ascontiguousarray(row[np.isfinite(row)])) for row in rows]
    return _mean([each for each in found if each is not None])


def _both(
    scores: Float64[np.ndarray, "round model"], pair: tuple[int, int]
) -> tuple[Float64[np.ndarray, " both"], Float64[np.ndarray, " both"]]:
    earlier, later = scores[pair[0]], scores[pair[1]]
    present = np.isfinite(earlier) & np.isfinite(later)
    return earlier[present], later[present]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
