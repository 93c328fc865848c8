"""Combinations of submissions in the portfolio's drawdowns: which were fitted on what, and what each gave.

    past        before each round anew, on the rounds that had resolved when it closed: what could be known
    hindsight   once, on the drawdown's own rounds

The failures guarded against: a fit that knows a round that was still open, and a comparison of unequal rounds. Where
nothing had resolved yet there is no combination, and the meta model is compared over the other rounds alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from scoring.lab.combination import Combination, fit
from scoring.lab.statistics import Drawdown, drawdowns
from tasks.lab.exhibits_words import number, percent
from tasks.lab.results import Combined, Results

PAST, HINDSIGHT = "past", "hindsight"
_MOST = 3


@dataclass(frozen=True, slots=True)
class Course:
    """What a meta model gave, round by round; NaN where it gave nothing."""

    corr: tuple[float, ...]
    returns: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Combinations by round, None where there is none, and what they gave."""

    combinations: tuple[Combination | None, ...]
    course: Course

    @property
    def last(self) -> Combination | None:
        """The newest combination."""
        return next((each for each in reversed(self.combinations) if each is not None), None)


@dataclass(frozen=True, slots=True)
class Fall:
    """A drawdown.

    Attributes:
        rounds: from the first that led below the peak to the deepest.
        depth: as a fraction of the peak.
        recovered: whether the peak was reached again.
        baseline: what the meta model gave in it.
        fits: by `PAST` and `HINDSIGHT`.
    """

    rounds: tuple[int, ...]
    depth: float
    recovered: bool
    baseline: Course
    fits: Mapping[str, Fitted]

    def name(self) -> str:
        """Returns its rounds in words."""
        first, last = self.rounds[0], self.rounds[-1]
        return f"round {first}" if first == last else f"rounds {first}–{last}"

    def compared(self, fitted: str) -> Course:
        """Returns what the meta model gave in the rounds in which a fit has a combination."""
        there = [each is not None for each in self.fits[fitted].combinations]
        corr, returns = (
            tuple(each if kept else math.nan for each, kept in zip(values, there, strict=True))
            for values in (self.baseline.corr, self.baseline.returns)
        )
        return Course(corr, returns)


@dataclass(frozen=True, slots=True)
class Unit:
    """By what a drawdown is told.

    Attributes:
        name: of its values.
        of: whose drawdown it is.
        compounds: whether values are returns of a wealth; else they are summed.
    """

    name: str
    of: str
    compounds: bool

    def values(self, course: Course) -> tuple[float, ...]:
        """Returns the values of a course."""
        return course.returns if self.compounds else course.corr

    def sums(self, course: Course) -> list[float]:
        """Returns what has come together after each round, 0 before the first; an absent value changes nothing."""
        sums = [0.0]
        for each in self.values(course):
            step = each if math.isfinite(each) else 0.0
            sums.append((1.0 + sums[-1]) * (1.0 + step) - 1.0 if self.compounds else sums[-1] + step)
        return sums

    def total(self, course: Course) -> float:
        """Returns what has come together at the end; NaN where no round has a value."""
        return self.sums(course)[-1] if any(map(math.isfinite, self.values(course))) else math.nan

    def told(self, value: float) -> str:
        """Returns a value in words."""
        return percent(value, 2) if self.compounds else number(value, 4)


RETURN = Unit("return", "the portfolio", True)
CORR = Unit("summed CORR", "the meta model's CORR", False)


def falls_of(results: Results, rounds: pd.DataFrame, unit: Unit, past: Fitted) -> list[Fall]:
    """Returns the deepest drawdowns, the deepest first.

    Args:
        results: where fits and what they give come from.
        rounds: the baseline's, all with a value of the unit.
        unit: the portfolio's return, or CORR.
        past: over the same rounds.
    """
    values = rounds["portfolio_return" if unit.compounds else "meta_model_corr"].astype(float).tolist()
    deepest = sorted(drawdowns(values), key=lambda each: (-each.depth, each.start))
    return [_fall(results, rounds, each, past) for each in deepest[:_MOST]]


def fitted_on_the_past(results: Results, rounds: pd.DataFrame) -> Fitted:
    """Returns for each round the combination fitted on the rounds that had resolved when it closed."""
    found = []
    for closes_at in rounds["closes_at"]:
        known = rounds.loc[rounds["resolves_at"] <= closes_at, "round"]
        found.append(_fit(results, known))
    return _fitted(found, rounds, results)


def course_of(rounds: pd.DataFrame) -> Course:
    """Returns what the baseline's meta model gave."""
    corr, returns = (
        tuple(float(each) for each in rounds[column]) for column in ("meta_model_corr", "portfolio_return")
    )
    return Course(corr, returns)


def _fall(results: Results, rounds: pd.DataFrame, drawdown: Drawdown, past: Fitted) -> Fall:
    inside = slice(drawdown.start, drawdown.trough + 1)
    rows = rounds.iloc[inside]
    once = _fit(results, rows["round"])
    before = Course(past.course.corr[inside], past.course.returns[inside])
    return Fall(
        tuple(int(each) for each in rows["round"]),
        drawdown.depth,
        drawdown.end is not None,
        course_of(rows),
        {
            PAST: Fitted(past.combinations[inside], before),
            HINDSIGHT: _fitted([once] * len(rows), rows, results),
        },
    )


def _fit(results: Results, numbers: pd.Series) -> Combination | None:
    return fit([results.grams[int(each)] for each in numbers if int(each) in results.grams])


def _fitted(found: Sequence[Combination | None], rounds: pd.DataFrame, results: Results) -> Fitted:
    given = [
        _given(each, int(number_), results, results.combined)
        for each, number_ in zip(found, rounds["round"], strict=True)
    ]
    return Fitted(tuple(found), Course(tuple(corr for corr, _ in given), tuple(each for _, each in given)))


def _given(found: Combination | None, number_: int, results: Results, combined: Combined | None) -> tuple[float, float]:
    """Returns what a combination gives in a round, of the models that are there: the others' share is theirs."""
    if found is None or combined is None or number_ not in results.grams:
        return math.nan, math.nan
    there = set(results.grams[number_].models)
    weights = {model: weight for model, weight in found.weights.items() if model in there}
    whole = sum(weights.values())
    return combined(number_, {m: weight / whole for m, weight in weights.items()}) if whole > 0.0 else (math.nan,) * 2
