"""Pictures: words and ids of their own, nothing fetched, the same bytes, colours that most people tell apart."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import combinations, pairwise
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lab import palette
from tasks.lab.canvas import WIDTH
from tasks.lab.labels import apart, two_lines, wrapped
from tasks.lab.pictures import (
    Axes,
    Cell,
    Picture,
    bands,
    bars,
    density,
    histograms,
    lines,
    matrix,
    ranked,
    scatter,
)
from tasks.lab.scales import digits_of, number

SVG = "{http://www.w3.org/2000/svg}"
AXES = Axes("round", "amount, NMR")
X = [1.0, 2.0, 3.0, 4.0]
UP, DOWN = [1.0, 2.0, 4.0, 3.0], [-1.0, -2.0, -1.5, -4.0]
MARKS = (Cell("+1.0%", "pays"), Cell("−0.1%", "harms"), Cell("−2.0%", "fails"), Cell("no occasion", "none"))
MAKERS: dict[str, Callable[[str, str], Picture]] = {
    "lines": lambda title, alt: lines(title, alt, {"first": (X, UP), "second": (X, DOWN)}, AXES),
    "bars": lambda title, alt: bars(title, alt, {"first": 3.0, "second": -1.0}, AXES),
    "intervals": lambda title, alt: bars(title, alt, {"first": 3.0, "second": 1.0}, AXES, {"first": (2.0, 4.0)}),
    "ranked": lambda title, alt: ranked(title, alt, {"first": UP, "second": DOWN}, AXES),
    "histograms": lambda title, alt: histograms(title, alt, {"first": UP, "second": DOWN}, AXES, bins=5),
    "bands": lambda title, alt: bands(title, alt, X, {"first": (DOWN, UP, UP), "second": (DOWN, DOWN, UP)}, AXES),
    "scatter": lambda title, alt: scatter(title, alt, {"first": (X, UP), "second": (X, DOWN)}, AXES),
    "density": lambda title, alt: density(title, alt, X, UP, AXES),
    "matrix": lambda title, alt: matrix(title, alt, ["first", "second"], ["a", "b", "c", "d"], [MARKS, MARKS]),
}
EMPTY: dict[str, Callable[[], Picture]] = {
    "lines": lambda: lines("t", "a", {}, AXES),
    "lines of NaN": lambda: lines("t", "a", {"none": ([np.nan], [1.0])}, AXES),
    "bars": lambda: bars("t", "a", {"none": float("nan")}, AXES),
    "ranked": lambda: ranked("t", "a", {"none": []}, AXES),
    "histograms": lambda: histograms("t", "a", {"none": [np.inf]}, AXES),
    "bands": lambda: bands("t", "a", [1.0], {"none": ([np.nan], [np.nan], [np.nan])}, AXES),
    "bands of nothing": lambda: bands("t", "a", [], {}, AXES),
    "scatter": lambda: scatter("t", "a", {"none": ([0.0], [1.0])}, Axes("x", "y", log_x=True)),
    "density": lambda: density("t", "a", [], [], AXES),
}


def root(picture: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(picture.svg)


def texts(picture: Picture) -> list[str]:
    return ["".join(element.itertext()).strip() for element in root(picture).iter(f"{SVG}text")]


@pytest.fixture(params=sorted(MAKERS))
def maker(request: pytest.FixtureRequest) -> Callable[[str, str], Picture]:
    return MAKERS[request.param]


def test_picture__is_one_svg_with_its_words(maker: Callable[[str, str], Picture]) -> None:
    picture = maker("Payouts & burns", "Payouts rise, <burns> fall.")
    svg = root(picture)
    assert picture.svg.startswith("<svg ")
    assert svg.get("role") == "img"
    assert svg.get("width") == "100%"
    title, description = svg[0], svg[1]
    assert (title.tag, title.text) == (f"{SVG}title", "Payouts & burns")
    assert (description.tag, description.text) == (f"{SVG}desc", "Payouts rise, <burns> fall.")
    assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    box = [float(each) for each in str(svg.get("viewBox")).split()]
    assert box[:3] == [0.0, 0.0, WIDTH]
    assert 100.0 < box[3] < 1000.0


def test_picture__has_the_same_bytes_whatever_the_users_own_settings(maker: Callable[[str, str], Picture]) -> None:
    before = dict(mpl.rcParams)
    once = maker("t", "a")
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"font.size": 30.0, "svg.fonttype": "path", "axes.grid": False, "lines.linewidth": 9.0}):
        assert maker("t", "a") == once


def test_picture__fetches_nothing_and_styles_nobody_else(maker: Callable[[str, str], Picture]) -> None:
    svg = maker("t", "a").svg
    assert set(re.findall(r"https?://[^\"' ]*", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(style|script|image|metadata|foreignObject)\b", svg)
    references = re.findall(r'href="([^"]*)"|url\(([^)]*)\)', svg)
    assert all((link or url).startswith("#") for link, url in references)


def test_picture__ids_are_its_own_and_every_reference_finds_one() -> None:
    seen: set[str] = set()
    for name, make in MAKERS.items():
        for title in ("one", "two"):  # the same drawing under another title
            svg = make(title, "a").svg
            ids = re.findall(r'\bid="([^"]*)"', svg)
            assert len(set(ids)) == len(ids), name
            assert seen.isdisjoint(ids), name
            seen.update(ids)
            found = set(re.findall(r'href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg))
            assert found <= set(ids), name


def test_picture__text_stays_text_and_is_large_enough_to_be_read(maker: Callable[[str, str], Picture]) -> None:
    picture = maker("t", "a")
    assert {"first", "second"} <= {text.strip() for text in texts(picture)} or maker is MAKERS["density"]
    sizes = {float(size) for size in re.findall(r"([\d.]+)px", picture.svg)}
    assert sizes
    assert min(sizes) >= 12.0
    assert texts(picture)


def test_picture__names_its_colours_by_role(maker: Callable[[str, str], Picture]) -> None:
    svg = maker("t", "a").svg
    known = {colour for colour, _ in palette.ROLES.values()}
    bare = set(re.findall(r": (#[0-9a-f]{6})", svg))
    assert bare == set(), "a colour of no role stays the same on a dark page"
    assert set(re.findall(r"var\(--[a-z0-9-]+, (#[0-9a-f]{6})\)", svg)) <= known
    assert "var(--ink, " in svg


@pytest.mark.parametrize("name", sorted(EMPTY))
def test_picture__says_that_there_is_nothing_to_show(name: str) -> None:
    assert "no numbers to show" in texts(EMPTY[name]())


def test_picture__names_are_text_not_markup() -> None:
    name = '<b>&"x"</b> $a_1$'
    picture = lines("<t>", "a & b", {name: (X, UP), "other": (X, DOWN)}, AXES)
    assert name in texts(picture)
    assert "<b>" not in picture.svg


def test_lines__leave_out_what_is_not_finite() -> None:
    whole = lines("t", "a", {"n": ([1.0, 2.0, 3.0], [1.0, 5.0, 2.0])}, AXES)
    holed = lines("t", "a", {"n": ([1.0, 2.0, 2.5, 3.0], [1.0, 5.0, np.nan, 2.0])}, AXES)
    assert holed.svg == whole.svg


def test_lines__name_each_of_many_lines_apart_from_the_others() -> None:
    series = {f"variant {index}": (X, [value + index / 1e3 for value in UP]) for index in range(20)}
    wide = lines("t", "a", series | {"last": (X, DOWN)}, AXES)
    heights = sorted(
        float(str(element.get("y")))
        for element in root(wide).iter(f"{SVG}text")
        if str(element.text).startswith(("variant", "last"))
    )
    assert len(heights) == 21
    assert min(np.diff(heights)) >= 14.0


def test_lines__that_end_in_one_place_are_told_apart_by_dashes_too() -> None:
    picture = lines("t", "a", {"one": (X, [0.0, 1.0, 2.0, 9.0]), "two": (X, [0.0, 5.0, 8.0, 9.0])}, AXES)
    assert "stroke-dasharray" in picture.svg
    assert {"one", "two"} <= set(texts(picture))


def test_ranked__goes_from_the_largest_to_the_smallest_whatever_the_order() -> None:
    assert ranked("t", "a", {"n": [3.0, np.nan, 1.0, 2.0]}, AXES) == ranked("t", "a", {"n": [1.0, 2.0, 3.0]}, AXES)


def test_bars__write_their_numbers() -> None:
    found = texts(bars("t", "a", {"high": 1234.5, "low": -1000.0}, AXES))
    assert {"high", "low", "1,234", "−1,000"} <= set(found) or {"1,235", "−1,000"} <= set(found)
    assert "25.0\N{NO-BREAK SPACE}%" in texts(bars("t", "a", {"share": 0.25}, Axes("", "share", percent_y=True)))


def test_scatter__says_that_not_all_points_are_shown() -> None:
    x = np.linspace(0.0, 1.0, 9000)
    picture = scatter("t", "a", {"n": (x, x)}, AXES)
    assert "one in 4 of 9,000 points" in texts(picture)
    assert picture.svg.count("<use") < 2600
    assert not any("one in" in text for text in texts(scatter("t", "a", {"n": (x[:100], x[:100])}, AXES)))


def test_scatter__counts_only_what_lies_within_its_limits() -> None:
    x = np.linspace(0.0, 1.0, 9000)
    picture = scatter("t", "a", {"n": (x, x)}, Axes("x", "y", x_limits=(0.0, 0.1)))
    assert not any("one in" in text for text in texts(picture))


def test_matrix__tells_every_mark_by_symbol_and_word_beside_its_colour() -> None:
    picture = matrix("t", "a", ["row"], ["a", "b", "c", "d"], [MARKS])
    assert {"▲ +1.0%", "◆ −0.1%", "✓ −2.0%", "○ no occasion"} <= set(texts(picture))
    key = next(text for text in texts(picture) if "harms others" in text)
    assert re.findall(r"[▲◆✓○] \w+", key) == ["▲ pays", "◆ harms", "✓ fails", "○ no"]


def test_matrix__of_many_columns_writes_their_names_aslant() -> None:
    names = [f"mechanism {number}" for number in range(10)]
    picture = matrix("t", "a", ["row"], names, [[MARKS[0]] * 10])
    assert set(names) <= set(texts(picture))
    assert picture.svg.count("rotate(-35") == 10
    assert texts(picture).count("▲") == texts(picture).count("+1.0%") == 10 or texts(picture).count("▲\n+1.0%") == 10


def test_density__tells_whole_counts_only() -> None:
    for count in (1, 2, 7, 300):
        x = [1.0, 2.0, *[3.0] * count]
        found = [text for text in texts(density("t", "a", x, x, AXES)) if text not in ("round", "amount, NMR")]
        assert not any("$" in text or "\\" in text for text in found)
        assert "1" in found


def test_ticks__of_rounds_are_whole() -> None:
    found = texts(lines("t", "a", {"n": ([106.0, 107.0, 108.0], [1.0, 2.0, 3.0])}, AXES))
    assert {"106", "107", "108"} <= set(found)
    assert not any(text.startswith("106.") for text in found)


def test_ticks__are_not_rounded_away() -> None:
    """Positions are rounded to a hundredth of a pixel; what a person reads is not."""
    found = texts(lines("t", "a", {"n": (X, [0.0, 0.025, 0.05, 0.075])}, Axes("x", "y", y_limits=(0.0, 0.075))))
    assert {"0.025", "0.050", "0.075"} <= set(found) or {"0.00", "0.02", "0.04", "0.06"} <= set(found)
    assert re.search(r"\d\.\d{3,}", re.sub(r">[^<]*<", "><", lines("t", "a", {"n": (X, UP)}, AXES).svg)) is None


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(-1234.5, 1, "−1,234.5"), (0.0, 2, "0.00"), (-0.001, 2, "0.00"), (1e6, 0, "1,000,000"), (-0.5, 1, "−0.5")],
)
def test_number__has_thousands_apart_and_a_true_minus(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


@pytest.mark.parametrize(("size", "digits"), [(0.0, 0), (1234.0, 0), (31.4, 1), (1.08, 2), (0.0312, 4), (1e-12, 6)])
def test_digits_of__are_three_significant_ones(size: float, digits: int) -> None:
    assert digits_of(size) == digits


@given(st.dictionaries(st.text(max_size=3), st.floats(0.0, 1.0), max_size=15), st.floats(0.001, 0.06))
def test_apart__keeps_order_and_distance_and_stays_below_the_top(wanted: dict[str, float], step: float) -> None:
    found = apart(wanted, step)
    order = sorted(wanted, key=lambda name: wanted[name])
    heights = [found[name] for name in order]
    assert all(above - below >= step - 1e-9 for below, above in pairwise(heights))
    assert all(height <= 1.0 + 1e-9 for height in heights)


@pytest.mark.parametrize("name", ["plain", "conformity tax by account", "cap_of_families", "a" * 60, "", "a-b-c" * 20])
def test_wrapped__is_at_most_two_short_lines(name: str) -> None:
    rows = wrapped(name).split("\n")
    assert len(rows) <= 2
    assert all(len(row) <= 20 for row in rows)


@pytest.mark.parametrize(
    ("name", "rows"), [("short", 1), ("A copy of the meta model as a throttle", 2), ("a " * 90, 2), ("", 1)]
)
def test_two_lines__are_at_most_two_and_not_too_long(name: str, rows: int) -> None:
    found = two_lines(name).split("\n")
    assert len(found) == rows
    assert all(len(row) <= 30 for row in found)


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
# matrices of full severity, on linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255.0
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ np.clip(rgb, 0.0, 1.0) / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    light, dark = sorted((float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("sight", sorted(SIGHT))
@pytest.mark.parametrize("colours", [palette.SERIES, palette.SERIES_DARK], ids=["light", "dark"])
def test_series__are_told_apart_by_whoever_sees_no_red_or_no_green(sight: str, colours: tuple[str, ...]) -> None:
    seen = {colour: lab(SIGHT[sight] @ linear(colour)) for colour in colours}
    distances = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(colours, 2)}
    closest = min(distances, key=distances.__getitem__)
    assert distances[closest] >= 15.0, closest  # a difference of 2 can be seen side by side


def pairs_of(dark: bool) -> Iterator[tuple[str, str, float]]:
    colours = {role: pair[dark] for role, pair in palette.ROLES.items()}
    yield "ink", colours["paper"], contrast(colours["ink"], colours["paper"])
    yield "muted", colours["paper"], contrast(colours["muted"], colours["paper"])
    yield "series-1", colours["paper"], contrast(colours["series-1"], colours["paper"])  # links and marked differences
    for mark in ("pays", "harms", "fails", "none"):
        yield mark, colours[mark], contrast(colours["ink"], colours[mark])


@pytest.mark.parametrize("dark", [False, True])
def test_palette__text_is_legible_on_every_ground(dark: bool) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    assert [(role, ground, ratio) for role, ground, ratio in pairs_of(dark) if ratio < 4.5] == []


def test_palette__no_two_roles_share_a_colour_on_white() -> None:
    colours = [colour for colour, _ in palette.ROLES.values()]
    assert len(set(colours)) == len(colours)


def test_pictures__stand_in_one_page(maker: Callable[[str, str], Picture]) -> None:
    """An HTML parser closes what it opened: no element of a picture swallows the page that follows."""
    stack: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Reader().feed(maker("t", "a").svg)
    assert stack == []
