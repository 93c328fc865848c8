"""A report's tables as a person reads them: the figures of all variants, who gains and who loses, any frame at all.

Digits are chosen by column, three significant ones of its largest number, so that numbers under one another compare. A
difference is marked where its interval leaves zero out, by an arrow and a word: everything else may be chance.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from scoring.errors import OperatorError
from tasks.lab.scales import PERCENT, digits_of, number

ABSENT = "–"
_LONG = 14  # rows; a longer table is folded
_SHOWN = 5
_WRITTEN = re.compile(r"[–−+\-\[]?[\d–−][\d,.\s%\[\]–−+\-]*")  # a number, a share, an interval in brackets
_GROUPS = (
    ("Money", ("paid", "burned", "net", "withheld", "compounded")),
    (
        "How payouts and weights are spread",
        (
            "gini_models",
            "gini_accounts",
            "effective_models",
            "largest_model_share",
            "largest_account_share",
            "effective_influence",
        ),
    ),
    ("What is paid for", ("pay_corr_tc", "pay_corr_mmc", "pay_corr_corr")),
    ("What the meta model is worth", ("meta_model_corr", "portfolio_return", "portfolio_drawdown")),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure of a variant in words.

    Attributes:
        value: the figure.
        interval: its confidence interval; empty where there is none.
        difference: against the baseline, with its sign; empty for the baseline itself.
        difference_interval: its confidence interval; empty where there is none.
        clear: "higher" or "lower" where that interval leaves 0 out, else empty.
    """

    value: str
    interval: str
    difference: str
    difference_interval: str
    clear: str


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that belong together.

    Attributes:
        title: of all of them.
        columns: label and unit of each.
        rows: a variant each, the baseline's first, with an entry a column.
        absent: labels of the figures that no variant has; they are no columns.
    """

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableView:
    """Any table in words; `numeric` tells which columns are numbers, `long` whether it is folded."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    long: bool


@dataclass(frozen=True, slots=True)
class Movers:
    """Who gains and who loses most under a variant: (account, net payout at the baseline, here, difference)."""

    variant: str
    gaining: tuple[tuple[str, str, str, str], ...]
    losing: tuple[tuple[str, str, str, str], ...]
    summary: str


def comparison_groups(comparison: pd.DataFrame, baseline: str) -> tuple[Group, ...]:
    """Returns the figures of all variants by group; figures that no group names stand in a last one.

    Raises:
        OperatorError: there is no row of the baseline.
    """
    variants = baseline_first(list(comparison["variant"]), baseline)
    present = list(dict.fromkeys(comparison["figure"]))
    named = {figure for _, figures in _GROUPS for figure in figures}
    rest = tuple(figure for figure in present if figure not in named)
    groups = []
    for title, figures in (*_GROUPS, ("More figures", rest)):
        frames = [comparison[comparison["figure"] == figure] for figure in figures if figure in present]
        if frames:
            groups.append(_group(title, frames, variants))
    return tuple(groups)


def _group(title: str, frames: Sequence[pd.DataFrame], variants: Sequence[str]) -> Group:
    shown = [frame for frame in frames if frame["value"].notna().any()]
    columns = [_entries(frame, variants) for frame in shown]
    heads = tuple(_head(str(frame["label"].iloc[0]), str(frame["unit"].iloc[0])) for frame in shown)
    rows = tuple((name, tuple(column[row] for column in columns)) for row, name in enumerate(variants))
    absent = tuple(str(frame["label"].iloc[0]) for frame in frames if frame["value"].isna().all())
    return Group(title, heads, rows, absent)


def _head(label: str, unit: str) -> tuple[str, str]:
    """Returns a column's label and its unit, which is left out where the label has said it."""
    return label, "" if unit in label else unit


def in_short(groups: Sequence[Group]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns what differs clearly from the baseline: a line a variant, with each such figure and its difference."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for name, entries in group.rows[1:]:
            clear = found.setdefault(name, [])
            for (label, unit), entry in zip(group.columns, entries, strict=True):
                if entry.clear:
                    money = f" {unit}" if unit not in ("", "%") else ""
                    clear.append(f"{label} {entry.difference}{money}")
    return tuple((name, tuple(clear)) for name, clear in found.items())


def baseline_first(names: Sequence[str], baseline: str) -> list[str]:
    """Returns the distinct names in their order, the baseline's before all others.

    Raises:
        OperatorError: it is not among them.
    """
    distinct = list(dict.fromkeys(names))
    if baseline not in distinct:
        raise OperatorError(f"the baseline must be one of the variants {distinct}, not {baseline!r}: name one of them")
    return [baseline, *(name for name in distinct if name != baseline)]


def signed(value: float, digits: int) -> str:
    """Returns a number with its sign, also where it is positive."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and any(digit in text for digit in "123456789") else text


def _entries(frame: pd.DataFrame, variants: Sequence[str]) -> list[Entry]:
    """Returns a figure's entries in the order of the variants; a variant without the figure has an empty one."""
    percent = frame["unit"].iloc[0] == "%"
    scale, suffix = (100.0, PERCENT) if percent else (1.0, "")
    sizes = np.abs(frame["value"].to_numpy(dtype=np.float64)) * scale
    digits = digits_of(float(np.nanmax(sizes, initial=0.0, where=np.isfinite(sizes))))
    found = {str(row["variant"]): row for row in frame.to_dict("records")}
    return [_entry(found.get(name), scale, digits, suffix) for name in variants]


def _entry(row: Mapping[Any, Any] | None, scale: float, digits: int, suffix: str) -> Entry:
    if row is None or not isfinite(float(row["value"])):
        return Entry(ABSENT, "", "", "", "")
    value, low, high, difference, below, above = (scale * float(row[key]) for key in _NUMBERS)
    return Entry(
        number(value, digits) + suffix,
        span(low, high, digits),
        signed(difference, digits) + suffix if isfinite(difference) else "",
        span(below, above, digits),
        "higher" if below > 0.0 else "lower" if above < 0.0 else "",
    )


_NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high")


def span(low: float, high: float, digits: int) -> str:
    """Returns an interval in words: from … to …; empty where there is none."""
    return f"{number(low, digits)} to {number(high, digits)}" if isfinite(low) and isfinite(high) else ""


def movers(models: pd.DataFrame, baseline: str) -> tuple[Movers, ...]:
    """Returns, for each variant but the baseline, the accounts whose net payout changes most, five each way."""
    if models.empty:
        return ()
    net = by_account(models, net_payouts(models))
    return tuple(
        _movers(variant, net[baseline], net[variant])
        for variant in baseline_first(list(dict.fromkeys(models["variant"])), baseline)[1:]
    )


def _movers(variant: str, before: Mapping[str, float], here: Mapping[str, float]) -> Movers:
    change = {name: here.get(name, 0.0) - before.get(name, 0.0) for name in sorted({*before, *here})}
    digits = digits_of(max(map(abs, (*before.values(), *here.values()))))
    gaining = sorted((name for name in change if change[name] > 0.0), key=lambda name: -change[name])
    losing = sorted((name for name in change if change[name] < 0.0), key=lambda name: change[name])

    def written(names: Sequence[str]) -> tuple[tuple[str, str, str, str], ...]:
        return tuple(
            (
                name,
                number(before.get(name, 0.0), digits),
                number(here.get(name, 0.0), digits),
                signed(change[name], digits),
            )
            for name in names[:_SHOWN]
        )

    words = f"{len(gaining):,} accounts gain, {len(losing):,} lose" if gaining or losing else "nobody gains or loses"
    return Movers(variant, written(gaining), written(losing), words)


def net_payouts(models: pd.DataFrame) -> np.ndarray:
    """Returns payout less burn of each row."""
    return models["payout"].to_numpy(dtype=np.float64) - models["burn"].to_numpy(dtype=np.float64)


def by_account(models: pd.DataFrame, amounts: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns the sum of each account's amounts by variant; a model without an account is one of its own.

    Args:
        models: as in `results.MODEL_COLUMNS`.
        amounts: one a row; those that are NaN are left out, and an account that has no other too.
    """
    account = models["account"].where(models["account"].notna() & (models["account"] != ""), models["model"])
    present = np.isfinite(amounts)
    found: dict[str, dict[str, float]] = {}
    for variant, name, amount in zip(models["variant"][present], account[present], amounts[present], strict=True):
        sums = found.setdefault(str(variant), {})
        sums[str(name)] = sums.get(str(name), 0.0) + float(amount)
    return found


def table_view(caption: str, frame: pd.DataFrame) -> TableView:
    """Returns a frame in words: its columns' names are the headings, the index is not shown."""
    numeric = tuple(_is_numeric(frame.iloc[:, column]) for column in range(frame.shape[1]))
    columns = [_column(frame.iloc[:, column], numeric[column]) for column in range(frame.shape[1])]
    heads = tuple(str(name).replace("_", " ") for name in frame.columns)
    return TableView(caption, heads, tuple(zip(*columns, strict=True)), numeric, len(frame) > _LONG)


def _is_number(value: object) -> bool:
    return isinstance(value, Real | Decimal) and not isinstance(value, bool | np.bool_)


def _is_numeric(column: "pd.Series[Any]") -> bool:
    """Whether a column is set like numbers: it has nothing but numbers, or words that are written numbers."""
    values = [value for value in column if not _absent(value)]
    return bool(values) and all(
        _is_number(value) or (isinstance(value, str) and _WRITTEN.fullmatch(value)) for value in values
    )


def _absent(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and not isfinite(value))


def _column(column: "pd.Series[Any]", numeric: bool) -> list[str]:
    if not (numeric and all(_is_number(value) for value in column if not _absent(value))):
        return [ABSENT if _absent(value) else _word(value) for value in column]
    whole = all(_absent(value) or isinstance(value, Integral) for value in column)
    sizes = [abs(float(value)) for value in column if not _absent(value)]
    digits = 0 if whole else digits_of(max(sizes, default=0.0))
    label = whole and str(column.name).lower() in ("round", "seed", "number")  # a name, not an amount
    return [ABSENT if _absent(value) else str(value) if label else number(float(value), digits) for value in column]


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[bool(value)] if isinstance(value, bool | np.bool_) else str(value)
