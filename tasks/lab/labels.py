"""What all pictures share: a series' colour and dashes, names beside lines, numbers beside bars.

A name stands where the reader looks, at the end of its line, not in a box to be matched by colour: with ten variants no
palette is large enough, and who sees fewer colours could not read the picture at all.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes as Plot

from tasks.lab.canvas import SMALL
from tasks.lab.palette import MUTED, SERIES
from tasks.lab.scales import PERCENT, digits_of, number

LABEL_STEP = 17.0
"""Pixels between the names of two lines."""

Dashes = Literal["-"] | tuple[float, Sequence[float]]
_DASHES: tuple[Dashes, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


def colour(index: int) -> str:
    """Returns the colour of a series by its number; after the last the first comes again, with other dashes."""
    return SERIES[index % len(SERIES)]


def dash(index: int) -> Dashes:
    """Returns the dashes of a series by its number."""
    return _DASHES[index // len(SERIES) % len(_DASHES)]


def stroke(index: int) -> Dashes:
    """Returns dashes that already differ between neighbours, where names cannot stand at the lines' ends."""
    return _DASHES[index % len(_DASHES)]


def row_colour(row: int) -> str:
    """Returns the colour of a row: the first is what the others are compared with."""
    return SERIES[0] if row == 0 else SERIES[5]


def short(name: str, most: int = 34) -> str:
    """Returns a name that fits beside a picture."""
    return name if len(name) <= most else name[: most - 1] + "…"


def wrapped(name: str) -> str:
    """Returns a column's name, on two lines where it is long."""
    words = re.findall(r"[^ _-]+[ _-]*", name)
    if len(name) <= 12 or len(words) < 2:
        return short(name, 16)
    halves = [("".join(words[:cut]).strip(), "".join(words[cut:])) for cut in range(1, len(words))]
    return "\n".join(short(half, 20) for half in min(halves, key=lambda pair: max(map(len, pair))))


def two_lines(name: str, most: int = 30) -> str:
    """Returns a row's name on at most two lines of so many characters."""
    rows = textwrap.wrap(name, most) or [""]
    return "\n".join(rows) if len(rows) <= 2 else rows[0] + "\n" + short(" ".join(rows[1:]), most)


def zero_line(place: Plot) -> None:
    """Draws the line between gains and losses, where there are both."""
    low, high = place.get_ylim()
    if low < 0.0 < high:
        place.axhline(0.0, color=MUTED, linewidth=1.2, zorder=1.0)


def say_empty(place: Plot) -> None:
    """Writes that there is nothing to draw: an empty frame alone looks like a mistake."""
    place.set_xticks([])
    place.set_yticks([])
    place.text(0.5, 0.5, "no numbers to show", transform=place.transAxes, ha="center", va="center", color=MUTED)


def legend_or_empty(place: Plot, names: int, filled: bool) -> None:
    """Writes the names above the picture, where there are several; or that there is nothing."""
    if not filled:
        say_empty(place)
    elif names > 1:
        place.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(names, 4), borderaxespad=0.0)


def together(place: Plot, ends: Mapping[str, tuple[float, float]]) -> bool:
    """Whether several lines end so near to one another that names at their ends would tell nothing."""
    heights = [place_of(place, point)[1] for point in ends.values()]
    return len(heights) > 1 and max(heights) - min(heights) < 0.06


def draw_intervals(place: Plot, values: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> None:
    """Draws a row a name: its interval as a band, its number as a point, the first one's number through all rows."""
    for row, (name, value) in enumerate(values.items()):
        ends = intervals.get(name, (np.nan, np.nan))
        if np.isfinite(ends).all():
            place.plot(ends, (row, row), color=row_colour(row), linewidth=5.0, alpha=0.45, solid_capstyle="round")
        marker = "o" if row else "D"
        place.plot([value], [row], marker=marker, markersize=9.0, color=SERIES[0], linestyle="none")
        if row == 0 and len(values) > 1:
            place.axvline(value, color=SERIES[0], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1.5)


def write_values(place: Plot, values: Mapping[str, float], percent: bool) -> None:
    """Writes each bar's number at the right edge, where no bar and no interval can hide it."""
    scale = 100.0 if percent else 1.0
    digits = digits_of(scale * max((abs(value) for value in values.values()), default=0.0))
    for row, value in enumerate(values.values()):
        text = number(scale * value, digits) + (PERCENT if percent else "")
        place.text(1.01, row, text, transform=place.get_yaxis_transform(), va="center", ha="left", fontsize=SMALL)


def label_ends(place: Plot, ends: Mapping[str, tuple[float, float]], names: Sequence[str]) -> None:
    """Writes each line's name beside its end, apart from one another, with a stroke from the end to the name.

    Args:
        place: with its final limits.
        ends: the last point of each line.
        names: of all series in their order, which decides the colour; the first is bold.
    """
    wanted = {name: place_of(place, point) for name, point in ends.items()}
    heights = apart({name: up for name, (_, up) in wanted.items()}, LABEL_STEP / place.get_window_extent().height)
    for name, up in heights.items():
        bend = ((wanted[name][0], 1.015, 1.03), (wanted[name][1], up, up))
        line = colour(names.index(name))
        place.plot(*bend, transform=place.transAxes, color=line, linewidth=1.0, clip_on=False, zorder=1.5)
        weight = "bold" if name == names[0] else "normal"
        text = short(name, 26)
        place.text(1.037, up, text, transform=place.transAxes, va="center", fontsize=SMALL, fontweight=weight)


def place_of(place: Plot, point: tuple[float, float]) -> tuple[float, float]:
    """Returns where a point lies in the plot, each from 0 to 1; what lies outside is put at the edge."""
    across, up = place.transAxes.inverted().transform(place.transData.transform(point))
    return min(max(float(across), 0.0), 1.0), min(max(float(up), 0.0), 1.0)


def apart(wanted: Mapping[str, float], step: float) -> dict[str, float]:
    """Returns heights in the wanted order, at least a step apart, near what was wanted and not above 1.

    Args:
        wanted: height by name, from 0 to 1.
        step: the least distance; with more names than fit between 0 and 1 the lowest come below 0.
    """
    names = sorted(wanted, key=lambda name: wanted[name])
    heights = [wanted[name] for name in names]
    for below, above in pairwise(range(len(names))):
        heights[above] = max(heights[above], heights[below] + step)
    if heights and heights[-1] > 1.0:
        heights[-1] = 1.0
        for above, below in pairwise(reversed(range(len(names)))):
            heights[below] = min(heights[below], heights[above] - step)
    return dict(zip(names, heights, strict=True))
