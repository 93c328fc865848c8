"""The flows that `infra/prefect.yaml` deploys: the weekly run, the daily scores, and a backfill on request.

    resolve-due   every round that is due and not published, so that a missed week catches up
    score-open    provisional scores of the rounds that have not resolved; no money
    backfill      the same as resolve-due, and what is published is verified by hash

A worker of Prefect runs each in a process of its own; where the work is done stands in that process's environment
(`STAKEWEIGHT_SCHEDULER` …), not in the parameters. A round that fails makes the whole run fail in the end, so that
somebody is told; the others are published by then.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow

from flows.artifacts import ShownProgress
from flows.backfill import backfill, one_by_one, settle_in_order
from flows.runtime import UnitRunner
from flows.score import score_provisionally
from flows.session import open_session
from infra.settings import read_settings
from scoring.errors import NotDueError, StakeweightError
from tasks.backfill import BackfillRequest
from tasks.backfill_report import BackfillReport
from tasks.plan import RoundRequest
from tasks.provisional import unresolved_rounds

__all__ = ["backfill", "resolve_due", "score_open"]

# mypy takes `**_OPTIONS` for arguments of any kind, and so knows no overload of `flow` that fits: the two marks below.
_OPTIONS = {"validate_parameters": False, "persist_result": False}


@flow(name="resolve-due", task_runner=UnitRunner(), **_OPTIONS)  # type: ignore[call-overload, untyped-decorator]
def resolve_due(data: str, out: str, tournament: str | None = None) -> BackfillReport:
    """Resolves every round that is due and not published, in the order in which they resolve.

    Args:
        data: directory or URL of the tournament.
        out: directory or URL of what is published.
        tournament: a file to use in place of the data's `tournament.toml`.

    Raises:
        BackfillError: a round failed; the others are published.
    """
    with open_session(read_settings()):
        return settle_in_order(BackfillRequest(data, out, None, _path(tournament), trust=True), 1, one_by_one)


@flow(name="score-open", task_runner=UnitRunner(), **_OPTIONS)  # type: ignore[call-overload, untyped-decorator]
def score_open(data: str, out: str, tournament: str | None = None) -> None:
    """Leaves a table of provisional scores for every round that has opened, not resolved, and has targets so far.

    Args:
        data, out, tournament: as in `resolve_due`; `out` tells chained stakes what is published.

    Raises:
        StakeweightError: a round failed; the others are shown.
    """
    first = RoundRequest(data, out, 0, _path(tournament))
    failed = []
    with open_session(read_settings()):
        numbers = unresolved_rounds(first, datetime.now(UTC))
        shown = ShownProgress("score-open", len(numbers), "rounds scored")
        for number in numbers:
            try:
                score_provisionally(replace(first, round=number))
            except NotDueError:  # no targets yet: most rounds on most days
                pass
            except StakeweightError as error:
                failed.append(str(error))
            shown.step()
    if failed:
        raise StakeweightError("; ".join(failed))


def _path(tournament: str | None) -> Path | None:
    return None if tournament is None else Path(tournament)
