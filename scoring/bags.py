"""Bags: random reweightings of the stakers, the same for every model and on every machine.

Bagged MMC (MMC2, 2020) averages over bags in which 67 % of the stakers are drawn with replacement; one drawn k times
weighs k times its stake. Randomness is the raw 64-bit words of Philox4x64-10, a counter-based generator with published
test vectors: key = (round seed, purpose), counter = bag. Our own integer arithmetic maps words to draws, so neither a
library's version nor the order of the work can change a draw.

References:
    Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011). Lemire, Fast Random Integer Generation in an
    Interval (ACM TOMACS 29(1), 2019), section 4, for the unbiased mapping.
"""

import hashlib
from collections.abc import Iterator, Sequence
from decimal import ROUND_FLOOR, Decimal
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float64

from scoring.rounds import ScoreOptions
from scoring.weights import stake_weights

_WORD = 1 << 64
_WORDS_AT_ONCE = 1024


class Purpose(IntEnum):
    """The second word of the key: draws for different purposes never share a stream."""

    MMC_BAGS = 1
    TC_DROPOUT = 2


def round_seed(tournament: str, number: int) -> int:
    """Returns the round's default seed: the first 8 bytes, big-endian, of SHA-256 of `<tournament>/<number>`."""
    return int.from_bytes(hashlib.sha256(f"{tournament}/{number}".encode()).digest()[:8], "big")


def random_words(seed: int, purpose: Purpose, bag: int) -> Iterator[int]:
    """Yields the raw 64-bit words of one bag's stream.

    Args:
        seed: the round's seed, 0 … 2^64 − 1.
        purpose: what the words are for.
        bag: the bag's number, ≥ 0.
    """
    stream = _stream(seed, purpose, bag)
    while True:
        yield from stream.random_raw(_WORDS_AT_ONCE).tolist()


def _stream(seed: int, purpose: Purpose, bag: int) -> np.random.Philox:
    key = np.array([seed, int(purpose)], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, bag, 0, 0], dtype=np.uint64))


def draw_counts(words: Iterator[int], stakers: int, draws: int) -> list[int]:
    """Draws with replacement and returns how often each staker was drawn.

    A word x becomes the index x·stakers >> 64; words that would favour some index are skipped.
    """
    counts = [0] * stakers
    unfair = (_WORD - stakers) % stakers
    while draws:
        index, rest = divmod(next(words) * stakers, _WORD)
        if rest >= unfair:
            counts[index] += 1
            draws -= 1
    return counts


def number_of_draws(stakers: int, fraction: Decimal) -> int:
    """Returns ⌊fraction · stakers + ½⌋, exactly, but at least one: an empty bag has no meta model."""
    return max(1, int((fraction * stakers + Decimal("0.5")).to_integral_value(ROUND_FLOOR)))


def dropout_kept(
    atoms: Sequence[int], seed: int, bags: int, dropout: Decimal, *, first: int = 0
) -> Bool[np.ndarray, "bag model"]:
    """Returns who survives each dropout bag: every staked model is dropped independently.

    A model is dropped where its word of the bag's stream, one a staked model in the order of names, is below
    dropout · 2^64.

    Args:
        atoms: stakes in atoms by model, sorted by name; 0 for models that do not count.
        seed: the round's seed.
        bags: how many.
        dropout: share to drop, 0 ≤ dropout < 1.
        first: number of the first bag.
    """
    staked = np.flatnonzero([stake > 0 for stake in atoms])
    limit = np.uint64(int(dropout * _WORD))
    kept = np.zeros((bags, len(atoms)), dtype=bool)
    for bag in range(bags):
        kept[bag, staked] = _stream(seed, Purpose.TC_DROPOUT, first + bag).random_raw(staked.size) >= limit
    return kept


def bag_weights(
    atoms: Sequence[int], accounts: Sequence[str | None], seed: int, options: ScoreOptions
) -> Float64[np.ndarray, "bag model"]:
    """Returns the weights of every bag; each bag that drew anybody sums to 1.

    Args:
        atoms: stakes in atoms, or a policy's amounts, by model, sorted by name; 0 for models that do not count
            (unstaked, late, refused).
        accounts: each model's owner; used where the operator's `bag_unit` is `account`.
        seed: the round's seed.
        options: number of bags, fraction drawn, what is drawn.
    """
    staked = [row for row, stake in enumerate(atoms) if stake > 0]
    by_account = options.bag_unit == "account"
    unit_of = {row: str(accounts[row]) if by_account else str(row) for row in staked}
    units = sorted(set(unit_of.values())) if by_account else [str(row) for row in staked]
    place = {unit: index for index, unit in enumerate(units)}
    weights = np.zeros((options.bags, len(atoms)))
    for bag in range(options.bags):
        words = random_words(seed, Purpose.MMC_BAGS, bag)
        counts = draw_counts(words, len(units), number_of_draws(len(units), options.bag_fraction)) if units else []
        drawn = [atoms[row] * counts[place[unit_of[row]]] for row in staked]
        weights[bag, staked] = stake_weights(drawn)
    return weights
