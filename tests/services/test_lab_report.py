"""What a person sees of an experiment's report in a real browser, wide and narrow, by day and by night.

The screenshots stay in the tests' temporary folder, for a look.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.lab.report import render
from tests.services.chromium import Page, chromium
from tests.tasks.lab.pages import fake_page

pytestmark = pytest.mark.services

WIDTHS = (1400, 1000)
FEWEST_PIXELS = 11.0
"""Height of letters' boxes as shown, whatever a picture was scaled by."""
FEWEST_COLOURS = 150

_LETTERS = """
[...document.querySelectorAll("svg text")].filter(each => each.textContent.trim()).map(each => {
  const scale = each.getScreenCTM();
  return parseFloat(getComputedStyle(each).fontSize) * Math.hypot(scale.c, scale.d);
})
"""
_PROSE = """
[...document.querySelectorAll("main *, nav *, header *")]
  .filter(each => !each.closest("svg") && !each.closest(".hidden"))
  .filter(each => [...each.childNodes].some(node => node.nodeType == 3 && node.data.trim()))
  .map(each => parseFloat(getComputedStyle(each).fontSize))
"""
_OUTSIDE = """
[...document.querySelectorAll("figure")].flatMap(figure => {
  const frame = figure.querySelector("svg").getBoundingClientRect();
  return [...figure.querySelectorAll("svg text")].filter(each => {
    const box = each.getBoundingClientRect();
    return box.width && (box.left < frame.left - 2 || box.right > frame.right + 2 ||
                         box.top < frame.top - 2 || box.bottom > frame.bottom + 2);
  }).map(each => figure.querySelector("figcaption").innerText + ": " + each.textContent);
})
"""
_OVERLAPPING = """
[...document.querySelectorAll("figure")].flatMap(figure => {
  const texts = [...figure.querySelectorAll("svg text")].filter(each => each.textContent.trim());
  const boxes = texts.map(each => [each.textContent.trim(), each.getBoundingClientRect()]);
  const found = [];
  for (const [place, [name, a]] of boxes.entries())
    for (const [other, b] of boxes.slice(place + 1)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2 && down > 4) found.push(`${figure.querySelector("figcaption").innerText}: ${name} / ${other}`);
    }
  return found;
})
"""
_PAYING = """
[...document.querySelectorAll("td.pays")].map(each => each.innerText.includes("▲") && each.innerText.includes("pays"))
"""


def call(page: Page, method: str, **parameters: Any) -> list[dict[str, Any]]:
    """Calls a method of the browser; returns the events that came before its answer."""
    number = next(page._numbers)
    page._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
    events = []
    while True:
        message = json.loads(page._socket.recv(timeout=60))
        if message.get("id") == number:
            assert "error" not in message, message
            return events
        events.append(message)


def show(page: Page, file: Path, width: int, scheme: str = "light") -> list[dict[str, Any]]:
    """Opens a file at a width; returns what the browser requested, logged and refused on the way."""
    for domain in ("Network", "Log", "Runtime", "Page"):
        call(page, f"{domain}.enable")
    call(page, "Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    call(page, "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    events = call(page, "Page.navigate", url=file.as_uri())
    while not any(event["method"] == "Page.loadEventFired" for event in events):
        events.append(json.loads(page._socket.recv(timeout=60)))
    events += call(page, "Page.getLayoutMetrics")
    for domain in ("Network", "Log", "Runtime", "Page"):
        events += call(page, f"{domain}.disable")
    return events


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(fake_page()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


def test_report__asks_for_nothing_and_complains_of_nothing(page: Page, report: Path) -> None:
    events = show(page, report, 1400)
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in events if event["method"] in complaints] == []
    assert page.evaluate("document.scripts.length") == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_report__is_legible(page: Page, report: Path, width: int) -> None:
    show(page, report, width)
    letters, prose = page.evaluate(_LETTERS), page.evaluate(_PROSE)
    assert len(letters) > 300
    assert min(letters) >= FEWEST_PIXELS
    assert min(prose) >= FEWEST_PIXELS
    assert page.evaluate(_OUTSIDE) == []
    assert page.evaluate(_OVERLAPPING) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_report__only_wide_tables_are_scrolled_sideways(page: Page, report: Path, width: int) -> None:
    show(page, report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('.picture')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert wide == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_report__every_picture_is_drawn(page: Page, report: Path, width: int, scheme: str) -> None:
    pictures = []
    show(page, report, width, scheme)
    for number in range(page.evaluate("document.querySelectorAll('figure').length")):
        page.evaluate(f"document.querySelectorAll('figure')[{number}].scrollIntoView({{block: 'start'}})")
        pictures.append(page.screenshot(f"report-{width}-{scheme}-{number:02d}"))
    assert len(pictures) == 15
    counts = {picture.name: page.colours(picture) for picture in pictures}
    assert {name: count for name, count in counts.items() if count < FEWEST_COLOURS} == {}


def test_report__by_night_letters_are_light_and_the_ground_is_dark(page: Page, report: Path) -> None:
    def brightness(css: str) -> float:
        return sum(int(part) for part in css[css.index("(") + 1 :].split(")")[0].split(",")[:3]) / 765.0

    grounds, letters = {}, {}
    for scheme in ("light", "dark"):
        show(page, report, 1400, scheme)
        grounds[scheme] = brightness(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        letters[scheme] = brightness(page.evaluate("getComputedStyle(document.querySelector('svg text')).fill"))
    assert grounds["light"] > 0.9 > 0.3 > letters["light"]
    assert letters["dark"] > 0.8 > 0.2 > grounds["dark"]


def test_report__every_picture_has_words_that_a_screen_reader_finds(page: Page, report: Path) -> None:
    show(page, report, 1400)
    script = """
    [...document.querySelectorAll("svg")].map(svg => [svg.getAttribute("role"),
      ...svg.getAttribute("aria-labelledby").split(" ").map(id => document.getElementById(id).textContent)])
    """
    found = page.evaluate(script)
    assert len(found) == 15
    assert all(role == "img" and title and len(words) > 10 for role, title, words in found)
    paying = page.evaluate(_PAYING)
    assert len(paying) > 5
    assert all(paying)
