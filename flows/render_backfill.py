"""What a backfill prints: a line a round, then what is wrong, where a terminal shows it."""

import json
from dataclasses import asdict

from rich.table import Column, Table

from flows.render import console, plain
from tasks.backfill_report import BackfillReport, RoundLine

_QUIET = ("verified", "published before")
_SHOWN = ("models", "at risk", "paid", "burned", "factor")


def print_report(report: BackfillReport, *, as_json: bool) -> None:
    """Prints how every round of a backfill ended."""
    if as_json:
        print(json.dumps({"counts": report.counts, "rounds": [asdict(line) for line in report.lines]}))
        return
    screen = console()
    if not report.lines:
        screen.print("no round is due")
        return
    table = Table("round", "status", *(Column(name, justify="right") for name in _SHOWN), box=None, pad_edge=True)
    for line in report.lines:
        if line.status not in _QUIET:
            table.add_row(str(line.number), line.status, *_figures(line))
    if table.row_count:
        screen.print(table)
    for line in report.lines:
        if line.message:
            screen.print(f"  {line.number} {line.status}: {plain(line.message)}", soft_wrap=True, highlight=False)
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items())
    screen.print(f"{len(report.lines)} rounds: {counts}", highlight=False)


def _figures(line: RoundLine) -> list[str]:
    if line.models is None:
        return []
    return [str(line.models), *(f"{float(line.totals[key]):.4f}" for key in ("at_risk", "payout", "burn", "factor"))]
