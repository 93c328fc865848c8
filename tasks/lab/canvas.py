"""From a matplotlib figure to one inline picture of a page: same data, same bytes; nothing fetched, nothing collides.

A figure is drawn at one unit a pixel, so that a font's size is what the reader sees, and its text stays text: it can
be selected, found and read aloud. What would differ between runs or machines is fixed or taken out: dates, random ids,
digits beyond a hundredth of a pixel. All ids are made the picture's own, because pages hold many pictures and
a clip path of another picture with the same id would cut this one.

References:
    SVG-AAM 1.0, §5: role "img", <title> and <desc> make a picture's text alternative.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from io import StringIO
from threading import Lock
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure

from tasks.lab.palette import GRID, INK, MUTED, by_role

WIDTH = 920.0
"""Pixels; a page shows a picture at this width or a little more."""
SMALL, NORMAL = 12.5, 13.5
"""Pixels: of numbers at the axes and of everything else."""
FONTS = "'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stakeweight",
    "svg.id": None,
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the layout is measured the same everywhere
    "font.size": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.major.pad": 7.0,
    "ytick.major.pad": 7.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "path.simplify": False,
    "figure.dpi": 72.0,
    "savefig.dpi": 72.0,
}
_DRAWING = Lock()  # matplotlib's settings are the process's own


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its words.

    Attributes:
        title: what is shown, on one line.
        alt: what a reader who does not see it must know.
        svg: one <svg> element with a viewBox, as wide as its place; it can stand in a page or in a file of its own.
    """

    title: str
    alt: str
    svg: str


@contextmanager
def figure(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Yields an empty figure in the lab's style; it must be drawn and handed to `picture` inside the block.

    Args:
        height: pixels.
        width: pixels.
    """
    with _DRAWING, rc_context():
        rcdefaults()  # a file of the user's own settings must not change a report
        rcParams.update(_STYLE)
        yield Figure(figsize=(width / 72.0, height / 72.0), dpi=72.0, layout="constrained")


def plot(drawing: Figure) -> Plot:
    """Returns the one plot of a new figure."""
    found: Plot = drawing.add_subplot()
    return found


def picture(drawing: Figure, title: str, alt: str) -> Picture:
    """Returns the figure as a picture."""
    buffer = StringIO()
    drawing.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return Picture(title, alt, _inline(buffer.getvalue(), title, alt))


def _inline(text: str, title: str, alt: str) -> str:
    body = text[text.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # would hold for the whole page
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", _rounded, body)
    body = body.replace("'DejaVu Sans'", FONTS)
    body = re.sub(r"\n\s*", "\n", body)
    box = re.search(r'viewBox="([^"]*)"', body)
    content = body[body.index(">") + 1 :]
    prefix = "p" + sha256("\0".join((title, alt, content)).encode()).hexdigest()[:10]
    content = re.sub(r'\bid="', f'id="{prefix}-', content)
    content = re.sub(r'href="#', f'href="#{prefix}-', content)
    content = re.sub(r"url\(#", f"url(#{prefix}-", content)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="100%" '
        f'viewBox="{box.group(1) if box else ""}" style="stroke-linejoin: round" role="img" '
        f'aria-labelledby="{prefix}-title {prefix}-desc">\n'
        f'<title id="{prefix}-title">{escape(title)}</title>\n<desc id="{prefix}-desc">{escape(alt)}</desc>\n'
    )
    return head + by_role(content).strip()


def _rounded(tag: re.Match[str]) -> str:
    """Returns an element's tag with its numbers to a hundredth; the text between tags is for people and stays."""
    return re.sub(r"-?\d+\.\d{3,}", lambda found: _hundredths(found.group()), tag.group())


def _hundredths(digits: str) -> str:
    text = f"{float(digits):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
