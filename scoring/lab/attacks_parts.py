"""What attacks are built of: who is at risk, what can be copied or turned round, and the models of a newcomer.

Predictions are made of doubled ranks, d/(2n + 2) over n stocks, and turned round in ranks, (2n + 2 − d)/(2n + 2). So a
pair cancels to the last bit, which `1 − p` in floating point need not. The failures guarded against: a pair that leaves
something over by rounding and seems to pay, and a newcomer whose name somebody has already.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Shaped

from scoring.lab.plays import Ground, Play, Predictions
from scoring.ranks import rank_vector
from scoring.stakes import Stake

SMALL = 100
"""A newcomer stakes one part in so many of the total at risk, where nothing else is said: too little to move much."""

NEWCOMER = "attacker"
_RANDOM = 101
"""Second word of the key of a random prediction, apart from every `scoring.bags.Purpose`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a newcomer: his stake on it in atoms, and his predictions."""

    atoms: int
    predictions: Predictions


def at_risk(ground: Ground) -> tuple[Stake, ...]:
    """Returns the stakes with a valid submission on time, sorted by model."""
    valid = set(ground.ranks.models)
    return tuple(row for row in ground.stakes.rows if row.atoms > 0 and not row.late and row.model in valid)


def total_at_risk(ground: Ground) -> int:
    """Returns the sum of the stakes at risk, in atoms."""
    return sum(row.atoms for row in at_risk(ground))


def largest(ground: Ground) -> Stake | None:
    """Returns the largest stake at risk, of equal ones the first by name; None where nothing is at risk."""
    return max(at_risk(ground), key=lambda row: row.atoms, default=None)


def best(ground: Ground) -> str | None:
    """Returns the model at risk that earned most per stake so far, of equal ones the first by name; None where nobody
    has a past.
    """
    known = [row.model for row in at_risk(ground) if row.model in ground.past_rate]
    return max(known, key=lambda model: ground.past_rate[model], default=None)


def largest_burner(ground: Ground) -> str | None:
    """Returns the model of the largest stake at risk that lost so far; None where nobody did."""
    losing = [row for row in at_risk(ground) if ground.past_rate.get(row.model, 0) < 0]
    found = max(losing, key=lambda row: row.atoms, default=None)
    return None if found is None else found.model


def predictions_of(doubled: Shaped[np.ndarray, " stock"], *, turned: bool = False) -> Predictions:
    """Returns predictions in (0, 1) with these ranks.

    Args:
        doubled: (stock,) doubled ranks, 2 … 2n.
        turned: whether to return the opposite, the mirror image to the last bit.
    """
    whole = 2 * doubled.size + 2
    ranks = doubled.astype(np.float64)
    return (whole - ranks if turned else ranks) / whole


def submitted(ground: Ground, model: str, *, turned: bool = False) -> Predictions:
    """Returns predictions that rank as a model's submission, or as its opposite.

    Args:
        ground: the round.
        model: one with a valid submission.
        turned: whether to return the opposite.
    """
    return predictions_of(ground.ranks.doubled[ground.ranks.models.index(model)], turned=turned)


def copied(vector: Float64[np.ndarray, " stock"]) -> Predictions | None:
    """Returns predictions that rank as a vector; None where it ranks nothing: it is constant, or not finite."""
    if not np.isfinite(vector).all() or (vector == vector[0]).all():
        return None
    return predictions_of(rank_vector(vector).doubled[0])


def random_predictions(ground: Ground, *, turned: bool = False) -> Predictions:
    """Returns a prediction without any skill, or its opposite: a random order of the stocks, the same on every machine
    and in every play of the round.
    """
    stream = np.random.Philox(key=np.array([ground.seed, _RANDOM], dtype=np.uint64))
    order = np.argsort(stream.random_raw(ground.ranks.stocks), kind="stable")
    doubled = np.empty(order.size, np.int64)
    doubled[order] = 2 * np.arange(1, order.size + 1)
    return predictions_of(doubled, turned=turned)


def cut(atoms: int, parts: int) -> list[int]:
    """Returns whole parts that differ by one atom at most and sum to `atoms`, the larger ones first."""
    share, rest = divmod(atoms, parts)
    return [share + 1] * rest + [share] * (parts - rest)


def free_prefix(ground: Ground) -> str:
    """Returns `attacker`, or what is like it where a model or an account is called so already."""
    taken = {*ground.ranks.models, *(row.model for row in ground.stakes.rows)}
    taken |= {row.account for row in ground.stakes.rows if row.account is not None}
    prefix = NEWCOMER
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    return prefix


def free_names(ground: Ground, count: int) -> list[str]:
    """Returns names that nobody has, in order: `attacker_001`, …"""
    prefix = free_prefix(ground)
    return [f"{prefix}_{number:03d}" for number in range(1, count + 1)]


def newcomer(ground: Ground, entries: Sequence[Entry], accounts: Literal["one", "each"] = "one") -> Play:
    """Returns the play of somebody who was not there.

    His models choose the multipliers that the largest staker chose, so that the choice is one that is on offer.

    Args:
        ground: the round.
        entries: one a model.
        accounts: whether all his models are in one account or each is in its own.
    """
    prefix, names = free_prefix(ground), free_names(ground, len(entries))
    example = largest(ground)
    multipliers = {} if example is None else example.multipliers
    owners = [prefix] * len(names) if accounts == "one" else names
    rows = zip(names, owners, entries, strict=True)
    return Play(
        own=frozenset(names),
        stakes=tuple(Stake(model, owner, entry.atoms, multipliers) for model, owner, entry in rows),
        uploads={model: entry.predictions for model, entry in zip(names, entries, strict=True)},
    )
