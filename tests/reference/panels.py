"""Seeded random rounds for the tests: every way to tie, rows and columns in no order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Panel:
    """One round as a notebook would hold it; each table has its own order of rows."""

    predictions: pd.DataFrame
    target: pd.Series
    stakes: pd.Series
    features: pd.DataFrame
    accounts: pd.Series


def _styles(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """One column a habit of real participants: fine, binned, rounded, copied, inverted, almost constant."""
    fine = rng.permutation(n) / n + rng.uniform(0, 1 / n, n)
    bins = rng.integers(0, 5, n) / 4
    bins[:2] = 0.25, 0.75
    decimals = np.round(rng.uniform(0, 1, n), 2)
    decimals[:2] = 0.11, 0.93
    high, low, halves = np.full(n, 0.5), np.full(n, 0.5), np.full(n, 0.2)
    high[rng.integers(n)] = 0.9
    low[rng.integers(n)] = np.nextafter(0.5, 0)
    halves[: n // 2] = 0.7
    return {
        "fine": fine,
        "five_bins": bins,
        "two_decimals": decimals,
        "copy_of_fine": fine.copy(),
        "copy_of_bins": bins.copy(),
        "one_minus_fine": 1 - fine,
        "one_minus_bins": 1 - bins,
        "one_high": high,
        "one_low": low,
        "halves": halves,
        "fine_again": rng.uniform(0, 1, n),
        "tens": np.round(rng.permutation(n) / n, 1) if n > 9 else rng.permutation(n) / n,
    }


def _target(rng: np.random.Generator, n: int) -> np.ndarray:
    """0, .25, .5, .75, 1 with about 5/20/50/20/5 % of the stocks."""
    position = (rng.permutation(n) + 0.5) / n
    return np.searchsorted([0.05, 0.25, 0.75, 0.95], position) / 4


def panel(seed: int, n: int, *, features: int = 6, continuous_target: bool = False) -> Panel:
    """A round of n ≥ 3 stocks and twelve models, nine or ten of them staked."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"n{value:015x}" for value in rng.choice(16**10, n, replace=False) * 1_000_003])
    styles = _styles(rng, n)
    numbers = rng.permutation(len(styles))
    predictions = pd.DataFrame(
        {f"model_{number:02d}_{name}": p for number, (name, p) in zip(numbers, styles.items(), strict=True)},
        index=pd.Index(ids, name="id"),
    )
    models = predictions.columns.to_numpy()
    stakes = pd.Series(np.exp(rng.normal(1, 2, len(models))), index=models, name="stake")
    stakes.iloc[rng.choice(len(models), 2, replace=False)] = 0.0
    target = rng.normal(0, 0.1, n) if continuous_target else _target(rng, n)
    values = rng.integers(0, 5, (n, features))
    table = pd.DataFrame(values, index=predictions.index, dtype="int8")
    table.columns = [f"feature_{k}" for k in range(features)]
    accounts = pd.Series([f"account_{k}" for k in rng.integers(0, 5, len(models))], index=models)
    series = pd.Series(target, index=predictions.index, name="target")
    return Panel(
        predictions=predictions.iloc[rng.permutation(n), rng.permutation(len(models))],
        target=series.iloc[rng.permutation(n)],
        stakes=stakes.iloc[rng.permutation(len(models))],
        features=table.iloc[rng.permutation(n)],
        accounts=accounts,
    )


def numbers_of(series: pd.Series | Mapping[str, float]) -> pd.Series:
    """Float64 with nan where there is no score, by sorted label, however the series marks a missing value."""
    series = pd.Series(series)
    values = series.to_numpy(dtype=float, na_value=math.nan)
    return pd.Series(values, index=[str(label) for label in series.index]).sort_index()


def assert_close(
    actual: pd.Series | Mapping[str, float], expected: pd.Series | Mapping[str, float], tolerance: float = 1e-12
) -> None:
    """Same labels, same missing scores, all others within the absolute tolerance."""
    left, right = numbers_of(actual), numbers_of(expected)
    assert list(left.index) == list(right.index)
    assert list(left[left.isna()].index) == list(right[right.isna()].index)
    difference = (left - right).abs()
    assert not (difference > tolerance).any(), f"off by {difference.max():.3g} at {difference.idxmax()}"


def bits(series: pd.Series) -> dict[str, bytes]:
    """The 64 bits of every value by label; -0.0 is not 0.0 here."""
    numbers = numbers_of(series)
    return {label: np.float64(value).tobytes() for label, value in numbers.items()}
