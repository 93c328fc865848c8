"""A play: what an attacker does in a round, as edits of its stakes and submissions.

    ground (what he can know) ── attack(ground, choice) ──► Pair(honest play, attacking play)

Both plays are carried out on the same round by the same rules, and what his models earn, and everybody else's, is
compared. A play says what he uploads, not what becomes of it: uploads go through the same checks as everybody's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from scoring.ranks import Ranks
from scoring.stakes import Stake, Stakes

Predictions = Float64[np.ndarray, " stock"]
"""As uploaded, one a stock of the universe in the order of sorted ids; NaN leaves the id out of the file."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What an attacker can know of a round.

    Attributes:
        ranks: all valid submissions, sorted by model; an attacker who knows others' submissions is the strongest.
        stakes: all stakes.
        meta_model: (stock,) the round's meta model without him, under the mechanism that is attacked.
        example: (stock,) doubled ranks of the example predictions.
        past_rate: mean payout less burn per stake of each model over the rounds that resolved before this one closed,
            in units of 1e-12; a model without a past is not in it.
        seed: of the round.
    """

    ranks: Ranks
    stakes: Stakes
    meta_model: Predictions
    example: Predictions
    past_rate: Mapping[str, int]
    seed: int


@dataclass(frozen=True, slots=True)
class Play:
    """What the attacker does.

    Attributes:
        own: the models that are his.
        stakes: rows that join the round's, or replace those of the same model.
        uploads: his predictions by model; they replace what the model submitted.
        withdrawn: models whose stake and submission are taken away.
        seed: in place of the round's, where he can choose it.
    """

    own: frozenset[str] = frozenset()
    stakes: tuple[Stake, ...] = ()
    uploads: Mapping[str, Predictions] = field(default_factory=dict)
    withdrawn: frozenset[str] = frozenset()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """The two plays that are compared: the same capital, honest and attacking."""

    honest: Play
    attacking: Play


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack.

    Attributes:
        name: by which an experiment's file asks for it.
        title: on one line, for people.
        how: what the attacker does and hopes for, in one or two sentences.
        plays: returns the pair; None where the round gives no occasion, e.g. nobody has a past yet.
        choices: the numbers of parts, or of tries, that he can choose between.
        between: whether any whole number between two choices is one too, so that the best can be searched for.
        each_round: whether he knows the best choice in every round (he has seen what it gives before he acts); else
            one choice, the best on average, is his for all rounds.
    """

    name: str
    title: str
    how: str
    plays: Callable[[Ground, int], Pair | None]
    choices: tuple[int, ...] = (1,)
    between: bool = False
    each_round: bool = False
