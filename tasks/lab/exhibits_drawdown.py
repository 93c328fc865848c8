"""In a drawdown of the portfolio: was there a combination of the submissions that did well, and could it be known?

    A  there was none: the submissions, or the data behind them, were not good enough
    B  there was one: the right submissions were there and were not the ones that counted

The failures guarded against: B, proven by hindsight, because some combination of many submissions always does well in a
few known rounds; and B, proven by looking only where the portfolio fell, where whatever is not the portfolio looks
better. So what could be known is also compared over all rounds.

References:
    "Numerai Fireside Chat Aftermath", the tournament's forum (2023), its first post: questions A and B.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scoring.lab.statistics import mean, sign_test
from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.exhibits_fits import (
    CORR,
    HINDSIGHT,
    PAST,
    RETURN,
    Course,
    Fall,
    Fitted,
    Unit,
    course_of,
    falls_of,
    fitted_on_the_past,
)
from tasks.lab.exhibits_frames import interval_of, rounds_of
from tasks.lab.exhibits_words import counted, interval, number, percent, probability
from tasks.lab.pictures import Axes, Picture, lines
from tasks.lab.results import Results

_FITS = {PAST: "fitted on past rounds", HINDSIGHT: "fitted on the same rounds (hindsight)"}
_LINES = {PAST: "past fit", HINDSIGHT: "hindsight fit"}
_HEADS = {PAST: "By what could be known", HINDSIGHT: "By hindsight"}


def drawdown_combination(results: Results) -> Exhibit:
    """Returns for the deepest drawdowns what the best combination gave, by the past and by hindsight."""
    whole = rounds_of(results)
    unit = RETURN if bool(whole["portfolio_return"].notna().any()) else CORR
    rounds = whole[whole["portfolio_return" if unit.compounds else "meta_model_corr"].notna()].reset_index(drop=True)
    past = fitted_on_the_past(results, rounds)
    falls = falls_of(results, rounds, unit, past)
    return Exhibit(
        "drawdown_combination",
        "The best combination in a drawdown",
        "When the fund lost, was there a combination of the submissions that did well (B), or was there none (A)? And "
        "could it be known beforehand?",
        _findings(results, falls, unit, _everywhere(results, course_of(rounds), past)),
        tuple(_picture(fall, unit) for fall in falls),
        (_table(falls, unit), *(_weights_table(fall) for fall in falls)) if falls else (),
    )


def _findings(results: Results, falls: Sequence[Fall], unit: Unit, everywhere: str) -> tuple[str, ...]:
    if not falls:
        return (f"In these rounds {unit.of} had no drawdown.",)
    if not results.grams or results.combined is None:
        return (
            f"The deepest drawdown of {unit.of} was {falls[0].name()}, by {unit.told(falls[0].depth)}. What "
            "combinations would have given was not computed in this experiment, so the question stays open.",
        )
    return (
        _answer(PAST, falls, unit),
        everywhere,
        _answer(HINDSIGHT, falls, unit),
        _caution(falls),
        *(_told(fall, unit) for fall in falls),
        *([] if unit.compounds else ["These rounds have no portfolio: the meta model's CORR is taken for a return."]),
    )


def _answer(name: str, falls: Sequence[Fall], unit: Unit) -> str:
    """Returns A or B for one fit, by how many drawdowns its combination gained in."""
    told = [(fall, each) for fall in falls if math.isfinite(each := unit.total(fall.fits[name].course))]
    rest = f" For {counted(len(falls) - len(told), 'drawdown')} no combination could be fitted."
    if not told:
        return f"{_HEADS[name]} the question stays open.{rest}"
    gained = sum(each > 0.0 for _, each in told)
    less = sum(unit.total(fall.compared(name)) < each <= 0.0 for fall, each in told)
    letter = "B" if gained == len(told) else "A" if gained == 0 else f"B in {gained}, A in {len(told) - gained}"
    return (
        f"{_HEADS[name]} the answer is {letter}: the combination {_FITS[name]} gained in {gained} of "
        f"{counted(len(told), 'drawdown')}, lost less than {unit.of} in {less} and as much or more in "
        f"{len(told) - gained - less}.{rest if len(told) < len(falls) else ''}"
    )


def _everywhere(results: Results, baseline: Course, past: Fitted) -> str:
    """Returns how what could be known compares with the meta model over all rounds, drawdown or not."""
    parts = [
        _against("CORR", past.course.corr, baseline.corr, results),
        _against("the portfolio's return", past.course.returns, baseline.returns, results),
    ]
    if not any(parts):
        return "No round had a combination that could be known, so it cannot be compared over all rounds."
    return (
        "In a drawdown anything but what fell looks good. Over all rounds, the combination that could be known gave "
        f"{' and '.join(filter(None, parts))}."
    )


def _against(text: str, ours: Sequence[float], theirs: Sequence[float], results: Results) -> str:
    """Returns the means of two courses over the rounds that have both, and their difference; nothing where none has."""
    one, other = np.array(ours), np.array(theirs)
    there = np.isfinite(one) & np.isfinite(other)
    difference = one[there] - other[there]
    if not difference.size:
        return ""
    signs, found = sign_test(difference), interval(interval_of(difference, results), 5)
    return (
        f"{text} {number(mean(one[there]), 5)} against {number(mean(other[there]), 5)} on average (95 % interval of "
        f"the difference {found}, higher in {signs.positive} of {counted(difference.size, 'round')}, "
        f"{probability(signs.p_value)})"
    )


def _caution(falls: Sequence[Fall]) -> str:
    sizes = [
        f"{counted(len(each.weights), 'model')} from {counted(each.rounds, 'round')}"
        for fall in falls
        if (each := fall.fits[HINDSIGHT].last) is not None
    ]
    return (
        f"The hindsight fits knew the targets ({'; '.join(sizes) or 'none was possible'}): that one exists says little "
        "about whether it could have been selected."
    )


def _told(fall: Fall, unit: Unit) -> str:
    state = "recovered" if fall.recovered else "not recovered"
    parts = [f"Drawdown {fall.name()}, {state}: {unit.of} {_figures(fall.baseline, unit)}"]
    for name, text in _FITS.items():
        fitted = fall.fits[name]
        rounds = sum(each is not None for each in fitted.combinations)
        if not rounds:
            parts.append(f"{text}: none")
            continue
        part = f"{text}: {_figures(fitted.course, unit)}"
        if rounds < len(fall.rounds):
            there = _figures(fall.compared(name), unit)
            part += f" in the {counted(rounds, 'round')} with a past, {unit.of} there {there}"
        parts.append(part)
    return "; ".join(parts) + "."


def _figures(course: Course, unit: Unit) -> str:
    return f"{unit.told(unit.total(course))}, CORR {number(mean(np.array(course.corr)), 4)}"


def _picture(fall: Fall, unit: Unit) -> Picture:
    drawn = {"meta model": fall.baseline} | {
        _LINES[name]: fitted.course for name, fitted in fall.fits.items() if fitted.last is not None
    }
    at = [float(fall.rounds[0] - 1), *(float(each) for each in fall.rounds)]
    ends = ", ".join(f"{name} {unit.told(unit.total(course))}" for name, course in drawn.items())
    return lines(
        f"Drawdown {fall.name()}",
        f"What the meta model and the fitted combinations gave from the drawdown's first round on; at its end: {ends}.",
        {name: (at, unit.sums(course)) for name, course in drawn.items()},
        Axes("round", unit.name, percent_y=unit.compounds),
    )


def _table(falls: Sequence[Fall], unit: Unit) -> Table:
    rows = []
    for fall in falls:
        row = {
            "drawdown": fall.name(),
            "depth": unit.told(fall.depth),
            f"meta model, {unit.name}": unit.told(unit.total(fall.baseline)),
            "meta model, mean CORR": number(mean(np.array(fall.baseline.corr)), 4),
        }
        for name, fitted in fall.fits.items():
            row[f"{_LINES[name]}, {unit.name}"] = unit.told(unit.total(fitted.course))
            row[f"{_LINES[name]}, mean CORR"] = number(mean(np.array(fitted.course.corr)), 4)
            row[f"{_LINES[name]}, rounds"] = str(sum(each is not None for each in fitted.combinations))
        rows.append(row)
    return Table("The deepest drawdowns, and the best combinations in them", pd.DataFrame(rows))


def _weights_table(fall: Fall, most: int = 10) -> Table:
    rows = [
        {"fit": _FITS[name], "fitted on": counted(found.rounds, "round"), "model": model, "weight": percent(weight)}
        for name, fitted in fall.fits.items()
        if (found := fitted.last) is not None
        for model, weight in sorted(found.weights.items(), key=lambda each: (-each[1], each[0]))[:most]
    ]
    frame = pd.DataFrame(rows, columns=["fit", "fitted on", "model", "weight"])
    return Table(f"The largest weights for drawdown {fall.name()}, of the last round's fit", frame)
