"""The conformity tax's own simulation, and how its assumption stands against the rounds.

The failure guarded against: a proposal judged by a distribution that its author guessed. The guess is reproduced to the
digit, and the rounds' correlations with the meta model are shown beside it.

References:
    "A Payout Scheme that Directly Encourages Unique Models", the tournament's forum.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scoring.lab.conformity_tax import (
    CURVE_THRESHOLD,
    SEED,
    Simulation,
    by_threshold,
    curves,
    simulation,
    total,
)
from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.exhibits_words import money, number, percent
from tasks.lab.pictures import Axes, Picture, bars, histograms, lines
from tasks.lab.results import Results

_HIGH = 0.8  # the proposal: "many of them have a >.8 correlation with the metamodel"


def conformity_tax_seed(results: Results) -> Exhibit:
    """Returns the proposal's simulation with its pictures, and the rounds' own correlations beside the assumed ones."""
    simulated = simulation()
    paid = {_label(threshold): each for threshold, each in by_threshold(simulated).items()}
    totals = {label: total(each) for label, each in paid.items()}
    found = _correlations(results)
    return Exhibit(
        "conformity_tax_seed",
        "The conformity tax: the proposal's simulation",
        "A forum post proposes to scale what a model is paid above a threshold T by 1 − M, its correlation with the "
        "meta model, and shows what that does to 1,000 simulated payouts. Are its totals right, and its guess of M?",
        (*_on_totals(simulated, totals), _on_correlations(simulated, found)),
        _pictures(simulated, paid, totals, found),
        (_table(totals),),
    )


def _label(threshold: float | None) -> str:
    return "no tax" if threshold is None else f"T = {threshold:g}"


def _correlations(results: Results) -> list[float]:
    rows = results.models[(results.models["variant"] == results.baseline) & (results.models["at_risk"] > 0)]
    return [float(each) for each in rows["cwmm"].dropna()]


def _on_totals(simulated: Simulation, totals: Mapping[str, float]) -> tuple[str, ...]:
    untaxed = totals[_label(None)]
    taxed = [f"{totals[label]!r} with {label} ({_less(totals, label)} less)" for label in list(totals)[1:]]
    touched = int(np.count_nonzero(simulated.payouts > CURVE_THRESHOLD))
    return (
        f"With seed {SEED} the simulation pays {untaxed!r} without a tax, {', '.join(taxed)}.",
        f"At T = {CURVE_THRESHOLD:g} the tax touches {touched} of {simulated.payouts.size:,} models; everybody else is "
        "paid in full, and losses are untouched at any threshold.",
    )


def _less(totals: Mapping[str, float], label: str) -> str:
    return percent(1.0 - totals[label] / totals[_label(None)])


def _on_correlations(simulated: Simulation, found: list[float]) -> str:
    guess = simulated.meta_model_corr
    guessed = f"The proposal guesses M with {_described(guess)}"
    if not found:
        return f"{guessed}; these rounds have no correlations with the meta model to compare it with."
    real = np.array(found)
    more = float(np.mean(np.clip(real, 0.0, 1.0))) > float(np.mean(guess))
    return (
        f"{guessed}. In the rounds looked at, staked models have {_described(real)}: of what is above a threshold the "
        f"tax would take {'more' if more else 'less'} on average than it was proposed with."
    )


def _described(correlations: np.ndarray) -> str:
    mean, spread = number(float(np.mean(correlations))), number(float(np.std(correlations)))
    return f"mean {mean}, standard deviation {spread}, {percent(float(np.mean(correlations > _HIGH)))} above {_HIGH}"


def _pictures(
    simulated: Simulation, paid: Mapping[str, np.ndarray], totals: Mapping[str, float], found: list[float]
) -> tuple[Picture, ...]:
    axes = Axes("rank by payout before tax", "payout")
    return (
        lines(
            "Payouts by rank",
            f"Simulated payouts fall from {money(float(simulated.payouts[-1]))} at rank 1 to nearly 0 at rank 1,000.",
            {_label(None): _by_rank(simulated.payouts)},
            axes,
        ),
        _assumed(simulated),
        *([_found(found)] if found else []),
        _curves(),
        lines(
            "Payouts by rank at each threshold",
            "What is below the untaxed line is withheld; the lower the threshold, the more of the top is: "
            f"{_told(totals)} in total.",
            {label: _by_rank(each) for label, each in paid.items()},
            Axes("rank by payout before tax (logarithmic)", "payout", log_x=True),
        ),
        bars("Total paid", f"Totals: {_told(totals)}.", dict(totals), Axes("", "total paid")),
    )


def _by_rank(payouts: np.ndarray) -> tuple[list[float], list[float]]:
    return [float(rank) for rank in range(1, payouts.size + 1)], payouts[::-1].tolist()


def _assumed(simulated: Simulation) -> Picture:
    return histograms(
        "Correlation with the meta model, assumed",
        f"A bell: {_described(simulated.meta_model_corr)}.",
        {"assumed": simulated.meta_model_corr.tolist()},
        Axes("correlation with the meta model", "models", x_limits=(0.0, 1.0)),
        bins=100,
    )


def _found(found: list[float]) -> Picture:
    return histograms(
        "Correlation with the meta model, in the rounds",
        f"What the rounds looked at have in place of the bell: {_described(np.array(found))}.",
        {"in the rounds": found},
        Axes("correlation with the meta model", "scores", x_limits=(min(0.0, *found), 1.0)),
        bins=100,
    )


def _curves() -> Picture:
    payouts, after = curves()
    top = {f"M = {each:g}": float(curve[-1]) for each, curve in after.items()}
    return lines(
        f"Payout after tax, T = {CURVE_THRESHOLD:g}",
        f"One line up to {CURVE_THRESHOLD:g}, losses included; above it they part. A payout of {payouts[-1]:g} becomes "
        + _told(top)
        + ".",
        {f"M = {each:g}": (payouts.tolist(), curve.tolist()) for each, curve in after.items()},
        Axes("payout before tax", "payout after tax"),
    )


def _told(values: Mapping[str, float]) -> str:
    return ", ".join(f"{money(value)} ({label})" for label, value in values.items())


def _table(totals: Mapping[str, float]) -> Table:
    frame = pd.DataFrame(
        {
            "threshold": list(totals),
            "total paid": [repr(each) for each in totals.values()],
            "withheld": [_less(totals, label) for label in totals],
        }
    )
    return Table(f"What 1,000 simulated models are paid in total, seed {SEED}", frame)
