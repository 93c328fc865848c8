"""An experiment's frames as exhibits need them: one variant's rows, a score as a matrix, pairs of rounds, intervals.

The failure guarded against: rounds taken as neighbours that share their days. A round resolves weeks after it closes,
and until then others close; `apart` finds for each round the first one that shares nothing with it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact

import numpy as np
import pandas as pd

from scoring.errors import OperatorError
from scoring.lab.statistics import Interval, Resampling, Statistic, block_bootstrap, mean
from tasks.lab.results import SCORES, Results

SAMPLES = 1_000
"""Of a bootstrap: enough for an interval of 95 % whose ends are shown with three digits."""

_EXACT = Context(prec=100, traps=[Inexact])


@dataclass(frozen=True, slots=True)
class Differences:
    """A variant against the baseline in the same rounds.

    Attributes:
        values: one a round, of rounds where both have the figure.
        mean: of the values; NaN where there are none.
        interval: of the mean, 95 %.
    """

    values: np.ndarray
    mean: float
    interval: Interval

    def sure(self) -> bool:
        """Returns whether the interval lies on one side of 0."""
        return self.interval.low > 0.0 or self.interval.high < 0.0


def rounds_of(results: Results, variant: str | None = None) -> pd.DataFrame:
    """Returns a variant's rounds, the baseline's by default, by round."""
    rows = results.rounds[results.rounds["variant"] == (variant or results.baseline)]
    return rows.sort_values("round").reset_index(drop=True)


def models_of(results: Results, variant: str | None = None) -> pd.DataFrame:
    """Returns a variant's models, the baseline's by default, by round and model."""
    rows = results.models[results.models["variant"] == (variant or results.baseline)]
    return rows.sort_values(["round", "model"]).reset_index(drop=True)


def variants_of(results: Results) -> list[str]:
    """Returns the variants in the order of the experiment."""
    return [str(each) for each in results.rounds["variant"].unique()]


def scores_present(models: pd.DataFrame, names: tuple[str, ...] = SCORES) -> list[str]:
    """Returns which of some scores have any value."""
    return [name for name in names if name in models and bool(models[name].notna().any())]


def matrix_of(models: pd.DataFrame, rounds: pd.DataFrame, column: str) -> np.ndarray:
    """Returns a column as (round, model), rounds as in `rounds`, models by name; NaN where a model has no row."""
    wide = models.pivot(index="round", columns="model", values=column)
    return wide.reindex(index=rounds["round"]).sort_index(axis=1).to_numpy(dtype=np.float64)


def neighbours(rounds: pd.DataFrame) -> list[tuple[int, int]]:
    """Returns pairs of places of consecutive rounds."""
    return [(place, place + 1) for place in range(len(rounds) - 1)]


def apart(rounds: pd.DataFrame) -> list[tuple[int, int]]:
    """Returns for each round the first that closes when it has resolved, as pairs of places."""

    def pairs() -> Iterator[tuple[int, int]]:
        for place, resolves_at in enumerate(rounds["resolves_at"]):
            later = [other for other, closes_at in enumerate(rounds["closes_at"]) if closes_at >= resolves_at]
            if later:
                yield place, later[0]

    return list(pairs())


def interval_of(values: np.ndarray, results: Results, statistic: Statistic = mean) -> Interval:
    """Returns the 95 % interval of a statistic over rounds, by a bootstrap of blocks of rounds that overlap.

    Args:
        values: (round,) or (round, k).
        results: whose rounds they are.
        statistic: of drawn rounds.
    """
    return block_bootstrap(values, Resampling(block_of(results), SAMPLES, results.seed), statistic)


def block_of(results: Results) -> int:
    """Returns how many rounds a block holds: as many as close until a round has resolved, itself included."""
    rounds = rounds_of(results)
    until = [
        sum(closes_at < resolves_at for closes_at in rounds["closes_at"].iloc[place:])
        for place, resolves_at in enumerate(rounds["resolves_at"])
    ]
    return min(max(until, default=1), max(1, len(rounds) // 2))


def differences(results: Results, variant: str, column: str) -> Differences:
    """Returns a variant's figure less the baseline's, round by round, with the interval of the mean."""
    base = rounds_of(results).set_index("round")[column].astype(float)
    other = rounds_of(results, variant).set_index("round")[column].astype(float)
    values = (other - base).dropna().to_numpy(dtype=np.float64)
    return Differences(values, mean(values), interval_of(values, results))


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Returns the sum of amounts of money, exact: Decimal's own context would keep 28 digits."""
    whole = Decimal(0)
    for amount in amounts:
        whole = _EXACT.add(whole, amount)
    return whole


def require_variants(results: Results, names: tuple[str, ...], exhibit: str) -> None:
    """Raises OperatorError unless the experiment has these variants."""
    missing = sorted(set(names) - set(variants_of(results)))
    if missing:
        raise OperatorError(f"exhibit {exhibit}: needs the variants {', '.join(missing)}; add them to the experiment")
