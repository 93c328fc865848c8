"""What `score` prints: every model's provisional scores, best first by the first score that is there."""

import json

import pyarrow as pa
from rich.table import Column, Table

from flows.render import console, plain
from tasks.summary import SHOWN_SCORES

_SCORE_WIDTH = 9


def print_scores(number: int, scores: pa.Table, *, as_json: bool) -> None:
    """Prints a table of scores.

    Args:
        number: the round.
        scores: with the columns of the `scores` table.
        as_json: all columns, for programs.
    """
    rows = scores.to_pylist()
    if as_json:
        print(json.dumps({"round": number, "provisional": True, "scores": rows}))
        return
    screen = console()
    keys = [key for key in SHOWN_SCORES if any(row[key] is not None for row in rows)]
    names = [plain(row["model"]) for row in rows]
    keys = keys[: max(1, (screen.width - max(map(len, names), default=0)) // _SCORE_WIDTH)]
    table = Table(Column("model", no_wrap=True), *(Column(key, justify="right") for key in keys), box=None)
    for name, row in sorted(zip(names, rows, strict=True), key=lambda pair: _rank(pair[1], keys)):
        table.add_row(name, *("" if row[key] is None else f"{row[key]:+.4f}" for key in keys))
    screen.print(f"round {number}: provisional scores, no money", style="bold", highlight=False)
    screen.print(table)


def _rank(row: dict[str, float | None], keys: list[str]) -> float:
    first = row[keys[0]] if keys else None
    return float("inf") if first is None else -first
