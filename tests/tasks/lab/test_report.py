"""The report: needs nothing beside itself, says every figure to the ear too, and marks nothing without its interval."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scoring.errors import OperatorError
from tasks.lab.compare import COMPARISON_COLUMNS
from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.matrix import MATRIX_COLUMNS
from tasks.lab.pictures import Axes, lines
from tasks.lab.report import Page, render
from tasks.lab.report_attacks import attack_picture, attack_view
from tasks.lab.report_pictures import merged
from tasks.lab.report_tables import baseline_first, by_account, comparison_groups, in_short, movers, span, table_view
from tests.tasks.lab.pages import ATTACKS, MECHANISMS, VARIANTS, fake_page

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Reads a page strictly: every element that is opened must be closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page() -> Page:
    return fake_page()


@pytest.fixture(scope="module")
def html(page: Page) -> str:
    return render(page)


@pytest.fixture(scope="module")
def found(html: str) -> Reader:
    return read(html)


def comparison(**columns: Any) -> pd.DataFrame:
    row = {"label": "paid", "unit": "NMR", "low": np.nan, "high": np.nan, "difference": np.nan}
    return pd.DataFrame(row | {"difference_low": np.nan, "difference_high": np.nan} | columns)


def test_render__needs_nothing_beside_itself(html: str, found: Reader) -> None:
    assert not {tag for tag, _ in found.elements} & {"script", "img", "iframe", "object", "embed", "form", "base"}
    links = [value for _, attributes in found.elements for name, value in attributes.items() if name in ("href", "src")]
    assert all(str(link).startswith(("#", "data:,")) for link in links)
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]?)", html)) <= {"#"}
    policy = next(each for each in found.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_render__the_same_page_gives_the_same_bytes(html: str) -> None:
    assert render(fake_page()) == html
    assert render(fake_page(seed=2)) != html


def test_render__has_one_title_a_language_and_headings_in_their_order(found: Reader) -> None:
    assert [each.get("lang") for each in found.all("html")] == ["en"]
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_render__ids_are_unique_and_every_link_leads_somewhere(found: Reader) -> None:
    ids = Counter(attributes["id"] for _, attributes in found.elements if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    links = {str(each["href"])[1:] for each in found.all("a")}
    assert len(links) >= 8
    assert links <= set(ids)
    labels = {name for each in found.all("svg") for name in str(each["aria-labelledby"]).split()}
    assert labels <= set(ids)


def test_render__every_table_has_a_caption_and_every_heading_a_scope(html: str, found: Reader) -> None:
    tables = re.findall(r"<table.*?</table>", html, flags=re.DOTALL)
    assert len(tables) >= 10
    assert all(table.count("<caption") == 1 for table in tables)
    assert {each.get("scope") for each in found.all("th")} == {"col", "row"}


def test_render__every_picture_stands_in_a_figure_with_its_words(page: Page, html: str) -> None:
    figures = re.findall(r"<figure>.*?</figure>", html, flags=re.DOTALL)
    assert len(figures) == html.count("<svg ") == 15
    assert all(each.count("<figcaption>") == 1 and 'class="words"' in each for each in figures)
    for exhibit in page.exhibits:
        assert all(picture.svg in html for picture in exhibit.pictures)


def test_render__says_all_that_the_page_says(page: Page, found: Reader) -> None:
    text = " ".join(found.text)
    for each in (page.title, page.question, *page.facts, *page.facts.values(), *page.notes, *VARIANTS, *MECHANISMS):
        assert each in text
    for exhibit in page.exhibits:
        assert all(each in text for each in (exhibit.title, exhibit.question, *exhibit.findings))
    assert all(how in text and name in text for name, how in page.attacks.items())


def test_render__without_attacks_exhibits_and_rows_is_still_a_page(page: Page) -> None:
    bare = replace(
        page, matrix=None, exhibits=(), attacks={}, notes=(), rounds=page.rounds.iloc[:0], models=page.models.iloc[:0]
    )
    text = " ".join(read(render(bare)).text)
    assert "All variants in figures" in text
    assert "Attacks" not in text
    assert "Who gains" not in text


def test_render__of_the_baseline_alone(page: Page) -> None:
    alone = replace(
        page,
        comparison=page.comparison[page.comparison["variant"] == "baseline"],
        rounds=page.rounds[page.rounds["variant"] == "baseline"],
        models=page.models[page.models["variant"] == "baseline"],
    )
    assert "In short" not in " ".join(read(render(alone)).text)


def test_render__names_are_text_not_markup(page: Page) -> None:
    name = "<script>alert(1)</script>"
    hostile = replace(
        page,
        title=name,
        comparison=page.comparison.replace({"variant": {"equal weights": name}}),
        rounds=page.rounds.replace({"variant": {"equal weights": name}}),
        models=page.models.replace({"variant": {"equal weights": name}}),
        exhibits=(Exhibit("x", name, name, (name,), (), (Table(name, pd.DataFrame({name: [name]})),)),),
        notes=(name,),
        facts={name: name},
    )
    html = render(hostile)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_render__refuses_a_baseline_that_is_no_variant(page: Page) -> None:
    with pytest.raises(OperatorError, match="baseline must be one of"):
        render(replace(page, baseline="plain"))


def test_comparison_groups__mark_only_what_leaves_zero_out() -> None:
    frame = comparison(
        variant=["up", "base", "down", "chance", "touching", "unknown"],
        figure="paid",
        value=[1500.0, 1000.0, 500.0, 1001.0, 1010.0, 1100.0],
        difference=[500.0, np.nan, -500.0, 1.0, 10.0, 100.0],
        difference_low=[400.0, np.nan, -600.0, -5.0, 0.0, np.nan],
        difference_high=[600.0, np.nan, -400.0, 7.0, 20.0, np.nan],
    )
    (group,) = comparison_groups(frame, "base")
    rows = {name: entries[0] for name, entries in group.rows}
    assert list(rows) == ["base", "up", "down", "chance", "touching", "unknown"]
    assert [rows[name].clear for name in rows] == ["", "higher", "lower", "", "", ""]
    assert rows["base"].difference == ""
    assert (rows["down"].value, rows["down"].difference) == ("500", "−500")
    assert rows["up"].difference_interval == "400 to 600"
    assert in_short([group]) == (
        ("up", ("paid +500 NMR",)),
        ("down", ("paid −500 NMR",)),
        ("chance", ()),
        ("touching", ()),
        ("unknown", ()),
    )


def test_comparison_groups__percent_is_of_fractions_and_absent_is_no_zero() -> None:
    frame = comparison(variant=["base", "other"], figure="new_figure", unit="%", value=[0.125, np.nan])
    (group,) = comparison_groups(frame, "base")
    assert group.title == "More figures"
    assert [entries[0].value for _, entries in group.rows] == ["12.5\N{NO-BREAK SPACE}%", "–"]


def test_render__money_is_in_the_currency_of_the_page(page: Page) -> None:
    text = " ".join(read(render(replace(page, currency="CAKE"))).text)
    assert "CAKE" in text
    assert "currency" not in text.replace("tournament's currency", "")


def test_comparison_groups__a_figure_that_nobody_has_is_named_and_is_no_column() -> None:
    parts = [
        comparison(variant=["base", "other"], figure="meta_model_corr", value=[0.03, 0.02]),
        comparison(variant=["base", "other"], figure="portfolio_return", value=np.nan).assign(label="portfolio return"),
    ]
    (group,) = comparison_groups(pd.concat(parts), "base")
    assert group.columns == (("paid", "NMR"),)
    assert group.absent == ("portfolio return",)
    assert all(len(entries) == 1 for _, entries in group.rows)


def test_baseline_first__keeps_the_order_of_the_others() -> None:
    assert baseline_first(["b", "a", "b", "c"], "a") == ["a", "b", "c"]


def test_span__of_an_interval_that_is_absent_is_empty() -> None:
    assert (span(-1.0, 2.0, 1), span(np.nan, 2.0, 1)) == ("−1.0 to 2.0", "")


def test_movers__are_the_accounts_whose_net_payout_changes_most() -> None:
    accounts = [f"a{number}" for number in range(8)]
    change = [0.0, 10.0, -20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    halves = []
    for variant, plus in (("base", [0.0] * 8), ("other", change)):
        for half in (1, 2):  # two models an account
            rows = {
                "variant": variant,
                "round": 1,
                "model": [f"{name}_{half}" for name in accounts],
                "account": accounts,
            }
            halves.append(pd.DataFrame(rows | {"payout": [100.0 + each / 2 for each in plus], "burn": 40.0}))
    (found,) = movers(pd.concat(halves), "base")
    assert found.variant == "other"
    assert found.gaining == (
        ("a7", "120", "190", "+70"),
        ("a6", "120", "180", "+60"),
        ("a5", "120", "170", "+50"),
        ("a4", "120", "160", "+40"),
        ("a3", "120", "150", "+30"),
    )
    assert found.losing == (("a2", "120", "100", "−20"),)
    assert found.summary == "6 accounts gain, 1 lose"


def test_by_account__a_model_without_an_account_is_its_own() -> None:
    models = pd.DataFrame({"variant": "v", "model": ["m1", "m2", "m3"], "account": ["a", None, ""]})
    assert by_account(models, np.array([1.0, 2.0, np.nan])) == {"v": {"a": 1.0, "m2": 2.0}}


def test_table_view__chooses_digits_by_column_and_folds_long_tables() -> None:
    frame = pd.DataFrame(
        {
            "round": [1001, 1002],
            "stake_atoms": [1234567, 2],
            "corr": [0.01234, np.nan],
            "clear": [True, None],
            "who": ["a", "b"],
        }
    )
    view = table_view("caption", frame)
    assert view.columns == ("round", "stake atoms", "corr", "clear", "who")
    assert view.rows == (("1001", "1,234,567", "0.0123", "yes", "a"), ("1002", "2", "–", "–", "b"))
    assert view.numeric == (True, True, True, False, False)
    assert (view.long, table_view("c", pd.concat([frame] * 10)).long) == (False, True)


def test_table_view__sets_written_numbers_like_numbers_and_leaves_them_as_they_are() -> None:
    written = {"mean": ["1,234.50", "–"], "share": ["12.5 %", "−3 %"], "interval": ["[−0.1, 0.2]", "[0.1, 0.3]"]}
    view = table_view(
        "c", pd.DataFrame(written | {"threshold": ["no tax", "T = 50"], "date": ["2023-01-07a", "5 rounds"]})
    )
    assert view.numeric == (True, True, True, False, False)
    assert view.rows[1] == ("–", "−3 %", "[0.1, 0.3]", "T = 50", "5 rounds")


def test_attack_view__where_an_attack_pays_the_cell_says_so(page: Page) -> None:
    assert page.matrix is not None
    assert set(page.matrix.columns) == set(MATRIX_COLUMNS)
    assert tuple(page.comparison.columns) == COMPARISON_COLUMNS
    view = attack_view(page.matrix, page.attacks)
    assert view.mechanisms == MECHANISMS
    assert [name for name, *_ in view.rows] == list(ATTACKS)
    cells = {
        (name, mechanism): cell
        for name, _, _, line in view.rows
        for mechanism, cell in zip(view.mechanisms, line, strict=True)
    }
    for row in page.matrix.to_dict("records"):
        cell = cells[row["attack"], row["mechanism"]]
        assert (cell.word == "pays") == (cell.symbol == "▲") == (row["low"] > 0.0 and row["verdict"] != "none")
    paying = int((page.matrix["verdict"] == "pays").sum())
    assert view.paying.startswith(f"{paying} of 78 pairs")
    assert paying == attack_picture(page.matrix).svg.count(">▲ +")


def test_attack_view__tells_gain_harm_throttle_detectability_and_test() -> None:
    row = {"mechanism": "plain", "attack": "split", "title": "Split", "choice": 8.0, "rounds": 30, "verdict": "pays"}
    row |= {"gain": 0.0123, "low": 0.004, "high": 0.02, "p_value": 0.0004, "wins": 24.0, "losses": 6.0}
    row |= {"harm": 0.001, "harm_low": 0.0005, "harm_high": 0.0015, "detectability": "seen in ranks"}
    row |= {"throttle": 0.5, "throttle_low": 0.4, "throttle_high": 0.6}
    other = row | {"mechanism": "taxed", "gain": np.nan, "choice": None, "verdict": "none"}
    third = row | {"attack": "merge", "title": "Merge", "choice": None, "detectability": 0.5, "throttle": 0.0}
    view = attack_view(pd.DataFrame([row, other, third], columns=list(MATRIX_COLUMNS)), {})
    cell = view.rows[0][3][0]
    assert cell.gain == _spaced("+1.23%")
    assert cell.lines == (
        _spaced("0.40 to 2.00%"),
        _spaced("harm +0.100%"),
        _spaced("0.050 to 0.150%"),
        _spaced("throttle +50.0%"),
        _spaced("40.0 to 60.0%"),
        "seen: seen in ranks",
        "24/30 won, p < 0.001",
        "best choice: 8",
    )
    assert (view.rows[0][3][1].gain, view.rows[0][3][1].word) == ("", "no occasion")
    assert view.rows[1][3][0].lines[-2:] == ("seen: 0.50", "24/30 won, p < 0.001")
    assert view.rows[1][3][1].word == "not tried"


def _spaced(text: str) -> str:
    return text.replace("%", "\N{NO-BREAK SPACE}%")


def test_attack_view__what_changes_nothing_is_said_in_few_words() -> None:
    row = {"mechanism": "plain", "attack": "split", "title": "Split", "choice": 10, "rounds": 30, "verdict": "fails"}
    row |= dict.fromkeys(("gain", "low", "high", "wins", "losses", "harm", "harm_low", "harm_high"), 0.0)
    row |= {"throttle": 0.0, "throttle_low": 0.0, "throttle_high": 0.0, "p_value": 1.0, "detectability": 1.0}
    cell = attack_view(pd.DataFrame([row]), {}).rows[0][3][0]
    assert cell.gain == _spaced("0%")
    assert cell.lines == (
        _spaced("0 to 0%"),
        _spaced("harm 0%"),
        "seen: 1.00",
        "the same in every round",
        "best choice: 10",
    )


def test_attack_view__refuses_a_verdict_of_its_own(page: Page) -> None:
    assert page.matrix is not None
    with pytest.raises(OperatorError, match="verdict must be one of"):
        attack_view(page.matrix.assign(verdict="wins"), {})


def test_merged__draws_the_same_numbers_once_and_says_for_whom() -> None:
    x = np.arange(3.0)
    curves = {"base": (x, x), "tax": (x, 2 * x), "cap": (x, x + 1e-14), "short": (x[:2], x[:2])}
    drawn, words = merged(curves)
    assert list(drawn) == ["base (+1 alike)", "tax", "short"]
    assert words == " The very same numbers: base stands also for cap."
    assert merged({"base": (x, x)})[1] == ""


def test_render__tells_the_concentration_in_words(html: str) -> None:
    words = re.search(r"The first account alone: ([^<]*)\.", html)
    assert words is not None
    assert re.match(
        r"[\d.]+\s% at baseline; of the others most at .* \([\d.]+\s%\), least at .* \([\d.]+\s%\)", words.group(1)
    )
    assert re.search(r"The best-paid tenth has [\d.]+\s% at baseline; of the others most at 1×CORR", html)


def test_render__a_picture_may_be_shown_twice(page: Page) -> None:
    """Its ids are then twice in the page, and mean the same both times."""
    picture = lines("t", "a", {"n": ([1.0, 2.0], [1.0, 2.0])}, Axes("x", "y"))
    twice = replace(page, exhibits=(Exhibit("x", "x", "x", (), (picture, picture)),))
    assert render(twice).count(picture.svg) == 2
