"""The attack matrix: does an attack pay under a mechanism, on average over the rounds, and how sure is that?

Where the attacker can choose (in how many parts to split), he takes the one choice that is best on average; where he
sees beforehand what each choice gives, the best of every round. The verdict follows from the intervals:

    pays    the interval of the gain is above 0
    harms   it costs him nothing to speak of, and the interval of the harm, or of the throttle, is noticeably above 0
    fails   anything else
    none    no round gave occasion
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from jaxtyping import Float64

from scoring.lab.attacks import ATTACKS
from scoring.lab.statistics import Resampling, block_bootstrap, sign_test
from tasks.lab.attack_case import Blow, Choices

MATERIAL = 1e-9
"""A gain of less than a billionth of the stake is what rounding to whole atoms leaves, and counts as none."""
NOTICED = 1e-5
"""A harm of at most a thousandth of a per cent of the others' stakes is none that they would notice."""
FREE = 0.001
"""A loss of at most so much of what the others have at stake, a tenth of a per cent a round, is nothing to speak of."""

_TRIES = 3
"""Numbers that are tried at once on one side of the best so far."""

BLOW_COLUMNS = tuple(field.name for field in fields(Blow))
MATRIX_COLUMNS = (
    "mechanism",
    "attack",
    "title",
    "choice",
    "rounds",
    "gain",
    "low",
    "high",
    "p_value",
    "wins",
    "losses",
    "harm",
    "harm_low",
    "harm_high",
    "throttle",
    "throttle_low",
    "throttle_high",
    "detectability",
    "verdict",
)


def blows_frame(blows: Sequence[Blow]) -> pd.DataFrame:
    """Returns a row a mechanism, attack, choice and round."""
    rows = [{column: getattr(blow, column) for column in BLOW_COLUMNS} for blow in blows]
    return pd.DataFrame(rows, columns=list(BLOW_COLUMNS))


def matrix_frame(
    blows: pd.DataFrame, mechanisms: Sequence[str], attacks: Sequence[str], resampling: Resampling
) -> pd.DataFrame:
    """Returns a row a mechanism and attack.

    Args:
        blows: as `blows_frame` gives them.
        mechanisms, attacks: names, in the order of the report.
        resampling: how intervals are found.
    """
    rows = []
    for mechanism in mechanisms:
        for attack in attacks:
            own = blows[(blows["mechanism"] == mechanism) & (blows["attack"] == attack)]
            rows.append(_row(mechanism, attack, _chosen(own, attack), resampling))
    return pd.DataFrame(rows, columns=list(MATRIX_COLUMNS))


def best_choice(own: pd.DataFrame) -> int:
    """Returns the choice with the greatest gain over all rounds, of equal ones the smallest."""
    sums = _material(own["gain"].to_numpy())
    by_choice = pd.Series(sums).groupby(own["choice"].to_numpy()).sum()
    return int(by_choice.index[int(by_choice.to_numpy().argmax())])


def finer_choices(blows: Sequence[Blow]) -> Choices:
    """Returns what to try next where the best choice may lie between two that were tried; nothing where it is found.

    The gain is taken to rise to its best and to fall beyond it, as it does where parts are worth making until all are
    below a threshold. Between the best so far and the next on either side a few numbers are tried, until none is left.

    Args:
        blows: of all rounds, so far.
    """
    frame = blows_frame(blows)
    finer = {}
    for key, own in frame.groupby(["mechanism", "attack"], sort=False):
        mechanism, attack = str(key[0]), str(key[1])
        if ATTACKS[attack].between and (own["gain"] >= MATERIAL).any():
            tried, best = sorted(set(own["choice"].tolist())), best_choice(own)
            place = tried.index(best)
            below = range(tried[place - 1] + 1, best) if place else range(0)
            above = range(best + 1, tried[place + 1]) if place + 1 < len(tried) else range(0)
            if chosen := (*_spread(below), *_spread(above)):
                finer[mechanism, attack] = chosen
    return finer


def _spread(numbers: range) -> tuple[int, ...]:
    """Returns a few of the numbers, evenly."""
    step = -(-len(numbers) // _TRIES)
    return tuple(numbers[step - 1 :: step]) if numbers else ()


def _chosen(own: pd.DataFrame, attack: str) -> pd.DataFrame:
    """Returns a row a round: what the attacker chose."""
    if own.empty:
        return own
    if ATTACKS[attack].each_round:
        return own.loc[own.groupby("round")["gain"].idxmax()].sort_values("round")
    return own[own["choice"] == best_choice(own)].sort_values("round")


def _row(mechanism: str, attack: str, chosen: pd.DataFrame, resampling: Resampling) -> dict[str, object]:
    head = {"mechanism": mechanism, "attack": attack, "title": ATTACKS[attack].title, "rounds": len(chosen)}
    if chosen.empty:
        return {**head, "verdict": "none"}
    gains, harms, throttles = (_material(chosen[key].to_numpy()) for key in ("gain", "harm", "throttle"))
    gain, harm, throttle = (block_bootstrap(each, resampling) for each in (gains, harms, throttles))
    signs = sign_test(gains)
    free = (-gains * chosen["stake"]).mean() <= FREE * chosen["others"].mean()
    verdict = "pays" if gain.low > 0 else "harms" if free and max(harm.low, throttle.low) > NOTICED else "fails"
    return {
        **head,
        "choice": _one_choice(chosen, attack),
        "gain": gains.mean(),
        "low": gain.low,
        "high": gain.high,
        "p_value": signs.p_value,
        "wins": signs.positive,
        "losses": signs.negative,
        "harm": harms.mean(),
        "harm_low": harm.low,
        "harm_high": harm.high,
        "throttle": throttles.mean(),
        "throttle_low": throttle.low,
        "throttle_high": throttle.high,
        "detectability": chosen["detectability"].mean(),
        "verdict": verdict,
    }


def _material(values: Float64[np.ndarray, " round"]) -> Float64[np.ndarray, " round"]:
    return np.where(np.abs(values) < MATERIAL, 0.0, values)


def _one_choice(chosen: pd.DataFrame, attack: str) -> int | None:
    """Returns what the attacker chose, where he could choose, and chose the same in all rounds."""
    chooses = len(ATTACKS[attack].choices) > 1 and chosen["choice"].nunique() == 1
    return int(chosen["choice"].iloc[0]) if chooses else None
