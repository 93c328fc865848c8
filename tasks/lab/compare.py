"""Variants against the baseline: some figures of each, with intervals over rounds.

Every figure is a function of some rounds, in order; its interval comes from the same function on rounds drawn again in
blocks. All variants are looked at on the same draws, so the interval of a difference is that of a difference. A variant
that leaves a round unpaid has no figure for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from scoring.lab.statistics import (
    Resampling,
    compounding,
    effective_number,
    gini,
    interval_of,
    largest_drawdown,
    means_of,
    pearson,
    rounds_drawn,
)
from tasks.lab.results import MONEY

COMPARISON_COLUMNS = (
    "variant",
    "figure",
    "label",
    "unit",
    "value",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
)
Drawn = Int64[np.ndarray, "sample round"]
Values = Float64[np.ndarray, " sample"]
Statistic = Callable[["Paths", Drawn], Values]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a variant.

    Attributes:
        name, label: for programs and for people.
        unit: of the value, as printed; `%` where it is a fraction.
        of: its value for each draw of rounds.
    """

    name: str
    label: str
    unit: str
    of: Statistic


@dataclass(frozen=True, slots=True)
class Paths:
    """One variant's rounds as arrays; NaN where a round has no such number.

    Attributes:
        columns: (round,) each.
        models, accounts: (round, holder) payout less burn in the currency.
        closes, resolves: when; None where the variant leaves the round unpaid.
    """

    columns: Mapping[str, Float64[np.ndarray, " round"]]
    models: Float64[np.ndarray, "round model"]
    accounts: Float64[np.ndarray, "round account"]
    closes: tuple[pd.Timestamp | None, ...]
    resolves: tuple[pd.Timestamp | None, ...]


def compare(rounds: pd.DataFrame, models: pd.DataFrame, baseline: str, resampling: Resampling) -> pd.DataFrame:
    """Returns a row a variant and figure, see `COMPARISON_COLUMNS`; the baseline's first.

    Args:
        rounds, models: see `tasks.lab.results`.
        baseline: the variant that the others are compared with; its scores are everybody's yardstick.
        resampling: how rounds are drawn again.
    """
    numbers = sorted(rounds["round"].unique().tolist())
    drawn = rounds_drawn(len(numbers), resampling)
    once = np.arange(len(numbers))[None, :]
    yardstick = models[models["variant"] == baseline].set_index(["round", "model"])[["corr", "mmc", "tc"]]
    found: list[dict[str, object]] = []
    base: dict[str, tuple[float, Values]] = {}
    for variant in [baseline, *(each for each in rounds["variant"].unique() if each != baseline)]:
        paths = _paths(rounds[rounds["variant"] == variant], models[models["variant"] == variant], numbers, yardstick)
        for figure in FIGURES:
            value, values = float(figure.of(paths, once)[0]), figure.of(paths, drawn)
            head = {"variant": variant, "figure": figure.name, "label": figure.label, "unit": figure.unit}
            interval = interval_of(values, len(numbers), resampling)
            row: dict[str, object] = {**head, "value": value, "low": interval.low, "high": interval.high}
            if variant == baseline:
                base[figure.name] = value, values
            else:
                before, before_values = base[figure.name]
                interval = interval_of(values - before_values, len(numbers), resampling)
                row |= {"difference": value - before}
                row |= {"difference_low": interval.low, "difference_high": interval.high}
            found.append(row)
    return pd.DataFrame(found, columns=list(COMPARISON_COLUMNS))


def _paths(rounds: pd.DataFrame, models: pd.DataFrame, numbers: list[int], yardstick: pd.DataFrame) -> Paths:
    own = rounds.set_index("round").reindex(numbers)
    columns = {key: own[key].astype(float).to_numpy() for key in (*MONEY, *_MEANS)}
    columns["net"] = columns["payout"] - columns["burn"]
    columns["withheld"] = columns["gross_payout"] - columns["payout"]
    columns["rate"] = columns["net"] / columns["at_risk"]
    net = models.assign(net=models["payout"] - models["burn"])
    net["rate"] = net["net"] / net["at_risk"]
    columns |= {f"pay_corr_{key}": _pay_correlation(net, yardstick[key], numbers) for key in yardstick.columns}
    columns["effective_influence"] = _influence(net, yardstick["tc"], numbers)
    owners = net["account"].fillna("model " + net["model"])
    return Paths(
        columns=columns,
        models=_by_holder(net, net["model"], numbers),
        accounts=_by_holder(net, owners, numbers),
        closes=_dates(own["closes_at"]),
        resolves=_dates(own["resolves_at"]),
    )


def _dates(column: pd.Series) -> tuple[pd.Timestamp | None, ...]:
    return tuple(None if pd.isna(date) else date for date in column)


def _by_holder(net: pd.DataFrame, holders: pd.Series, numbers: list[int]) -> Float64[np.ndarray, "round holder"]:
    table = net["net"].groupby([net["round"], holders.rename("holder")]).sum().unstack()
    return table.reindex(numbers).fillna(0.0).to_numpy(dtype=np.float64)


def _pay_correlation(net: pd.DataFrame, scores: pd.Series, numbers: list[int]) -> Float64[np.ndarray, " round"]:
    """Returns, a round, the correlation of what a model is paid per stake with its score."""
    joined = net.set_index(["round", "model"])[["rate"]].join(scores.rename("score"))
    found = np.full(len(numbers), np.nan)
    for place, number in enumerate(numbers):
        group = joined[joined.index.get_level_values("round") == number]
        rho = pearson(group["rate"].to_numpy(), group["score"].to_numpy())
        found[place] = np.nan if rho is None else rho
    return found


def _influence(net: pd.DataFrame, tc: pd.Series, numbers: list[int]) -> Float64[np.ndarray, " round"]:
    """Returns, a round, the effective number of models by weight × True Contribution."""
    joined = net.set_index(["round", "model"])[["weight"]].join(tc.rename("tc"))
    moved = (joined["weight"] * joined["tc"]).abs().dropna()
    found = np.full(len(numbers), np.nan)
    for place, number in enumerate(numbers):
        group = moved[moved.index.get_level_values("round") == number]
        found[place] = effective_number(group.to_numpy()) or np.nan
    return found


def _mean(key: str) -> Statistic:
    return lambda paths, drawn: means_of(paths.columns[key], drawn)


def _sum(key: str) -> Statistic:
    return lambda paths, drawn: np.nan_to_num(paths.columns[key])[drawn].sum(axis=1)


def _gini(of_accounts: bool) -> Statistic:
    """Returns the Gini of what holders gained over the rounds; who lost gained nothing."""

    def of(paths: Paths, drawn: Drawn) -> Values:
        table = paths.accounts if of_accounts else paths.models
        counts = np.stack([np.bincount(each, minlength=table.shape[0]) for each in drawn])
        totals = np.maximum(counts @ table, 0.0)
        return np.array([gini(row) for row in totals]) if len(drawn) == 1 else _ginis(totals)

    return of


def _ginis(totals: Float64[np.ndarray, "sample holder"]) -> Values:
    """`gini` of many rows at once, for the intervals."""
    ordered, n = np.sort(totals, axis=1), totals.shape[1]
    whole = n * ordered.sum(axis=1)
    weighted = ordered @ (2.0 * np.arange(n) - n + 1)
    return np.divide(weighted, whole, out=np.zeros(len(totals)), where=whole > 0)


def _drawdown(paths: Paths, drawn: Drawn) -> Values:
    returns = paths.columns["portfolio_return"]
    if np.isnan(returns).all():
        return np.full(len(drawn), np.nan)
    if len(drawn) == 1:
        deepest = largest_drawdown(returns[drawn[0]])
        return np.array([0.0 if deepest is None else deepest.depth])
    wealth = np.cumprod(1.0 + np.nan_to_num(returns)[drawn], axis=1)
    peaks = np.maximum.accumulate(np.maximum(wealth, 1.0), axis=1)
    return (1.0 - wealth / peaks).max(axis=1)


def _compounded(paths: Paths, drawn: Drawn) -> Values:
    """Returns the growth of one unit staked on all in proportion; rounds that are drawn again keep their dates."""
    rates = paths.columns["rate"]
    there = [place for place, date in enumerate(paths.closes) if date is not None]
    closes = [date for date in paths.closes if date is not None]
    resolves = [date for date in paths.resolves if date is not None]
    if not there:
        return np.full(len(drawn), np.nan)
    last = max(range(len(there)), key=lambda place: (resolves[place], place))  # at one instant they settle in order
    return compounding(rates[drawn][:, there], closes, resolves)[:, last] - 1.0


_MEANS = ("effective_models", "largest_model_share", "largest_account_share", "meta_model_corr", "portfolio_return")

FIGURES = (
    Figure("paid", "paid", "currency", _sum("payout")),
    Figure("burned", "burned", "currency", _sum("burn")),
    Figure("net", "paid less burned", "currency", _sum("net")),
    Figure("withheld", "withheld by the rule", "currency", _sum("withheld")),
    Figure("compounded", "compounded return of all stakes", "%", _compounded),
    Figure("gini_models", "Gini of models' gains", "", _gini(of_accounts=False)),
    Figure("gini_accounts", "Gini of accounts' gains", "", _gini(of_accounts=True)),
    Figure("pay_corr_tc", "correlation of pay with TC", "", _mean("pay_corr_tc")),
    Figure("pay_corr_mmc", "correlation of pay with MMC", "", _mean("pay_corr_mmc")),
    Figure("pay_corr_corr", "correlation of pay with CORR", "", _mean("pay_corr_corr")),
    Figure("meta_model_corr", "CORR of the meta model", "", _mean("meta_model_corr")),
    Figure("portfolio_return", "portfolio return a round", "%", _mean("portfolio_return")),
    Figure("portfolio_drawdown", "largest drawdown of the portfolio", "%", _drawdown),
    Figure("effective_models", "effective number of models", "models", _mean("effective_models")),
    Figure("largest_model_share", "largest model's weight", "%", _mean("largest_model_share")),
    Figure("largest_account_share", "largest account's weight", "%", _mean("largest_account_share")),
    Figure("effective_influence", "effective number by influence", "models", _mean("effective_influence")),
)
"""Every figure, in the order of the report."""
