"""What a command prints: a table for people, JSON for programs, both from the same figures."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tasks.conclude import Resolution
from tasks.summary import SHOWN_SCORES, ModelLine, RoundSummary

if TYPE_CHECKING:
    from scoring.synthetic import SyntheticSpec

_PIPE_WIDTH = 120


def print_resolution(resolution: Resolution, *, as_json: bool) -> None:
    """Prints how a run ended."""
    manifest = resolution.manifest
    if as_json:
        print(json.dumps({"published": resolution.summary is not None, **json.loads(manifest.to_json())}))
        return
    console = _console()
    what = f"round {manifest.round}, revision {manifest.revision}"
    if resolution.summary is None:
        console.print(f"{what} was published before from the same inputs; nothing to do")
        return
    currency = str(manifest.facts["currency"])
    _print_summary(console, resolution.summary, currency, f"{manifest.facts['tournament']}: {what}")
    for output in manifest.outputs.values():
        console.print(f"  {output['path']}  {output['rows']} rows", soft_wrap=True)


def print_written(directory: Path, spec: "SyntheticSpec", *, as_json: bool) -> None:
    """Prints what a synthetic tournament consists of."""
    if as_json:
        facts = {"rounds": spec.rounds, "models": spec.models, "stocks": spec.stocks, "seed": spec.seed}
        print(json.dumps({"directory": str(directory), "first_round": spec.first_round, **facts}))
        return
    last = spec.first_round + spec.rounds - 1
    _console().print(
        f"{directory}: rounds {spec.first_round} to {last}, {spec.models} models, {spec.stocks} stocks",
        soft_wrap=True,
    )


def _print_summary(console: Console, summary: RoundSummary, currency: str, title: str) -> None:
    statuses = ", ".join(f"{count} {status}" for status, count in summary.statuses.items())
    console.print(f"[bold]{title}[/bold]", highlight=False)
    console.print(f"  models   {summary.models}: {statuses}", highlight=False)
    for name, amount in (("at risk", summary.at_risk), ("paid", summary.payout), ("burned", summary.burn)):
        console.print(f"  {name:<8} {amount} {currency}", highlight=False)
    console.print(f"  factor   {summary.factor}", highlight=False)
    table = Table("model", f"at risk, {currency}", f"change, {currency}", *SHOWN_SCORES, box=None, pad_edge=True)
    for column in table.columns[1:]:
        column.justify = "right"
    _add_lines(table, summary.best)
    table.add_section()
    _add_lines(table, tuple(reversed(summary.worst)))
    console.print(table)


def _add_lines(table: Table, lines: Sequence[ModelLine]) -> None:
    for line in lines:
        scores = [_short(line.scores.get(key)) for key in SHOWN_SCORES]
        table.add_row(line.model, f"{line.at_risk:.2f}", f"{line.change:+.4f}", *scores)


def _short(score: Decimal | None) -> str:
    return "" if score is None else f"{score:+.4f}"


def _console() -> Console:
    """A console as wide as the terminal; in a pipe wide enough for a row of the table."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)
