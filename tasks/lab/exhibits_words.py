"""Numbers in the sentences and tables of exhibits: one way to write each kind, and one to say that there is none.

The failure guarded against: a NaN or a sign of its own in a sentence. What is absent is written "–", and a negative
number begins with the minus sign.
"""

import math
from collections.abc import Sequence
from decimal import Decimal

from scoring.lab.statistics import Interval

ABSENT = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Returns a number with so many digits after the point, thousands separated."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{value:,.{digits}f}"
    zero = not any(digit in text for digit in "123456789")
    return text.lstrip("-") if zero else text.replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """Returns a fraction as a percentage."""
    text = number(None if value is None else 100.0 * value, digits)
    return text if text == ABSENT else f"{text} %"


def money(value: Decimal | float, digits: int = 2) -> str:
    """Returns an amount of the currency."""
    return number(float(value), digits)


def interval(found: Interval, digits: int = 3) -> str:
    """Returns an interval in brackets."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return "[too few rounds]"
    return f"[{number(found.low, digits)}, {number(found.high, digits)}]"


def probability(value: float) -> str:
    """Returns a test's p value."""
    return "p < 0.001" if value < 0.001 else f"p = {number(value)}"


def listed(names: Sequence[str]) -> str:
    """Returns names as a sentence lists them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def counted(count: int, one: str, several: str | None = None) -> str:
    """Returns a count with its noun."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
