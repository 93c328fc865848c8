"""Influence: what a holder's stake did to the meta model's result, and whether those with more stake do more good.

    influence = mean over rounds of Σ stake·TC        of an account's models, or of one model

A holder without a stake in a round has stake and influence 0 in it. The failures guarded against: a model with a stake
and no TC that counts as if it had done nothing (it is left out of both sides), and an interval that takes a hundred
accounts of one round for a hundred observations (it comes from resampled rounds, see `scoring.lab.statistics`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scoring.correlation import total
from scoring.lab.statistics import Statistic, pearson


@dataclass(frozen=True, slots=True)
class Influence:
    """Stakes and influence by round.

    Attributes:
        holders: accounts or models, sorted by name.
        stake: (round, holder) ≥ 0.
        influence: (round, holder) Σ stake·TC, of any sign.
        left_out: how many stakes had no TC and are in neither.
    """

    holders: tuple[str, ...]
    stake: Float64[np.ndarray, "round holder"]
    influence: Float64[np.ndarray, "round holder"]
    left_out: int

    def mean_stake(self) -> Float64[np.ndarray, " holder"]:
        """Returns each holder's mean stake over the rounds."""
        return _means(self.stake)

    def mean_influence(self) -> Float64[np.ndarray, " holder"]:
        """Returns each holder's mean influence over the rounds."""
        return _means(self.influence)

    def stacked(self) -> Float64[np.ndarray, "round two_holders"]:
        """Returns stakes and influence side by side, a row a round: what a bootstrap of rounds resamples."""
        return np.hstack([self.stake, self.influence])


def influence(
    rounds: Sequence[int],
    holders: Sequence[str],
    stakes: Float64[np.ndarray, " row"],
    scores: Float64[np.ndarray, " row"],
) -> Influence:
    """Returns stakes and influence by round and holder.

    Args:
        rounds: of each row.
        holders: whose each row is; an account with several models has several rows a round.
        stakes: ≥ 0.
        scores: TC, NaN where absent.
    """
    counted = (stakes > 0.0) & np.isfinite(scores)
    numbers, names = sorted(set(rounds)), sorted({name for name, kept in zip(holders, counted, strict=True) if kept})
    row, column = {each: i for i, each in enumerate(numbers)}, {each: i for i, each in enumerate(names)}
    stake, moved = np.zeros((len(numbers), len(names))), np.zeros((len(numbers), len(names)))
    for i in np.flatnonzero(counted).tolist():
        at = row[rounds[i]], column[holders[i]]
        stake[at] += stakes[i]
        moved[at] += stakes[i] * scores[i]
    return Influence(tuple(names), stake, moved, int(np.count_nonzero((stakes > 0.0) & ~np.isfinite(scores))))


def average_ranks(values: Float64[np.ndarray, " value"]) -> Float64[np.ndarray, " value"]:
    """Returns ranks from 1, equal values with the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - 0.5 * (count - 1.0))[place]


def spearman(x: Float64[np.ndarray, " value"], y: Float64[np.ndarray, " value"]) -> float | None:
    """Returns the correlation of ranks; None where one side is constant or there are fewer than two values."""
    return pearson(average_ranks(x), average_ranks(y))


Correlation = Callable[[Float64[np.ndarray, " value"], Float64[np.ndarray, " value"]], float | None]


def of_means(correlation: Correlation) -> Statistic:
    """Returns the statistic of `Influence.stacked` whose interval is wanted: the correlation of mean stake and mean
    influence over the rounds drawn, NaN where there is none."""

    def statistic(drawn: Float64[np.ndarray, "round k"]) -> float:
        means = _means(drawn)
        half = means.size // 2
        found = correlation(means[:half], means[half:])
        return float("nan") if found is None else found

    return statistic


def share_above(
    stakes: Float64[np.ndarray, " holder"], moved: Float64[np.ndarray, " holder"]
) -> tuple[Float64[np.ndarray, " holder"], Float64[np.ndarray, " holder"]]:
    """Returns, for each stake from the smallest up, the share of Σ|influence| of the holders with at least that stake.

    Args:
        stakes: mean stakes.
        moved: mean influence; all 0 gives shares of 0.
    """
    order = np.argsort(stakes, kind="stable")
    whole = total(np.abs(moved))
    tail = np.cumsum(np.abs(moved[order])[::-1])[::-1]
    ascending = stakes[order]
    first = np.searchsorted(ascending, ascending, side="left")  # equal stakes: all of them are at least that
    return ascending, tail[first] / whole if whole > 0.0 else np.zeros(stakes.size)


def _means(values: Float64[np.ndarray, "round k"]) -> Float64[np.ndarray, " k"]:
    """Returns means over rounds, summed in their order."""
    return np.cumsum(values, axis=0)[-1] / values.shape[0] if values.shape[0] else np.zeros(values.shape[1])
