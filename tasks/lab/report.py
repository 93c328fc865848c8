"""The report of an experiment: one page that needs nothing beside itself, for a screen, for paper and for the ear.

    Page (numbers and words) ── views of tables, pictures ── report.html.j2 ──► one HTML text

No script, no font, no picture is fetched: the page forbids it to the browser, so that a report kept for years shows
what it showed on its first day and tells nobody who reads it. Every picture has its words and every figure stands in a
table; colour is never the only sign. The failure guarded against: a page that looks right to its author and cannot be
read, checked or kept by anybody else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from tasks.lab import palette
from tasks.lab.exhibit import Exhibit
from tasks.lab.report_attacks import attack_picture, attack_view
from tasks.lab.report_pictures import compared_of, compared_pictures
from tasks.lab.report_tables import comparison_groups, in_short, movers, table_view


@dataclass(frozen=True, slots=True)
class Page:
    """All that a report says.

    Attributes:
        title: of the experiment, on one line.
        question: what it was made to answer.
        facts: what was compared on what, by name: data, rounds, seed, baseline and the like.
        comparison: a row a variant and figure, see `tasks.lab.compare`; with unit "%" the numbers are fractions,
            shown times 100, and with unit "currency" they are money; the differences are against the baseline, NaN
            for itself; NaN limits: no interval.
        matrix: a row a mechanism and attack, see `tasks.lab.matrix`; None where nothing was attacked.
        rounds: as in `results.ROUND_COLUMNS`.
        models: as in `results.MODEL_COLUMNS`.
        exhibits: in the order of reading.
        attacks: how each attack works, by name.
        notes: what a reader must know to judge the figures.
        baseline: the variant that the others are compared with.
        currency: of all money.
    """

    title: str
    question: str
    facts: Mapping[str, str]
    comparison: pd.DataFrame
    matrix: pd.DataFrame | None
    rounds: pd.DataFrame
    models: pd.DataFrame
    exhibits: Sequence[Exhibit] = ()
    attacks: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    baseline: str = "baseline"
    currency: str = "NMR"


def render(page: Page) -> str:
    """Returns the report as one HTML text; the same page gives the same bytes.

    Raises:
        OperatorError: the baseline is no variant of the comparison, or a verdict is none that is known.
    """
    comparison = page.comparison.replace({"unit": {"currency": page.currency}})
    groups = comparison_groups(comparison, page.baseline)
    tables = {
        exhibit.name: [table_view(table.caption, table.frame) for table in exhibit.tables] for exhibit in page.exhibits
    }
    compared = compared_of(page.rounds, page.models, comparison, page.baseline, page.currency)
    matrix = None if page.matrix is None or page.matrix.empty else page.matrix
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            colours=Markup(palette.css(dark=False)),
            dark_colours=Markup(palette.css(dark=True)),
            groups=groups,
            short=in_short(groups),
            pictures=compared_pictures(compared),
            movers=movers(page.models, page.baseline),
            attacks=None if matrix is None else attack_view(matrix, page.attacks),
            attack_picture=None if matrix is None else attack_picture(matrix),
            tables=tables,
        )
    )


@cache
def _environment() -> Environment:
    found: Any = Environment(
        loader=PackageLoader("tasks.lab", "."),
        autoescape=select_autoescape(("html", "j2"), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return found
