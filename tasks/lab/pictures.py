"""The pictures of an experiment's report, each a function of numbers and words.

    numbers, title, alt ── lines, bars, ranked, histograms, bands, scatter, density, matrix ──► Picture (one <svg>)

Numbers that are not finite are left out; a picture without any says so. A text alternative is part of every call,
because what is only drawn is lost on whoever does not see it. The first series is drawn last and strongest: it is what
the others are compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from tasks.lab import palette
from tasks.lab.canvas import SMALL, Picture, figure, picture, plot
from tasks.lab.labels import (
    LABEL_STEP,
    colour,
    dash,
    draw_intervals,
    label_ends,
    legend_or_empty,
    row_colour,
    say_empty,
    short,
    stroke,
    together,
    two_lines,
    wrapped,
    write_values,
    zero_line,
)
from tasks.lab.scales import Axes, Numbers, dress, finite, inside, number, points, whole_ticks

__all__ = ["Axes", "Cell", "Picture", "bands", "bars", "density", "histograms", "lines", "matrix", "ranked", "scatter"]

Mark = Literal["pays", "harms", "fails", "none"]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HEIGHT = 400.0
_WIDE_COLUMNS = 7  # of more, names are written aslant
_GAP = "\N{NO-BREAK SPACE}" * 6
_MOST_POINTS = 2500  # more are a blot, and half a megabyte of it
_SHADES = LinearSegmentedColormap.from_list(
    "lab",
    [to_rgba(palette.SERIES[0], 0.25), to_rgba(palette.SERIES[0], 1.0)],
    N=16,  # with more than 50 the scale beside the picture would become an image of pixels
)
SYMBOLS: Mapping[Mark, str] = {"pays": "▲", "harms": "◆", "fails": "✓", "none": "○"}
WORDS: Mapping[Mark, str] = {"pays": "pays", "harms": "harms others", "fails": "fails", "none": "no occasion"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a matrix.

    Attributes:
        text: one or two short lines.
        mark: decides colour and symbol, and is written out as a word.
    """

    text: str
    mark: Mark


def lines(title: str, alt: str, series: Mapping[str, tuple[Numbers, Numbers]], axes: Axes) -> Picture:
    """A line for each name, labelled at its end; above the picture where all lines end in one place.

    Args:
        title: on one line.
        alt: what the lines show, in words.
        series: (x, y) by name.
        axes: what they mean.
    """
    drawn = {name: points(x, y, axes) for name, (x, y) in series.items()}
    ends = {name: (float(x[-1]), float(y[-1])) for name, (x, y) in drawn.items() if x.size}
    with figure(max(_HEIGHT, 90.0 + LABEL_STEP * len(series))) as drawing:
        place = plot(drawing)
        strokes = {}
        for index, (name, (x, y)) in enumerate(drawn.items()):
            width, order = (3.0, 3.0) if index == 0 else (1.8, 2.5)
            (strokes[name],) = place.plot(
                x, y, color=colour(index), linestyle=dash(index), linewidth=width, zorder=order, label=short(name)
            )
        dress(place, axes)
        whole_ticks(place, [x for x, _ in drawn.values()])
        zero_line(place)
        if ends and not together(place, ends):
            label_ends(place, ends, list(series))
        else:
            for index, line in enumerate(strokes.values()):
                line.set_linestyle(stroke(index))
            legend_or_empty(place, len(ends), bool(ends))
        return picture(drawing, title, alt)


def ranked(title: str, alt: str, series: Mapping[str, Numbers], axes: Axes) -> Picture:
    """The numbers of each name from the largest to the smallest, over one another.

    Args:
        title: on one line.
        alt: what the curves show, in words.
        series: numbers by name, in any order.
        axes: what they mean; x is the rank, from 1.
    """
    ordered = {name: np.sort(finite(values))[::-1] for name, values in series.items()}
    curves = {name: (np.arange(1.0, values.size + 1.0), values) for name, values in ordered.items()}
    return lines(title, alt, curves, axes)


def bars(
    title: str,
    alt: str,
    values: Mapping[str, float],
    axes: Axes,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Picture:
    """A lying bar for each name with its number; with intervals, a point inside each.

    A point needs no zero to stand on, so small differences with their intervals stay visible; a stroke through all rows
    marks the first name's number.

    Args:
        title: on one line.
        alt: what the bars or points show, in words.
        values: by name, the first on top.
        axes: x is the names' label, y the numbers'.
        intervals: lowest and highest by name.
    """
    shown = {name: value for name, value in values.items() if np.isfinite(value)}
    lying = Axes(axes.y, axes.x, axes.y_limits, axes.x_limits, axes.percent_y)
    with figure(90.0 + (34.0 if intervals is None else 28.0) * max(len(shown), 1)) as drawing:
        place = plot(drawing)
        if intervals is None:
            colours = [row_colour(row) for row in range(len(shown))]
            place.barh(range(len(shown)), list(shown.values()), height=0.62, color=colours)
        else:
            draw_intervals(place, shown, intervals)
        dress(place, lying)
        low, high = place.get_xlim()
        if low < 0.0 < high or intervals is None:
            place.axvline(0.0, color=palette.MUTED, linewidth=1.2, zorder=1.0)
        place.set_yticks(range(len(shown)), [short(name) for name in shown])
        place.set_ylim(max(len(shown), 1) - 0.45, -0.55)
        place.grid(visible=False, axis="y")
        write_values(place, shown, axes.percent_y)
        if not shown:
            say_empty(place)
        return picture(drawing, title, alt)


def histograms(title: str, alt: str, samples: Mapping[str, Numbers], axes: Axes, bins: int = 40) -> Picture:
    """How often numbers occur, as one outline a name over common bins.

    Args:
        title: on one line.
        alt: what the outlines show, in words.
        samples: numbers by name.
        axes: y is the count of a bin.
        bins: number of bins over the range of all numbers, or over x_limits.
    """
    drawn = {name: finite(values) for name, values in samples.items()}
    every = np.concatenate([*drawn.values(), np.empty(0)])
    with figure(_HEIGHT) as drawing:
        place = plot(drawing)
        if every.size:
            edges = np.histogram_bin_edges(every, bins=bins, range=axes.x_limits)
            for index, (name, values) in enumerate(drawn.items()):
                counts = np.histogram(values, bins=edges)[0].astype(np.float64)
                if len(drawn) <= 2:
                    place.stairs(counts, edges, color=colour(index), alpha=0.16, fill=True)
                place.stairs(
                    counts,
                    edges,
                    baseline=None,
                    color=colour(index),
                    linestyle=stroke(index),
                    linewidth=2.0,
                    label=short(name),
                )
        dress(place, axes)
        place.set_ylim(bottom=0.0)
        legend_or_empty(place, len(drawn), every.size > 0)
        return picture(drawing, title, alt)


def bands(
    title: str, alt: str, x: Numbers, series: Mapping[str, tuple[Numbers, Numbers, Numbers]], axes: Axes
) -> Picture:
    """A plot beside the other for each name: a line inside the band from low to high.

    Args:
        title: on one line.
        alt: what the bands show, in words.
        x: of all names.
        series: (low, middle, high) by name, each as long as x.
        axes: `shared_y` puts all plots on one scale.
    """
    columns = max(1, min(len(series), 4 if axes.shared_y else 3))
    rows = max(1, -(-len(series) // columns))
    with figure(60.0 + 250.0 * rows) as drawing:
        grid = drawing.subplots(rows, columns, squeeze=False, sharey=axes.shared_y)
        places: list[Plot] = list(grid.ravel())
        across = np.asarray(x, dtype=np.float64)
        for index, (name, parts) in enumerate(series.items()):
            low, middle, high = (np.asarray(part, dtype=np.float64) for part in parts)
            places[index].fill_between(across, low, high, color=colour(index), alpha=0.22, linewidth=0.0)
            places[index].plot(across, middle, color=colour(index), linewidth=2.2)
            places[index].set_title(short(name))
        for index, place in enumerate(places):
            dress(place, axes)
            place.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            whole_ticks(place, [across])
            if index % columns:
                place.set_ylabel("")
            if index >= len(series) > 0:
                place.set_visible(False)
            zero_line(place)
        if not any(finite(middle).size for _, middle, _ in series.values()):
            say_empty(places[0])
        return picture(drawing, title, alt)


def scatter(title: str, alt: str, series: Mapping[str, tuple[Numbers, Numbers]], axes: Axes) -> Picture:
    """Points, a shape and colour a name; of very many, evenly chosen ones, which the picture then says.

    Args:
        title: on one line.
        alt: what the points show, in words.
        series: (x, y) by name.
        axes: what they mean.
    """
    drawn = {name: inside(*points(x, y, axes), axes) for name, (x, y) in series.items()}
    total = sum(x.size for x, _ in drawn.values())
    step = max(1, -(-total // _MOST_POINTS))
    with figure(_HEIGHT + 20.0) as drawing:
        place = plot(drawing)
        for index, (name, (x, y)) in enumerate(drawn.items()):
            place.plot(
                x[::step],
                y[::step],
                linestyle="none",
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=6.5 if total < 400 else 4.5,
                markeredgewidth=0.0,
                color=colour(index),
                alpha=0.8 if total < 400 else 0.5,
                label=short(name),
            )
        dress(place, axes)
        zero_line(place)
        if step > 1:
            said = f"one in {step} of {number(total)} points"
            place.set_title(said, fontsize=SMALL, fontweight="normal", loc="right")
        legend_or_empty(place, len(drawn), total > 0)
        return picture(drawing, title, alt)


def density(title: str, alt: str, x: Numbers, y: Numbers, axes: Axes) -> Picture:
    """How many points lie where, as hexagons from faint to full.

    Args:
        title: on one line.
        alt: where the points are many, in words.
        x: of all points.
        y: of all points.
        axes: what they mean.
    """
    across, up = inside(*points(x, y, axes), axes)
    with figure(_HEIGHT + 20.0) as drawing:
        place = plot(drawing)
        if across.size:
            cells = place.hexbin(
                across,
                up,
                gridsize=(42, 18),
                mincnt=1,
                cmap=_SHADES,
                norm=LogNorm(vmin=1.0),
                linewidths=0.0,
                xscale="log" if axes.log_x else "linear",
            )
            scale = drawing.colorbar(cells, ax=place, label="points in a hexagon (logarithmic)", pad=0.02)
            scale.outline.set_visible(False)
            scale.ax.yaxis.set_minor_locator(NullLocator())
            counts = [count for power in range(7) for count in (10**power, 2 * 10**power, 5 * 10**power)]
            scale.set_ticks([count for count in counts if count <= max(1.0, cells.norm.vmax or 1.0)])
            scale.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        dress(place, axes)
        zero_line(place)
        if not across.size:
            say_empty(place)
        return picture(drawing, title, alt)


def matrix(
    title: str, alt: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell]]
) -> Picture:
    """A field of cells, each with a symbol, a word or figure, and a colour.

    Args:
        title: on one line.
        alt: what the cells show, in words.
        rows: names, the first on top.
        columns: names, the first on the left.
        cells: by row and column.
    """
    narrow = len(columns) > _WIDE_COLUMNS
    with figure((160.0 if narrow else 90.0) + (44.0 if narrow else 36.0) * max(len(rows), 1)) as drawing:
        place = plot(drawing)
        for row, line in enumerate(cells):
            for column, cell in enumerate(line):
                place.add_patch(Rectangle((column + 0.03, row + 0.04), 0.94, 0.92, facecolor=_FILLS[cell.mark]))
                text = SYMBOLS[cell.mark] + ("\n" if narrow else " ") + cell.text
                weight = "bold" if cell.mark == "pays" else "normal"
                place.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=SMALL, fontweight=weight)
        place.set_xlim(0.0, max(len(columns), 1))
        place.set_ylim(max(len(rows), 1), 0.0)
        place.xaxis.tick_top()
        middles = [column + 0.5 for column in range(len(columns))]
        if narrow:
            place.set_xticks(middles, [short(name, 28) for name in columns], rotation=35.0, ha="left")
        else:
            place.set_xticks(middles, [wrapped(name) for name in columns])
        place.set_yticks([row + 0.5 for row in range(len(rows))], [two_lines(name) for name in rows])
        said = _GAP.join(f"{SYMBOLS[mark]} {word}" for mark, word in WORDS.items())
        place.set_xlabel(said, fontsize=SMALL, labelpad=8.0)
        place.xaxis.set_label_position("bottom")
        place.grid(visible=False)
        place.spines[:].set_visible(False)
        return picture(drawing, title, alt)


_FILLS: Mapping[Mark, str] = {
    "pays": palette.BAD,
    "harms": palette.MIDDLE,
    "fails": palette.GOOD,
    "none": palette.NOTHING,
}
