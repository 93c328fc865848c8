"""An experiment on the terminal: the figures that most people ask for first, and where the report is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from flows.render import console, plain
from tasks.lab.laboratory import Findings
from tasks.lab.write import REPORT, RESULTS

Row = Mapping[str, Any]
SHOWN = ("net", "withheld", "meta_model_corr", "pay_corr_mmc", "effective_models")


def print_findings(findings: Findings, out: Path, *, as_json: bool) -> None:
    """Prints what an experiment found.

    Args:
        findings: the experiment's.
        out: the folder of its results.
        as_json: everything, for programs.
    """
    if as_json:
        print(json.dumps(_document(findings, out), indent=2))
        return
    screen = console()
    screen.print(_comparison(_records(findings.comparison)))
    print("* differs from the baseline beyond its interval")
    for line in () if findings.matrix is None else _attacks(_records(findings.matrix)):
        print(plain(line))
    for exhibit in findings.exhibits:
        print(plain(exhibit.title))
        for sentence in exhibit.findings:
            screen.print(f"  {plain(sentence)}", highlight=False)
    same, compared = findings.reproduced
    if compared:
        print(f"published ledgers: {same} of {compared} reproduced to the atom by the baseline")
    print(f"report   {plain(out / REPORT)}\ntables   {plain(out / RESULTS)}")


def _comparison(rows: Sequence[Row]) -> Table:
    labels = {row["figure"]: str(row["label"]) for row in rows}
    table = Table(box=None, pad_edge=False)
    table.add_column("variant", overflow="fold")
    for name in SHOWN:
        table.add_column(labels[name], justify="right")
    figures = {(row["variant"], row["figure"]): row for row in rows}
    for variant in dict.fromkeys(row["variant"] for row in rows):
        table.add_row(plain(variant), *(_cell(figures[variant, name]) for name in SHOWN))
    return table


def _cell(row: Row) -> str:
    """Returns a value; a star where it differs from the baseline's beyond its interval."""
    value, low, high = row["value"], row["difference_low"], row["difference_high"]
    text = "–" if value is None else f"{value:,.2f}" if row["unit"] else f"{value:.4f}"
    sure = low is not None and (low > 0 or high < 0)
    return f"{text} *" if sure else f"{text}  "


def _attacks(rows: Sequence[Row]) -> Iterator[str]:
    """Yields a line for each attack that pays or harms somewhere: where, and how much a round."""
    for attack in dict.fromkeys(row["attack"] for row in rows):
        own = [row for row in rows if row["attack"] == attack]
        pays = [f"{row['mechanism']} {100 * row['gain']:+.2f} %" for row in own if row["verdict"] == "pays"]
        harms = [str(row["mechanism"]) for row in own if row["verdict"] == "harms"]
        if pays:
            yield f"{attack} pays, of the stake a round: {', '.join(pays)}"
        if harms:
            yield f"{attack} harms the others at no cost: {', '.join(harms)}"
    if not {row["verdict"] for row in rows} & {"pays", "harms"}:
        yield "no attack pays, and none harms the others at no cost"


def _document(findings: Findings, out: Path) -> dict[str, object]:
    same, compared = findings.reproduced
    return {
        "report": str(out / REPORT),
        "results": str(out / RESULTS),
        "reproduced": same,
        "published": compared,
        "comparison": _records(findings.comparison),
        "matrix": None if findings.matrix is None else _records(findings.matrix),
        "exhibits": {exhibit.name: list(exhibit.findings) for exhibit in findings.exhibits},
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns a frame's rows; what is absent is null, never NaN, which is no JSON."""
    filled = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in filled.to_dict("records")]
