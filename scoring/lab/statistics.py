"""Statistics over rounds and over holders: how unequal, how certain, how deep, how much in the end.

Rounds overlap, so neighbouring rounds are alike: an interval comes from blocks of rounds drawn in a circle, seeded, and
the test of a sign is exact. All sums run in a fixed order or are exactly rounded, so a report has the same numbers on
every machine. The failures guarded against: an interval that takes overlapping rounds for independent ones and is too
narrow; one of so few rounds that it says nothing, drawn as if it did; and a wealth that pays out a round before it has
resolved.

References:
    Politis and Romano, A Circular Block-Resampling Procedure for Stationary Data (1992).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from scoring.correlation import centre
from scoring.errors import OperatorError
from scoring.kernels.passes import dot

Numbers = Sequence[int | float | Decimal] | Shaped[np.ndarray, " number"]
"""One a holder or a round; Python integers of any size, as atoms are."""

Statistic = Callable[[Float64[np.ndarray, "round *k"]], float]
"""Of rounds that were drawn: the same columns as the values, one row a round drawn."""

_PURPOSE = 102
"""Second word of the key of resamples, apart from every `scoring.bags.Purpose` and from the attacks'."""

_BINS = 1 << 32
_CONSTANT = 1e-12
"""What varies by less than this part of its largest value does so by rounding alone."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How rounds are drawn again.

    Attributes:
        block: rounds in a row that stay together, ≥ 1; at least as many as overlap.
        samples: how many times, ≥ 1.
        seed: 0 … 2^64 − 1. The same seed and number of rounds draw the same rounds whatever is looked at, so that a
            difference has the interval of the difference.
        level: coverage, between 0 and 1.

    Raises:
        OperatorError: one of them is out of range.
    """

    block: int = 4
    samples: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if min(self.block, self.samples) < 1:
            raise OperatorError(f"a bootstrap needs block and samples ≥ 1, found {self.block} and {self.samples}")
        if not 0 <= self.seed < 1 << 64:
            raise OperatorError(f"a bootstrap's seed must lie between 0 and 2^64 − 1, found {self.seed}")
        if not 0 < self.level < 1:
            raise OperatorError(f"a bootstrap's level must lie between 0 and 1, found {self.level}")


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies; NaN on both sides where there are too few rounds to say."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Signs:
    """How often a difference was above and below 0, and how likely a split as uneven is without a difference.

    Attributes:
        positive, negative: counts; what is exactly 0 or NaN is in neither.
        p_value: exact, two-sided; 1 where both are 0.
    """

    positive: int
    negative: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Drawdown:
    """A time below an earlier peak of wealth.

    Attributes:
        start: place of the first return that leads below the peak.
        trough: place of the return after which wealth is lowest.
        end: place of the return that leads back to the peak or above; None where none has.
        depth: loss from peak to trough as a fraction of the peak, above 0, at most 1.
    """

    start: int
    trough: int
    end: int | None
    depth: float


def gini(amounts: Numbers) -> float:
    """Returns the Gini coefficient Σ(2i − n − 1)·x_i / (n Σx) of ascending amounts: 0 where all have the same, 1 − 1/n
    where one of n holders has everything.

    Args:
        amounts: ≥ 0, one a holder, those with nothing among them. All 0 gives 0, nobody NaN.

    Raises:
        ValueError: an amount is negative or no number.
    """
    ordered = sorted(_shares(amounts))
    whole = len(ordered) * math.fsum(ordered)
    if not ordered or not whole:
        return 0.0 if ordered else math.nan
    return math.fsum((2 * i - len(ordered) + 1) * x for i, x in enumerate(ordered)) / whole


def effective_number(weights: Numbers) -> float:
    """Returns (Σw)²/Σw²: of n equal weights n, of one that has everything 1; 0 where all are 0.

    Args:
        weights: ≥ 0, on any scale.

    Raises:
        ValueError: a weight is negative or no number.
    """
    scaled = _shares(weights)
    squares = math.fsum(x * x for x in scaled)
    return math.fsum(scaled) ** 2 / squares if squares else 0.0


def mean(values: Float64[np.ndarray, "round *k"]) -> float:
    """Returns the mean of what is there, in a fixed order; NaN where nothing is."""
    there = values[~np.isnan(values)]
    return math.fsum(there.tolist()) / there.size if there.size else math.nan


def block_bootstrap(
    values: Float64[np.ndarray, "round *k"], resampling: Resampling, statistic: Statistic = mean
) -> Interval:
    """Returns the percentile interval of a statistic over rounds, by circular moving blocks.

    Args:
        values: (round,) or (round, k), in the order of time; the k columns of a round stay together. NaN where a round
            has none.
        resampling: how rounds are drawn.
        statistic: of the rounds drawn; samples in which it is NaN are left out.

    Returns:
        NaN on both sides where there are fewer rounds than two blocks, or no sample has the statistic.
    """
    if values.shape[0] < 2 * resampling.block:
        return Interval(math.nan, math.nan)
    drawn = rounds_drawn(values.shape[0], resampling)
    if statistic is mean and values.ndim == 1:
        found = means_of(values, drawn)
    else:
        found = np.array([statistic(values[rounds]) for rounds in drawn], dtype=np.float64)
    return interval_of(found, values.shape[0], resampling)


def interval_of(found: Float64[np.ndarray, " sample"], rounds: int, resampling: Resampling) -> Interval:
    """Returns the percentile interval of a figure from its value for each draw of rounds.

    Args:
        found: one a sample; NaN where there is none.
        rounds: how many there are to draw from.
        resampling: how they were drawn.

    Returns:
        NaN on both sides where there are fewer rounds than two blocks, or no sample has the figure.
    """
    there = found[~np.isnan(found)]
    if rounds < 2 * resampling.block or not there.size:
        return Interval(math.nan, math.nan)
    tail = (1.0 - resampling.level) / 2.0
    low, high = np.quantile(there, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


@lru_cache(maxsize=8)
def rounds_drawn(rounds: int, resampling: Resampling) -> Int64[np.ndarray, "sample round"]:
    """Returns the rounds that each sample draws: blocks that begin anywhere and go on from the last round to the first,
    until there are as many as there were.

    Args:
        rounds: how many there are, ≥ 1.
        resampling: how they are drawn. More samples leave the first as they were.
    """
    blocks = -(-rounds // resampling.block)
    stream = np.random.Philox(key=np.array([resampling.seed, _PURPOSE], dtype=np.uint64))
    words = stream.random_raw(resampling.samples * blocks) >> np.uint64(32)
    starts = (words * np.uint64(rounds) // np.uint64(_BINS)).astype(np.int64)  # one part in 2^32 · rounds uneven
    places = starts.reshape(resampling.samples, blocks, 1) + np.arange(resampling.block)
    drawn: Int64[np.ndarray, "sample round"] = places.reshape(resampling.samples, -1)[:, :rounds] % rounds
    drawn.setflags(write=False)
    return drawn


def sign_test(differences: Numbers) -> Signs:
    """Returns the exact two-sided sign test: is a difference above 0 as often as below?

    Args:
        differences: one a round; what is exactly 0 or NaN does not count.
    """
    positive, negative = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    count = positive + negative
    tail = sum(math.comb(count, k) for k in range(min(positive, negative) + 1))
    return Signs(int(positive), int(negative), min(1.0, 2 * tail / 2**count))


def drawdowns(returns: Numbers) -> list[Drawdown]:
    """Returns every drawdown of the wealth Π(1 + return), in the order of time.

    Args:
        returns: fractions ≥ −1, in the order of time; NaN counts as no change.

    Raises:
        ValueError: a return is below −1.
    """
    found: list[Drawdown] = []
    wealth = peak = lowest = 1.0
    start = trough = -1  # no drawdown is under way
    for place, value in enumerate(returns):
        if value < -1:
            raise ValueError(f"a return must be ≥ −1, found {value}")
        wealth *= 1.0 if math.isnan(value) else 1.0 + float(value)
        if wealth < peak:
            start = place if start < 0 else start
            if wealth < lowest:
                trough, lowest = place, wealth
            continue
        if start >= 0:
            found.append(Drawdown(start, trough, place, 1.0 - lowest / peak))
        peak = lowest = wealth
        start = trough = -1
    if start >= 0:
        found.append(Drawdown(start, trough, None, 1.0 - lowest / peak))
    return found


def largest_drawdown(returns: Numbers) -> Drawdown | None:
    """Returns the deepest drawdown, of equal ones the first; None where wealth never falls."""
    return max(drawdowns(returns), key=lambda each: each.depth, default=None)


def compounding(
    rates: Numbers | Float64[np.ndarray, "*sample round"], closes: Sequence[datetime], resolves: Sequence[datetime]
) -> Float64[np.ndarray, "*sample round"]:
    """Returns the wealth, just after each round has settled, of one unit that is staked in every round.

    A round puts at risk what is there when it closes, and pays when it resolves: a payout earns in the rounds that
    close at that instant or later. At one instant a settlement comes before a close, rounds settle in the order given,
    and a burn takes at most what is left, as in `scoring.chain`. So weekly rounds that resolve after four weeks give
    `stake[r] = stake[r−1] + payout[r−4]`.

    Args:
        rates: payout less burn as a fraction of the stake, the last axis rounds; NaN where a round paid nothing. Many
            samples of the same rounds are folded at once.
        closes, resolves: when, one a round, with time zone.

    Returns:
        As the rates; in the order given, which need not be the order of time.

    Raises:
        OperatorError: a round resolves no later than it closes.
        ValueError: there are not as many dates as rates.
    """
    for place, (close, resolve) in enumerate(zip(closes, resolves, strict=True)):
        if close >= resolve:
            when = f"closes at {close.isoformat()} and resolves at {resolve.isoformat()}"
            raise OperatorError(f"rounds that compound must close before they resolve; number {place} of them {when}")
    events = sorted([(at, 0, i) for i, at in enumerate(resolves)] + [(at, 1, i) for i, at in enumerate(closes)])
    earned = np.asarray(rates, dtype=np.float64)
    if earned.shape[-1] != len(closes):
        raise ValueError(f"a rate needs a close and a resolution: {earned.shape[-1]} rates, {len(closes)} closes")
    earned = np.where(np.isnan(earned), 0.0, earned)
    wealth, at_risk, after = np.ones(earned.shape[:-1]), np.zeros(earned.shape), np.zeros(earned.shape)
    for _, closing, place in events:
        if closing:
            at_risk[..., place] = wealth
        else:
            wealth = np.maximum(0.0, wealth + at_risk[..., place] * earned[..., place])
            after[..., place] = wealth
    return after


def pearson(x: Float64[np.ndarray, " value"], y: Float64[np.ndarray, " value"]) -> float | None:
    """Returns Pearson's correlation, summed in fixed lanes; None where a side is constant or there are fewer than two.

    Args:
        x, y: pairs; one with a NaN on either side is left out.
    """
    both = ~(np.isnan(x) | np.isnan(y))
    left, right = _scaled(x[both]), _scaled(y[both])
    if left is None or right is None:
        return None
    return max(-1.0, min(1.0, dot(left, right) / math.sqrt(dot(left, left) * dot(right, right))))


def _scaled(values: Float64[np.ndarray, " value"]) -> Float64[np.ndarray, " value"] | None:
    """Returns values centred and scaled to at most about 1, so that no square leaves the range; None if constant."""
    largest = float(np.abs(values).max()) if values.size > 1 else 0.0
    if not largest:
        return None
    centred = centre(np.ascontiguousarray(values / largest))
    spread = float(np.abs(centred).max())
    return centred / spread if spread > _CONSTANT else None


def means_of(
    values: Float64[np.ndarray, " round"], drawn: Int64[np.ndarray, "sample draw"]
) -> Float64[np.ndarray, " sample"]:
    """Returns each sample's mean of what is there, added round by round for all samples at once."""
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    sums, counts = np.zeros(drawn.shape[0]), np.zeros(drawn.shape[0])
    for rounds in drawn.T:
        sums += filled[rounds]
        counts += there[rounds]
    return np.divide(sums, counts, out=np.full(drawn.shape[0], math.nan), where=counts > 0)


def _shares(amounts: Numbers) -> list[float]:
    """Returns amounts ≥ 0 as fractions of the largest; Python integers of any size are divided exactly."""
    wrong = [amount for amount in amounts if not 0 <= amount < math.inf]
    if wrong:
        raise ValueError(f"amounts must be finite numbers ≥ 0, found {wrong[0]}")
    largest = max(amounts, default=0)
    return [float(amount / largest) for amount in amounts] if largest else [0.0] * len(amounts)
