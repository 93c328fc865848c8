"""What to make, when its rounds take place, and the address of every random number.

A stream of random numbers is Philox keyed by (seed, purpose) with (round, index) in the upper half of its
counter. Two addresses share no number until one stream has used 2^128 of them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import numpy as np

from scoring.errors import OperatorError

FIRST_OPENS_AT = datetime(2000, 1, 1, 18, tzinfo=UTC)
"""When the first round opens, whatever its number: a Saturday so early that all rounds are in the past."""

MAX_ROUNDS = 1300
"""Weekly rounds until the end of 2024."""

MIN_STOCKS = 20
"""The fewest stocks that leave a stock in each of the target's bins of 5/20/50/20/5 %."""

MAX_STOCKS = 1 << 20
"""An id holds the stock's number in its last five hex digits."""

MIN_FEATURES = 3
"""One feature of each kind: informed, style, noise."""


class Purpose(IntEnum):
    """What random numbers are for; a value, once used, is never given to another purpose."""

    IDS = 1
    COUNTRIES = 2
    SECTORS = 3
    STYLES = 4
    RISK = 5
    COVARIANCE = 6
    RETURNS = 7
    RESIDUALS = 8
    ALPHA = 9
    FEATURES = 10
    TRAITS = 11
    TASTE = 12
    TEAM_NOISE = 13
    MODEL_NOISE = 14
    BENCHMARK_NOISE = 15
    STAKES = 16
    STAKE_STEPS = 17
    ATTENDANCE = 18
    FILES = 19


@dataclass(frozen=True, slots=True)
class SyntheticSpec:
    """A tournament to make.

    Attributes:
        rounds: number of weekly rounds, 1 … 1300.
        models: number of models, 1 … 2^32.
        stocks: stocks in every round, 20 … 1 048 576.
        seed: 0 … 2^64 − 1; another seed is another tournament.
        first_round: number of the first round, 0 … 2^30.
        features: number of features, 3 … 10 000.
        unstaked_share: share of the models without a stake, 0 ≤ share < 1; one model is staked in any case.
            Real rounds had 4 700 staked of 9 200.
        skip_share: share of the models that skip a round, 0 ≤ share < 1.
        late_share: share of the models that submit after the close, 0 ≤ share < 1.

    Raises:
        OperatorError: a number is outside its range.
    """

    rounds: int
    models: int
    stocks: int
    seed: int
    first_round: int = 1
    features: int = 24
    unstaked_share: float = 0.5
    skip_share: float = 0.01
    late_share: float = 0.003

    def __post_init__(self) -> None:
        _check("rounds", self.rounds, 1, MAX_ROUNDS)
        _check("models", self.models, 1, 1 << 32)
        _check("stocks", self.stocks, MIN_STOCKS, MAX_STOCKS)
        _check("seed", self.seed, 0, (1 << 64) - 1)
        _check("first_round", self.first_round, 0, 1 << 30)
        _check("features", self.features, MIN_FEATURES, 10_000)
        for name in ("unstaked_share", "skip_share", "late_share"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise OperatorError(f"synthetic tournament: {name} must be in 0 ≤ share < 1, found {share}")

    @property
    def round_numbers(self) -> range:
        """The numbers of all rounds, ascending."""
        return range(self.first_round, self.first_round + self.rounds)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise OperatorError(f"synthetic tournament: {name} must be {least} … {most}, found {value}")


@dataclass(frozen=True, slots=True)
class Calendar:
    """When a round opens (Saturday 18:00), closes (Monday 13:00) and resolves (22:00, 30 days later); UTC."""

    opens_at: datetime
    closes_at: datetime
    resolves_at: datetime


def calendar(spec: SyntheticSpec, round_number: int) -> Calendar:
    """Returns the calendar of a round of the tournament.

    Raises:
        OperatorError: the tournament has no such round.
    """
    rounds = spec.round_numbers
    if round_number not in rounds:
        raise OperatorError(f"synthetic tournament: has rounds {rounds[0]} … {rounds[-1]}, not {round_number}")
    opens_at = FIRST_OPENS_AT + timedelta(weeks=round_number - spec.first_round)
    closes_at = opens_at + timedelta(days=1, hours=19)
    return Calendar(opens_at, closes_at, closes_at + timedelta(days=30, hours=9))


def generator(spec: SyntheticSpec, purpose: Purpose, round_number: int = 0, index: int = 0) -> np.random.Generator:
    """Returns the stream at an address, at its start.

    Args:
        spec: gives the seed.
        purpose: what the numbers are for.
        round_number: 0 for what stays the same in all rounds.
        index: which model, family or file, ≥ 0.
    """
    key = spec.seed | purpose << 64
    counter = round_number << 128 | index << 192
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
