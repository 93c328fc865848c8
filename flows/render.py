"""What a command prints: a table for people, JSON for programs, both from the same figures.

Names are other people's text: none is taken for markup, breaks a line or acts on the terminal. The failure guarded
against: a model named `[/b]`, at which the command ends as a bug after the round was published.
"""

import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table

from tasks.conclude import Resolution
from tasks.findings import Findings
from tasks.submission_file import printable
from tasks.summary import SHOWN_SCORES, RoundSummary

if TYPE_CHECKING:
    from scoring.synthetic import SyntheticSpec

_PIPE_WIDTH = 120
_LONGEST_LINE = 4_000
_SCORE_WIDTH = 9


def print_resolution(resolution: Resolution, *, as_json: bool) -> None:
    """Prints how a run ended."""
    manifest = resolution.manifest
    if as_json:
        print(json.dumps({"published": resolution.summary is not None, **json.loads(manifest.to_json())}))
        return
    screen = console()
    what = f"round {manifest.round}, revision {manifest.revision}"
    if resolution.summary is None:
        screen.print(f"{what} was published before from the same inputs; nothing to do")
        return
    currency = plain(manifest.facts["currency"])
    screen.print(f"{plain(manifest.facts['tournament'])}: {what}", style="bold", highlight=False)
    _print_totals(screen, resolution.summary, currency, manifest.facts.get("rules", {}))
    _print_models(screen, resolution.summary, currency)
    for output in manifest.outputs.values():
        screen.print(f"  {plain(output['path'])}  {output['rows']} rows", soft_wrap=True)


def print_written(directory: Path, spec: "SyntheticSpec", *, as_json: bool) -> None:
    """Prints what a synthetic tournament consists of."""
    if as_json:
        facts = {"rounds": spec.rounds, "models": spec.models, "stocks": spec.stocks, "seed": spec.seed}
        print(json.dumps({"directory": str(directory), "first_round": spec.first_round, **facts}))
        return
    last = spec.first_round + spec.rounds - 1
    console().print(
        f"{plain(directory)}: rounds {spec.first_round} to {last}, {spec.models} models, {spec.stocks} stocks",
        soft_wrap=True,
    )


def print_findings(findings: Findings, *, as_json: bool) -> None:
    """Prints what a verification found, the problems last, where a terminal shows them."""
    lines = {"checked": findings.checked, "notes": findings.notes, "problems": findings.problems}
    if as_json:
        print(json.dumps({"ok": findings.ok, **lines}))
        return
    for kind, found in lines.items():
        for line in found:
            print(f"{kind.removesuffix('s'):<8} {plain(line)}")
    print(
        "everything agrees" if findings.ok else f"{len(findings.problems)} problems: what is published does not agree"
    )


def _print_totals(screen: Console, summary: RoundSummary, currency: str, rules: Mapping[str, Any]) -> None:
    """Prints the totals; what was withheld or netted where the rules can do so."""
    statuses = ", ".join(f"{count} {status}" for status, count in summary.statuses.items())
    screen.print(f"  models   {summary.models}: {statuses}", highlight=False)
    amounts = [("at risk", summary.at_risk), ("paid", summary.payout), ("burned", summary.burn)]
    if rules.get("adjust"):
        amounts.insert(2, ("withheld", summary.gross_payout - summary.payout))
    if rules.get("net_opposites"):
        amounts.insert(1, ("netted", summary.netted))
    for name, amount in amounts:
        screen.print(f"  {name:<8} {amount:f} {currency}", highlight=False)
    screen.print(f"  factor   {summary.factor}", highlight=False)


def _print_models(screen: Console, summary: RoundSummary, currency: str) -> None:
    lines = (*summary.best, *reversed(summary.worst))
    keys = [key for key in SHOWN_SCORES if any(line.scores.get(key) is not None for line in lines)]
    names = [plain(line.model) for line in lines]
    room = screen.width - max(map(len, [*names, "meta model"])) - len(currency) * 2 - 24
    keys = keys[: max(1, room // _SCORE_WIDTH)]  # on a narrow terminal who won matters more than every score
    model = Column("model", no_wrap=True)
    table = Table(model, f"at risk, {currency}", f"change, {currency}", *keys, box=None, pad_edge=True)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("meta model", "", "", *(_short(summary.meta_model.get(key)) for key in keys))
    for name, line in zip(names, lines, strict=True):
        scores = (_short(line.scores.get(key)) for key in keys)
        table.add_row(name, f"{line.at_risk:.2f}", f"{line.change:+.4f}", *scores)
    screen.print(table)


def _short(score: Decimal | None) -> str:
    return "" if score is None else f"{score:+.4f}"


def plain(name: object) -> str:
    """Returns a name or a path as one line of characters that standard output can encode."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(str(name), _LONGEST_LINE).encode(encoding, "backslashreplace").decode(encoding)


def console() -> Console:
    """Returns a console as wide as the terminal; in a pipe wide enough for a row of the table.

    Markup is off for all of it, and so are codes such as `:smile:`, which escaping the markup would leave.
    """
    screen = Console(markup=False, emoji=False)
    return screen if screen.is_terminal else Console(markup=False, emoji=False, width=_PIPE_WIDTH)
