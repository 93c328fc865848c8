"""Philox4x64-10 in plain Python integers.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC11, section 3.3 and table 2. Ten rounds;
a round multiplies two of the four words, crosses the halves of the products over, and adds in the key; the key moves
on by a Weyl sequence between rounds.
"""

from collections.abc import Iterator

MASK = 2**64 - 1
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # golden ratio, sqrt(3) - 1

Words = tuple[int, int, int, int]


def block(counter: Words, key: tuple[int, int]) -> Words:
    """The four random words that belong to one counter and key."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(MULTIPLIERS[0] * x0, 2**64)
        high1, low1 = divmod(MULTIPLIERS[1] * x2, 2**64)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def words(counter: Words, key: tuple[int, int]) -> Iterator[int]:
    """The stream `numpy.random.Philox(counter=counter, key=key).random_raw()` gives, word by word.

    The counter is one 256-bit number, its lowest word first; numpy moves it on by one before each block.
    """
    number = sum(word << (64 * place) for place, word in enumerate(counter))
    while True:
        number = (number + 1) % 2**256
        yield from block(tuple((number >> (64 * place)) & MASK for place in range(4)), key)
