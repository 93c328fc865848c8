"""The arithmetic of weight policies: shares, roots, logarithms and caps as whole numbers.

All is exact or rounded by rule (`decimal`'s ln and power are defined digit by digit, where a processor's are not), so
that a weight has the same bits on every machine. Whatever is above 0 stays above 0.
"""

from collections.abc import Hashable, Sequence
from decimal import Context, Decimal
from fractions import Fraction

_EXACT = Context(prec=60)
_ROOT_UNITS = Decimal(10) ** 20
_LOG_UNITS = Decimal(10) ** 30
_SHARE_UNITS = 10**40
"""So finely a function of a stake, its logarithm and a share are cut into whole numbers: far below a double's 1e-16."""


def capped(amounts: Sequence[int], cap: Fraction, units: Sequence[Hashable]) -> list[int]:
    """Returns amounts in which no unit has more than a share `cap` of the whole; the others keep their ratios.

    What a unit has above the cap goes to the others in proportion, until none is above it. Within a unit ratios stay.
    Where even equal shares are above the cap, they are what comes nearest.

    Args:
        amounts: ≥ 0.
        cap: 0 < cap ≤ 1.
        units: whose each amount is.
    """
    totals = totals_of(amounts, units)
    largest = sorted((total for total in totals.values() if total), reverse=True)
    if not largest:
        return list(amounts)
    if cap * len(largest) <= 1:
        return [share(Fraction(a, totals[u]) / len(largest)) if a else 0 for a, u in zip(amounts, units, strict=True)]
    at_cap, rest = 0, sum(largest)
    while largest[at_cap] * (1 - at_cap * cap) > cap * rest:
        rest -= largest[at_cap]
        at_cap += 1
    lowest = largest[at_cap - 1] if at_cap else None  # no smaller unit is at the cap
    kept = (1 - at_cap * cap) / rest

    def share_of(amount: int, total: int) -> int:
        held = lowest is not None and total >= lowest
        return share(Fraction(amount, total) * cap if held else amount * kept)

    return [share_of(amount, totals[unit]) if amount else 0 for amount, unit in zip(amounts, units, strict=True)]


def totals_of(amounts: Sequence[int], units: Sequence[Hashable]) -> dict[Hashable, int]:
    """Returns what each unit has in all."""
    totals: dict[Hashable, int] = {}
    for amount, unit in zip(amounts, units, strict=True):
        totals[unit] = totals.get(unit, 0) + amount
    return totals


def share(exact: Fraction) -> int:
    """Returns a number above 0 in units of 10^-40, rounded down, at least one of them."""
    return max(1, int(exact * _SHARE_UNITS))


def logarithm(amount: int, scale: Decimal) -> int:
    """Returns ln(1 + amount/scale) of an amount above 0, in units of 10^-30."""
    grown = _EXACT.add(Decimal(1), _EXACT.divide(Decimal(amount), scale))
    return max(1, int(_EXACT.multiply(_EXACT.ln(grown), _LOG_UNITS)))


def root(amount: int, exponent: Decimal) -> int:
    """Returns amount^exponent of an amount above 0, in units of 10^-20."""
    return max(1, int(_EXACT.multiply(_EXACT.power(Decimal(amount), exponent), _ROOT_UNITS)))
