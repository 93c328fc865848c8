"""CORR, MMC, BMC and TC over time side by side, how steady each is, and whether three formulas give one MMC.

MMC replaced TC because it was said to be steadier and closer to CORR's distribution, shown by charts alone. Here each
half of the claim is a measure, and the sentence counts how many of them bear it out in the rounds looked at.

The failure guarded against: steadiness by overlap. Scores of neighbouring rounds share most of their days, so ranks
that persist from one to the next say little; the measure that counts takes rounds that share none.

References:
    The announcement of MMC's return, the tournament's forum (2023): "MMC is more stable than TC"; Richard's, Murky's
    and Mike's formulas "reach results that are 100% correlated".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from scoring.lab.stability import (
    distance,
    rank_persistence,
    sign_changes,
    spread_over_models,
    spread_over_rounds,
    standard_deviation,
)
from scoring.lab.statistics import Interval, mean, pearson
from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.exhibits_frames import apart, interval_of, matrix_of, models_of, neighbours, rounds_of, scores_present
from tasks.lab.exhibits_words import counted, interval, listed, number
from tasks.lab.pictures import Axes, Picture, bands, histograms, scatter
from tasks.lab.results import Results

_COMPARED = ("corr", "mmc", "bmc", "tc")
_FORMULAS = {"mmc": "Murky's", "mmc_richard": "Richard's", "mmc_mike": "Mike's"}
_BAND = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True)
class _Figures:
    """How steady one score is; None where the rounds do not tell."""

    over_rounds: float | None
    over_models: float | None
    persistence_next: float | None
    persistence_apart: float | None
    interval_apart: Interval
    sign_changes: float | None
    scale: float | None
    distance: float | None


@dataclass(frozen=True, slots=True)
class _Agreement:
    """How far two formulas agree: the correlation of all scores together, and the lowest of a round."""

    one: str
    other: str
    together: float | None
    lowest: float | None
    scores: int


@dataclass(frozen=True, slots=True)
class _Measure:
    """One way in which a score may be steadier than another."""

    text: str
    figure: Callable[[_Figures], float | None]
    larger_is_steadier: bool = False


_MEASURES = (
    _Measure("changes of sign from round to round", lambda f: f.sign_changes),
    _Measure("spread over a model's rounds against spread over models", lambda f: _ratio(f.over_rounds, f.over_models)),
    _Measure("rank correlation with the next round that shares no day", lambda f: f.persistence_apart, True),
    _Measure("distance of its distribution from CORR's", lambda f: f.distance),
)


def score_stability(results: Results) -> Exhibit:
    """Returns the scores' distributions over time, their stability, and the agreement of three formulas of MMC."""
    models, rounds = models_of(results), rounds_of(results)
    names = scores_present(models, _COMPARED)
    scores = {name: matrix_of(models, rounds, name) for name in names}
    figures = {name: _figures(scores[name], scores.get("corr"), results) for name in names}
    agreements = _agreements(models)
    return Exhibit(
        "score_stability",
        "CORR, MMC, BMC and TC over time",
        "MMC replaced TC because it “is more stable than TC”, and because three formulas for it agree. Is it so here?",
        (*_on_stability(figures, len(apart(rounds))), _on_formulas(agreements)),
        _pictures(scores, rounds, models),
        tuple(each for each in (_stability_table(figures), _agreement_table(agreements)) if not each.frame.empty),
    )


def _figures(scores: np.ndarray, corr: np.ndarray | None, results: Results) -> _Figures:
    values = scores[np.isfinite(scores)]
    rounds = rounds_of(results)
    near, far = (rank_persistence(scores, pairs) for pairs in (neighbours(rounds), apart(rounds)))
    base = corr[np.isfinite(corr)] if corr is not None else np.empty(0)
    return _Figures(
        spread_over_rounds(scores),
        spread_over_models(scores),
        mean(near) if near.size else None,
        mean(far) if far.size else None,
        interval_of(far, results),
        sign_changes(scores, neighbours(rounds)),
        _ratio(standard_deviation(values), standard_deviation(base)),
        distance(values, base),
    )


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _on_stability(figures: Mapping[str, _Figures], pairs: int) -> tuple[str, ...]:
    if not {"mmc", "tc"} <= figures.keys():
        missing = [name.upper() for name in ("mmc", "tc") if name not in figures]
        return (f"These rounds have no {listed(missing)}, so they cannot tell whether MMC is steadier than TC.",)
    better, worse = _compared(figures["mmc"], figures["tc"])
    told = len(better) + len(worse)
    verdict = "MMC is the steadier score" if len(better) > len(worse) else "MMC is not the steadier score"
    if better and worse and len(better) == len(worse):
        verdict = "neither MMC nor TC is the steadier score"
    scale = {name: number(figures[name].scale, 2) for name in ("mmc", "tc")}
    return (
        f"In these rounds {verdict}: MMC does better than TC in {len(better)} of {counted(told, 'measure')}.",
        *([f"MMC does better in {_told(better, figures)}."] if better else []),
        *([f"TC does better in {_told(worse, figures)}."] if worse else []),
        f"MMC's standard deviation is {scale['mmc']} times CORR's, TC's {scale['tc']} times.",
        f"{counted(pairs, 'pair')} of rounds that share no day {'was' if pairs == 1 else 'were'} compared.",
    )


def _compared(mmc: _Figures, tc: _Figures) -> tuple[list[_Measure], list[_Measure]]:
    """Returns the measures by which MMC is the steadier score, and those by which TC is; equal ones are in neither."""
    better: list[_Measure] = []
    worse: list[_Measure] = []
    for measure in _MEASURES:
        one, other = measure.figure(mmc), measure.figure(tc)
        if one is None or other is None or one == other:
            continue
        (better if (one > other) == measure.larger_is_steadier else worse).append(measure)
    return better, worse


def _told(measures: Sequence[_Measure], figures: Mapping[str, _Figures]) -> str:
    return "; ".join(
        f"{each.text} (MMC {number(each.figure(figures['mmc']))}, TC {number(each.figure(figures['tc']))})"
        for each in measures
    )


def _agreements(models: pd.DataFrame) -> list[_Agreement]:
    names, found = scores_present(models, tuple(_FORMULAS)), []
    for one, other in combinations(names, 2):
        both = models[["round", one, other]].dropna()
        single = [_correlation(part, one, other) for _, part in both.groupby("round")]
        lowest = min((each for each in single if each is not None), default=None)
        found.append(_Agreement(_FORMULAS[one], _FORMULAS[other], _correlation(both, one, other), lowest, len(both)))
    return found


def _correlation(rows: pd.DataFrame, one: str, other: str) -> float | None:
    return pearson(rows[one].to_numpy(dtype=np.float64), rows[other].to_numpy(dtype=np.float64))


def _on_formulas(agreements: Sequence[_Agreement]) -> str:
    if not agreements:
        return "Only one formula of MMC was computed in these rounds; their agreement cannot be told."
    told = [
        f"{each.one} and {each.other} MMC correlate {number(each.together, 9)} over {each.scores:,} scores together, "
        f"and at least {number(each.lowest, 9)} in any round"
        for each in agreements
    ]
    return "; ".join(told) + "."


def _pictures(scores: Mapping[str, np.ndarray], rounds: pd.DataFrame, models: pd.DataFrame) -> tuple[Picture, ...]:
    if not scores:
        return ()
    names = scores_present(models, tuple(_FORMULAS))
    points = {
        f"{_FORMULAS[other]} against {_FORMULAS['mmc']}": _points(models, "mmc", other)
        for other in names
        if other != "mmc" and "mmc" in names
    }
    pooled = {name.upper(): matrix[np.isfinite(matrix)].tolist() for name, matrix in scores.items()}
    drawn = scatter(
        "Three formulas, one MMC",
        "MMC by two other formulas against the published one: " + _on_formulas(_agreements(models)),
        points,
        Axes("Murky's MMC, in its standard deviations", "the other formula, in its own"),
    )
    return (
        _bands(scores, rounds),
        histograms(
            "All rounds together",
            f"Distributions of the scores; between their 5 % and 95 % quantiles lie: {_widths(pooled)}.",
            pooled,
            Axes("score", "scores"),
        ),
        *([drawn] if points else []),
    )


def _widths(pooled: Mapping[str, list[float]]) -> str:
    cuts = {name: np.quantile(each, (_BAND[0], _BAND[2])) for name, each in pooled.items()}
    return ", ".join(f"{name} {number(float(high - low), 4)}" for name, (low, high) in cuts.items())


def _bands(scores: Mapping[str, np.ndarray], rounds: pd.DataFrame) -> Picture:
    series, numbers = {}, [float(each) for each in rounds["round"]]
    for name, matrix in scores.items():
        rows = [row[np.isfinite(row)] for row in matrix]
        cut = [[float(np.quantile(row, q)) if row.size else float("nan") for row in rows] for q in _BAND]
        series[name.upper()] = (cut[0], cut[1], cut[2])
    swing = ", ".join(
        f"{name} from {number(float(np.nanmin(middle)))} to {number(float(np.nanmax(middle)))}"
        for name, (_, middle, _) in series.items()
    )
    return bands(
        "Distribution over time",
        f"By round, the median and the span from the 5 % to the 95 % quantile of all models. Medians: {swing}.",
        numbers,
        series,
        Axes("round", "score", shared_y=True),
    )


def _points(models: pd.DataFrame, x: str, y: str) -> tuple[list[float], list[float]]:
    """Returns two columns, each in units of its own standard deviation: the formulas have scales of their own."""
    both = models[[x, y]].dropna()
    scaled = [both[each] / (standard_deviation(both[each].to_numpy(dtype=np.float64)) or 1.0) for each in (x, y)]
    return scaled[0].tolist(), scaled[1].tolist()


def _stability_table(figures: Mapping[str, _Figures]) -> Table:
    rows = {
        name.upper(): [
            number(each.over_rounds, 4),
            number(each.over_models, 4),
            number(each.scale, 2),
            number(each.distance),
            number(each.persistence_next),
            number(each.persistence_apart),
            interval(each.interval_apart),
            number(each.sign_changes),
        ]
        for name, each in figures.items()
    }
    headings = [
        "sd over a model's rounds",
        "sd over a round's models",
        "sd against CORR's",
        "distance from CORR's distribution",
        "rank correlation with the next round",
        "with the next that shares no day",
        "its 95 % interval",
        "share of sign changes",
    ]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=headings)
    return Table("How steady each score is", frame.rename_axis("score").reset_index())


def _agreement_table(agreements: Sequence[_Agreement]) -> Table:
    frame = pd.DataFrame(
        {
            "formula": [each.one for each in agreements],
            "other": [each.other for each in agreements],
            "correlation together": [number(each.together, 12) for each in agreements],
            "lowest in a round": [number(each.lowest, 12) for each in agreements],
            "scores": [each.scores for each in agreements],
        }
    )
    return Table("Three formulas of MMC", frame)
