"""Colours of the lab's pictures: told apart by people who see no red or no green, on paper and on a dark screen.

The series' colours are Okabe and Ito's, without their yellow (too pale a line on white) and with the text's own colour
in place of black. On a dark page each has a lighter sibling, so a picture names its colours by role and the page
decides: `var(--series-1, #0072b2)`. Colour is never the only sign: lines also differ in dashes, points in shape, cells
in symbol and word.

References:
    M. Okabe and K. Ito, "Color Universal Design", 2008: the set of eight colours.
"""

from collections.abc import Mapping
from types import MappingProxyType

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555c68")
"""Of one series after the other, on white."""
SERIES_DARK = ("#4a9fe3", "#f0743e", "#2ec29a", "#d98fbf", "#f2bc4b", "#9bd4f7", "#75808d")
"""The same on a dark page."""

INK, MUTED, GRID, PAPER = "#1b1f23", "#57606b", "#dfe3e8", "#fffffe"
GOOD, BAD, MIDDLE, NOTHING = "#d9efe6", "#f9cdb9", "#fcebc3", "#f0f2f4"

ROLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ink": (INK, "#e8eaed"),
        "muted": (MUTED, "#a9b2bd"),
        "grid": (GRID, "#333a42"),
        "paper": (PAPER, "#14171a"),
        "pays": (BAD, "#7a2d10"),
        "harms": (MIDDLE, "#5c4610"),
        "fails": (GOOD, "#12463a"),
        "none": (NOTHING, "#23282e"),
    }
    | {f"series-{number}": pair for number, pair in enumerate(zip(SERIES, SERIES_DARK, strict=True), start=1)}
)
"""Role → its colour on white and on a dark page. No two roles share a colour on white: a picture is drawn in these,
and each is then replaced by its role."""


def by_role(svg: str) -> str:
    """Returns the picture with each known colour named by its role, the colour itself being what holds without one.

    Args:
        svg: drawn in colours of ROLES, written as #rrggbb in style attributes.
    """
    for role, (colour, _) in ROLES.items():
        svg = svg.replace(f": {colour}", f": var(--{role}, {colour})")
    return svg


def css(dark: bool) -> str:
    """Returns the declarations of all roles as custom properties, for the page's root."""
    return " ".join(f"--{role}: {pair[dark]};" for role, pair in ROLES.items())
