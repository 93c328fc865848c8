"""Published scores: the step from floating point to numbers that money can stand on.

A score is published as an integer count of 1e-12, rounded half to even from the exact value of the double. From there
on it is never a float again on the way to money: the ledger holds it as decimal128(38, 12), `scores.parquet` as the
nearest double. The failure guarded against: two readers that round a binary fraction differently and pay differently.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal

SCORE_DECIMALS = 12
_UNIT = Decimal(1).scaleb(-SCORE_DECIMALS)
# A finite double has at most 767 significant decimal digits, so nothing is rounded before the one rounding we want.
_EXACT = Context(prec=800, rounding=ROUND_HALF_EVEN)

SCORE_KEYS = (
    "corr",
    "corr_tie_broken",
    "fnc",
    "cwmm",
    "cwmm_max",
    "cwmm_mean",
    "mmc",
    "mmc_richard",
    "mmc_mike",
    "bmc",
    "mmc_bagged",
    "tc",
    "tc_raw",
)
"""Every score a tournament can be paid on, in column order."""


def score_units(score: float) -> int:
    """Returns the score as an integer count of 1e-12, rounded half to even from the exact double.

    Args:
        score: any finite double, dimensionless.

    Raises:
        ValueError: the score is NaN or infinite; an absent score is None, never a number.
    """
    exact = Decimal(score)
    if not exact.is_finite():
        raise ValueError(f"a published score must be finite, found {score!r}; an absent score is None")
    return int(exact.quantize(_UNIT, context=_EXACT).scaleb(SCORE_DECIMALS, context=_EXACT))


def units_to_decimal(units: int) -> Decimal:
    """Returns the decimal number of a published score, exactly."""
    return Decimal(units).scaleb(-SCORE_DECIMALS, context=_EXACT)


def units_to_float(units: int) -> float:
    """Returns the double nearest to a published score."""
    return float(units_to_decimal(units))
