"""What a backfill came to: a line a round, small enough to keep for years of rounds."""

from collections.abc import Mapping
from dataclasses import dataclass

from scoring.errors import NotDueError, StakeweightError
from tasks.backfill import Outcome, Status

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One round's line.

    Attributes:
        number: the round.
        status: how it ended.
        message: why, where it is neither published nor verified.
        exit_code: of the error that it ended with, 0 for none.
        models: rows of the ledger; None unless published now.
        totals: at risk, payout, burn and factor, as in the manifest; empty unless published now.
    """

    number: int
    status: Status
    message: str
    exit_code: int
    models: int | None
    totals: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """All rounds that were due, in the order in which they settle."""

    lines: tuple[RoundLine, ...]

    @property
    def counts(self) -> dict[Status, int]:
        """Number of rounds by how they ended."""
        found: dict[Status, int] = {}
        for line in self.lines:
            found[line.status] = found.get(line.status, 0) + 1
        return found

    @property
    def failed(self) -> tuple[RoundLine, ...]:
        """The rounds that somebody has to see to: those with an error, and those that a mistake blocks."""
        return tuple(line for line in self.lines if line.exit_code not in (0, NotDueError.exit_code))

    @property
    def exit_code(self) -> int:
        """The first failure's; else 0, but 3 where not a single round was due."""
        if self.failed:
            return self.failed[0].exit_code
        waiting = all(line.status in ("not due", "blocked") for line in self.lines)
        return NotDueError.exit_code if waiting else 0


class BackfillError(StakeweightError):
    """Rounds failed; all others that could be are published.

    Attributes:
        report: what became of every round.
    """

    def __init__(self, report: BackfillReport) -> None:
        shown = [f"round {line.number} {line.status}: {line.message}" for line in report.failed[:_SHOWN]]
        more = f"; and {len(report.failed) - _SHOWN} more" if len(report.failed) > _SHOWN else ""
        super().__init__("; ".join(shown) + more)
        self.report = report
        self.exit_code = report.exit_code  # type: ignore[misc]  # each kind of error has its own; this one has many


def line_of(outcome: Outcome) -> RoundLine:
    """Returns the line of a round: without its manifest, which names thousands of files."""
    resolution = outcome.resolution
    summary = resolution.summary if resolution else None
    totals = summary.facts()["totals"] if summary else {}
    models = summary.models if summary else None
    return RoundLine(outcome.number, outcome.status, outcome.message, outcome.exit_code, models, totals)
