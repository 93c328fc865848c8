"""Payouts: from published scores to whole atoms, without a float and without a rounding but the last.

`payout − burn = round(at_risk · clip(factor · Σ multiplier·score, ±clip))`, or the factor after the clip. All
numbers are integers of a fixed scale: a score counts 1e-12 and a multiplier 1e-6, so the raw rate counts
1e-18; the factor counts 1e-18, so the clipped rate counts 1e-36. Both are exact, everything is multiplied
before it is divided, and one function rounds. The failures guarded against: `Decimal` that keeps 28 digits
unasked, 64-bit sums that wrap, and two roundings that differ in the last atom between the engine and a reader
who recomputes his payout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from scoring.rules import MULTIPLIER_DECIMALS, Rounding, Rules

FACTOR_DECIMALS = 18
RAW_RATE_DECIMALS = 18
CLIPPED_RATE_DECIMALS = 36
FACTOR_ONE: int = 10**FACTOR_DECIMALS
_CLIPPED_RATE_ONE: int = 10**CLIPPED_RATE_DECIMALS

_COLUMN = Context(prec=38)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one stake earns or burns in a round.

    Attributes:
        raw_rate: Σ multiplier·score, in units of 1e-18.
        clipped_rate: payout as a fraction of the stake after factor and clip, −1 … 1, in units of 1e-36.
        payout_atoms, burn_atoms: ≥ 0, at most one of them above 0; the burn is never more than the stake.
    """

    raw_rate: int
    clipped_rate: int
    payout_atoms: int
    burn_atoms: int


def payout_factor(at_risk_total_atoms: int, rules: Rules, decimals: int) -> int:
    """Returns `min(1, stake_threshold / total at risk)` in units of 1e-18, rounded down.

    Args:
        at_risk_total_atoms: sum of all stakes with a valid submission on time, less what of them nets
            (`Rules.net_opposites`), ≥ 0.
        rules: the rules of the round.
        decimals: an atom is 10^-decimals of the currency.
    """
    if rules.stake_threshold is None or at_risk_total_atoms == 0:
        return FACTOR_ONE
    threshold_atoms: Fraction = Fraction(rules.stake_threshold) * 10**decimals
    return min(FACTOR_ONE, FACTOR_ONE * threshold_atoms // at_risk_total_atoms)


def settle_stake(
    at_risk_atoms: int,
    scores: Mapping[str, int],
    multipliers: Mapping[str, Decimal],
    factor: int,
    rules: Rules,
) -> Settlement:
    """Returns what a stake earns or burns.

    Args:
        at_risk_atoms: the stake, ≥ 0.
        scores: published scores in units of 1e-12; needed wherever the multiplier is not 0.
        multipliers: one a paid score, at most 6 decimals (`Rules.multipliers`).
        factor: the round's payout factor in units of 1e-18 (`payout_factor`), 0 … 1e18.
        rules: the rules of the round.

    Raises:
        KeyError: a score that is paid on is absent; such a stake is unscored and has nothing to settle.
    """
    raw_rate = sum(_multiplier_units(value) * scores[key] for key, value in multipliers.items() if value)
    clipped_rate = _clip(raw_rate, factor, rules)
    change = whole_atoms(at_risk_atoms * clipped_rate, _CLIPPED_RATE_ONE, rules.rounding)
    return Settlement(raw_rate, clipped_rate, payout_atoms=max(change, 0), burn_atoms=max(-change, 0))


def fixed_point(units: int, decimals: int) -> Decimal:
    """Returns `units · 10^-decimals` exactly, ready for a column decimal128(38, decimals).

    Raises:
        OverflowError: the number needs more than 38 digits.
    """
    if abs(units) >= 10**_COLUMN.prec:
        raise OverflowError(f"a number of the ledger must have at most {_COLUMN.prec} digits, found {units}")
    return Decimal(units).scaleb(-decimals, context=_COLUMN)


def _multiplier_units(multiplier: Decimal) -> int:
    """Returns the multiplier as a count of 1e-6; `Rules` admits no finer one."""
    return int(Fraction(multiplier) * 10**MULTIPLIER_DECIMALS)


def _clip(raw_rate: int, factor: int, rules: Rules) -> int:
    """Returns the rate after factor and clip; as factor ≥ 0, clipping first is clipping at `factor·clip`."""
    clip = int(Fraction(rules.clip) * 10**RAW_RATE_DECIMALS)
    bound = clip * (factor if rules.order == "clip_first" else FACTOR_ONE)
    return max(-bound, min(bound, factor * raw_rate))


def whole_atoms(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Returns a fraction as whole atoms: the one function that rounds money.

    Args:
        numerator: of either sign.
        denominator: > 0.
        rounding: `toward_zero`, or `nearest` with a half to the even atom.
    """
    whole, rest = divmod(abs(numerator), denominator)
    if rounding == "nearest" and (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1)):
        whole += 1
    return whole if numerator >= 0 else -whole
