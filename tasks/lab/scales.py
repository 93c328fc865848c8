"""Axes of a picture: what they mean, their limits, and numbers written as in the rest of a report.

A tick reads like a figure in the text beside it – thousands apart, a true minus, percent where the numbers are
fractions – with as many digits as tell neighbouring ticks apart and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

MINUS = "\N{MINUS SIGN}"
PERCENT = "\N{NO-BREAK SPACE}%"

Numbers = Sequence[float] | np.ndarray
"""As they come: what is not finite is left out of a picture."""


@dataclass(frozen=True, slots=True)
class Axes:
    """What the axes mean.

    Attributes:
        x: label with its unit.
        y: label with its unit.
        x_limits: lowest and highest; chosen from the numbers where None.
        y_limits: lowest and highest; chosen from the numbers where None.
        percent_x: the numbers are fractions, shown in percent.
        percent_y: the numbers are fractions, shown in percent.
        log_x: on a logarithmic scale; numbers ≤ 0 are left out.
        shared_y: plots side by side have one common y scale.
    """

    x: str
    y: str
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    percent_x: bool = False
    percent_y: bool = False
    log_x: bool = False
    shared_y: bool = True


class _Ticks(Formatter):
    """Numbers with thousands apart and the digits that tell ticks apart; in percent where asked."""

    def __init__(self, percent: bool) -> None:
        self._percent = percent

    def __call__(self, value: float, position: int | None = None) -> str:
        del position
        return self.format_ticks([value])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        scaled = np.asarray(values, dtype=np.float64) * (100.0 if self._percent else 1.0)
        steps = np.diff(np.unique(scaled))
        digits = max(0, -floor(log10(float(steps.min())) + 1e-9)) if steps.size else 2
        if steps.size and not np.allclose(np.round(scaled, digits), scaled, rtol=0.0, atol=float(steps.min()) / 50.0):
            digits += 1
        return [number(each, digits) + (PERCENT if self._percent else "") for each in scaled]


def number(value: float, digits: int = 0) -> str:
    """Returns a number with thousands apart and a true minus: −1,234.5; never a negative zero."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.replace("-", "")


def digits_of(size: float, significant: int = 3) -> int:
    """Returns the decimals that show a number of this size to some significant digits, between 0 and 6."""
    return min(6, max(0, significant - 1 - floor(log10(abs(size))))) if size and isfinite(size) else 0


def finite(values: Numbers) -> np.ndarray:
    """Returns the numbers that are finite, in their order."""
    found = np.asarray(values, dtype=np.float64)
    return found[np.isfinite(found)]


def points(x: Numbers, y: Numbers, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs that can be drawn: both numbers finite, and x above 0 on a logarithmic scale."""
    across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    drawable = np.isfinite(across) & np.isfinite(up)
    if axes.log_x:
        drawable &= across > 0.0
    return across[drawable], up[drawable]


def inside(x: np.ndarray, y: np.ndarray, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points within the limits: what a picture does not show must not be counted in it."""
    shown = np.ones(x.size, dtype=bool)
    for values, limits in ((x, axes.x_limits), (y, axes.y_limits)):
        if limits is not None:
            shown &= (values >= limits[0]) & (values <= limits[1])
    return x[shown], y[shown]


def dress(plot: Plot, axes: Axes) -> None:
    """Sets labels, scales, limits and ticks; once everything is drawn, or the limits would not fit it."""
    plot.set_xlabel(axes.x)
    plot.set_ylabel(axes.y)
    plot.yaxis.set_major_locator(MaxNLocator(8, min_n_ticks=4, steps=[1, 2, 2.5, 5, 10]))
    plot.yaxis.set_major_formatter(_Ticks(axes.percent_y))
    if axes.log_x:
        plot.set_xscale("log")
        low, high = plot.get_xlim()
        plot.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 2000.0 * low else (1.0, 2.0, 5.0)))
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value, axes.percent_x)))
        plot.xaxis.set_minor_formatter(NullFormatter())
    else:
        plot.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
        plot.xaxis.set_major_formatter(_Ticks(axes.percent_x))
    if axes.x_limits is not None:
        plot.set_xlim(*axes.x_limits)
    if axes.y_limits is not None:
        plot.set_ylim(*axes.y_limits)


def whole_ticks(plot: Plot, values: Sequence[np.ndarray]) -> None:
    """Puts ticks on whole numbers only, where all numbers are whole and the scale is not logarithmic: rounds, ranks."""
    locator = plot.xaxis.get_major_locator()
    if isinstance(locator, MaxNLocator) and all((each == np.round(each)).all() for each in values):
        locator.set_params(integer=True)


def _plain(value: float, percent: bool) -> str:
    scaled = 100.0 * value if percent else value
    digits = max(0, -floor(log10(scaled) + 1e-9)) if scaled > 0.0 else 0
    return number(scaled, digits) + (PERCENT if percent else "")
