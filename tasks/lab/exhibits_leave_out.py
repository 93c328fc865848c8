"""The largest accounts leave: what becomes of the meta model and its portfolio.

Each variant `leave-out-k` weighs the same rounds without the k accounts with the most at stake. A difference is taken
round by round, because a good month is good with and without them, and has an interval and a test of its sign.

The failure guarded against: an effect read off two means. Rounds differ among themselves by far more than one meta
model from the other.

References:
    "Numerai Fireside Chat Aftermath", the tournament's forum (2023): on stake limits, and on what would happen if big
    accounts were to leave.
"""

import re

import pandas as pd

from scoring.errors import OperatorError
from scoring.lab.statistics import sign_test
from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.exhibits_frames import Differences, differences, rounds_of, variants_of
from tasks.lab.exhibits_words import counted, interval, number, percent, probability
from tasks.lab.pictures import Axes, Picture, bars, lines
from tasks.lab.results import Results

_FIGURES = {"meta_model_corr": "the meta model's CORR", "portfolio_return": "the portfolio's return"}
_NAME = re.compile(r"leave-out-(\d+)")


def leave_out(results: Results) -> Exhibit:
    """Returns what the meta model and the portfolio lose or gain without the largest accounts.

    Raises:
        OperatorError: the experiment has no variant `leave-out-k`.
    """
    left = _left_out(results)
    found = {
        column: {count: differences(results, variant, column) for count, variant in left.items()} for column in _FIGURES
    }
    known = {column: each for column, each in found.items() if any(one.values.size for one in each.values())}
    return Exhibit(
        "leave_out",
        "The largest accounts leave",
        "Would the meta model and the portfolio be worse or better without the largest stakers?",
        tuple(_finding(column, count, one) for column, each in known.items() for count, one in each.items())
        + tuple(f"These rounds do not tell {text}." for column, text in _FIGURES.items() if column not in known),
        (*(_picture(column, each) for column, each in known.items()), _over_time(results, left)),
        (_table(results, left, known),),
    )


def _left_out(results: Results) -> dict[int, str]:
    """Returns the variants by the number of accounts that they leave out."""
    matches = [match for match in map(_NAME.fullmatch, variants_of(results)) if match]
    if not matches:
        raise OperatorError("exhibit leave_out: needs variants named leave-out-1, leave-out-3, …; add them")
    return {int(match[1]): match[0] for match in sorted(matches, key=lambda match: int(match[1]))}


def _finding(column: str, count: int, found: Differences) -> str:
    who = f"Without {'the largest account' if count == 1 else f'the {count} largest accounts'}"
    figure = _FIGURES[column]
    if not found.values.size:
        return f"{who} these rounds do not tell {figure}."
    signs = sign_test(found.values)
    effect = ("higher" if found.mean > 0.0 else "lower") if found.sure() else "not surely different"
    return (
        f"{who} {figure} is {effect}: {number(found.mean, 5)} a round on average, 95 % interval "
        f"{interval(found.interval, 5)}; higher in {signs.positive} and lower in {signs.negative} of "
        f"{counted(found.values.size, 'round')} (sign test {probability(signs.p_value)})."
    )


def _picture(column: str, found: dict[int, Differences]) -> Picture:
    names = {count: f"without the largest {count}" if count > 1 else "without the largest" for count in found}
    values = {names[count]: each.mean for count, each in found.items()}
    told = ", ".join(f"{name} {number(each, 5)}" for name, each in values.items())
    return bars(
        f"What leaving changes: {_FIGURES[column]}",
        f"Mean difference a round to the baseline, with 95 % intervals: {told}.",
        {"with everybody": 0.0, **values},
        Axes("", "difference a round"),
        {names[count]: (each.interval.low, each.interval.high) for count, each in found.items()},
    )


def _over_time(results: Results, left: dict[int, str]) -> Picture:
    series, ends = {}, []
    for name in (results.baseline, *left.values()):
        rows = rounds_of(results, name)
        summed = rows["meta_model_corr"].astype(float).fillna(0.0).cumsum().tolist()
        series[name] = ([float(each) for each in rows["round"]], summed)
        ends.append(f"{name} {number(summed[-1])}" if summed else f"{name} –")
    return lines(
        "The meta model's CORR, summed over rounds",
        f"With and without the largest accounts; at the end: {', '.join(ends)}.",
        series,
        Axes("round", "CORR, summed"),
    )


def _table(results: Results, left: dict[int, str], known: dict[str, dict[int, Differences]]) -> Table:
    rows = []
    for count, variant in left.items():
        shares = rounds_of(results, variant)
        row = {
            "left out": count,
            "largest account's share then": percent(float(shares["largest_account_share"].astype(float).mean())),
            "effective models then": number(float(shares["effective_models"].astype(float).mean()), 1),
        }
        for column, found in known.items():
            row[_FIGURES[column]] = number(float(shares[column].astype(float).mean()), 5)
            row[f"{_FIGURES[column]}: difference"] = number(found[count].mean, 5)
            row[f"{_FIGURES[column]}: 95 % interval"] = interval(found[count].interval, 5)
        rows.append(row)
    return Table("Means over the rounds without the largest accounts", pd.DataFrame(rows))
