"""Stake × TC against stake: whether those with more stake do the meta model more good, and who moves it.

    influence of a holder = mean over rounds of Σ stake·TC

The post took one week's leaderboard and read two things off its clouds: no positive correlation of stake and influence
below a stake of 8,000, and above it a cloud so sparse that a few accounts decide. Here the correlation has an interval
over rounds, the density is drawn whole and zoomed, and the share of the joint influence above each stake is given.

The failure guarded against: a correlation of two sums that share a factor, read as skill. Influence contains the stake;
the correlation of stake with TC itself stands beside it.

References:
    "Numerai Fireside Chat Aftermath", the tournament's forum (2023): "If stake weighting worked, one would expect to
    see some positive correlation between stake and influence".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scoring.lab.influence import Influence, influence, of_means, share_above, spearman
from scoring.lab.statistics import Interval, effective_number, pearson
from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.exhibits_frames import interval_of, models_of
from tasks.lab.exhibits_words import counted, interval, money, number, percent
from tasks.lab.pictures import Axes, Picture, density, lines, scatter
from tasks.lab.results import Results

_ZOOM = 0.95
_TOP = (1, 3, 5, 10)
_HOLDERS = {"account": "accounts", "model": "models"}


@dataclass(frozen=True, slots=True)
class _Correlation:
    name: str
    value: float | None
    interval: Interval

    def told(self) -> str:
        return f"{self.name} {number(self.value)} {interval(self.interval)}"


@dataclass(frozen=True, slots=True)
class _Holders:
    """Accounts or models, with what is said of them."""

    kind: str
    found: Influence
    stake: np.ndarray
    influence: np.ndarray
    correlations: tuple[_Correlation, _Correlation]
    rate: float | None


def stake_influence(results: Results) -> Exhibit:
    """Returns stake × TC against stake, by account and by model, and where the joint influence lies."""
    models = models_of(results)
    holders = [_holders(results, _owned(models), column) for column in _HOLDERS]
    known = [each for each in holders if each.found.holders]
    return Exhibit(
        "stake_influence",
        "Stake and influence",
        "If stake weighting works, those with more stake should do the meta model more good: do stake and stake × TC "
        "go together, and how much of the joint influence is in few hands?",
        tuple(sentence for each in known for sentence in _findings(each))
        or ("These rounds have no TC of staked models, so influence cannot be told.",),
        tuple(picture for each in known for picture in _pictures(each)),
        tuple(_table(each) for each in known),
    )


def _owned(models: pd.DataFrame) -> pd.DataFrame:
    """Returns the models with a model's own name as its account where it has none."""
    return models.assign(account=models["account"].where(models["account"].notna(), models["model"]))


def _holders(results: Results, models: pd.DataFrame, column: str) -> _Holders:
    numbers = [models[name].to_numpy(dtype=np.float64) for name in ("at_risk", "tc")]
    found = influence([int(each) for each in models["round"]], models[column].astype(str).tolist(), *numbers)
    stake, moved = found.mean_stake(), found.mean_influence()
    return _Holders(
        _HOLDERS[column],
        found,
        stake,
        moved,
        (_correlated("Pearson", pearson, found, results), _correlated("Spearman", spearman, found, results)),
        spearman(stake, moved / stake) if stake.size else None,
    )


def _correlated(
    name: str, correlation: Callable[..., float | None], found: Influence, results: Results
) -> _Correlation:
    value = correlation(found.mean_stake(), found.mean_influence()) if found.holders else None
    if value is None:
        return _Correlation(name, None, Interval(math.nan, math.nan))
    return _Correlation(name, value, interval_of(found.stacked(), results, of_means(correlation)))


def _findings(holders: _Holders) -> tuple[str, ...]:
    first, second = holders.correlations
    left_out = f"; {counted(holders.found.left_out, 'stake')} without TC left out" if holders.found.left_out else ""
    size = int(holders.stake.size)
    order = np.argsort(-holders.stake, kind="stable")
    moved = np.abs(holders.influence)
    tops = [
        f"the largest {f'{top} hold' if top > 1 else 'holds'} {percent(_part(holders.stake, order[:top]))} of stake "
        f"and {percent(_part(moved, order[:top]))} of influence"
        for top in _TOP
        if top < size
    ]
    equal = [number(effective_number(each), 1) for each in (holders.stake, moved)]
    return (
        f"Over {size:,} {holders.kind}, stake and stake × TC correlate: {first.told()}, {second.told()} (95 % intervals"
        f" by resampled rounds{left_out}): {_verdict(first, second)}. Stake and TC itself: {number(holders.rate)}.",
        f"The stake is as concentrated as if {equal[0]} of the {size:,} {holders.kind} had it in equal parts, the "
        f"influence as if {equal[1]} had; {'; '.join(tops)}.",
    )


def _verdict(first: _Correlation, second: _Correlation) -> str:
    if first.interval.low > 0.0 and second.interval.low > 0.0:
        return "more stake went with more influence"
    if first.interval.high < 0.0 and second.interval.high < 0.0:
        return "more stake went with influence to the bad"
    return "that more stake does more good cannot be told from these rounds"


def _part(values: np.ndarray, chosen: np.ndarray) -> float | None:
    whole = float(np.sum(values))
    return float(np.sum(values[chosen])) / whole if whole else None


def _pictures(holders: _Holders) -> tuple[Picture, ...]:
    limit = float(np.quantile(holders.stake, _ZOOM))
    low = holders.stake <= limit
    axes = Axes("mean stake", "mean stake × TC")
    first, second = holders.correlations
    drawn = []
    for part, where, chosen in (
        ("all", "all stakes", np.full(low.size, True)),
        ("zoomed", f"the lower {percent(_ZOOM, 0)} of stakes, up to {money(limit)}", low),
    ):
        x, y = holders.stake[chosen].tolist(), holders.influence[chosen].tolist()
        spread = f"stake × TC runs from {number(min(y))} to {number(max(y))}"
        middle = money(float(np.median(x)))
        drawn += [
            scatter(
                f"Stake × TC against stake, {holders.kind}, {part}",
                f"{len(x):,} {holders.kind}, {where}: {spread}; over all of them {first.told()}, {second.told()}.",
                {holders.kind: (x, y)},
                axes,
            ),
            density(
                f"Where the {holders.kind} are, {part}",
                f"Density of {len(x):,} {holders.kind}, {where}; half of them stake at most {middle}.",
                x,
                y,
                axes,
            ),
        ]
    return (*drawn, _above(holders))


def _above(holders: _Holders) -> Picture:
    stakes, share = share_above(holders.stake, holders.influence)
    _, staked = share_above(holders.stake, holders.stake)
    reached = stakes[share >= 0.5]
    half = float(reached[-1]) if reached.size else 0.0
    those = counted(int(np.count_nonzero(holders.stake >= half)), holders.kind[:-1])
    return lines(
        f"Joint influence above a stake, {holders.kind}",
        f"Half of Σ|stake × TC| is held by those with at least {money(half)} at stake, {those} of {stakes.size:,}.",
        {"influence": (stakes.tolist(), share.tolist()), "stake": (stakes.tolist(), staked.tolist())},
        Axes("held by those with at least this stake", "share of the whole", percent_y=True, log_x=True),
    )


def _table(holders: _Holders, most: int = 20) -> Table:
    order = np.argsort(-np.abs(holders.influence), kind="stable")[:most]
    whole = float(np.sum(np.abs(holders.influence)))
    frame = pd.DataFrame(
        {
            holders.kind[:-1]: [holders.found.holders[at] for at in order],
            "mean stake": [money(float(holders.stake[at])) for at in order],
            "mean stake × TC": [number(float(holders.influence[at]), 4) for at in order],
            "share of Σ|stake × TC|": [
                percent(abs(float(holders.influence[at])) / whole if whole else None) for at in order
            ],
        }
    )
    return Table(f"The {holders.kind} with the most influence, to good or bad", frame)
