"""The flow of a backfill: rounds scored side by side, settled in the order in which they resolve.

    while a round is left:  start rounds, up to the limit ─ wait for the one that settles next ─ settle it

In a backfill a round is one Prefect task, in a thread of the driver, and all that is in it Dask futures, because a
Prefect task costs more than 100 ms. In the weekly run, which has one round and people who watch it, every unit is a
Prefect task as in `resolve`, and rounds go one after the other. What passes between the scoring of a round and the fold
lies in a slot that is emptied when the round settles: Prefect keeps the slot until the flow ends, and memory must
follow the rounds in flight, not the history.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import cast

from prefect import flow
from prefect.utilities.annotations import quote

from flows.artifacts import ShownProgress, Steps, Unshown, show_round, show_table
from flows.calls import LostSchedulerError
from flows.resolve import STAGES, carry_out
from flows.runtime import UnitRunner, grouped
from flows.session import current_session, open_session
from infra.settings import read_settings
from scoring.errors import StakeweightError
from tasks.backfill import Backfill, BackfillRequest, Found, Outcome, Scored, Start, begin, read_range
from tasks.backfill_report import BackfillError, BackfillReport, RoundLine, line_of
from tasks.plan import AlreadyPublished

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Slot:
    """What passes between the scoring of a round, in a thread, and the fold, which waits for that thread first.

    Attributes:
        number: the round.
        start: what it was begun with; None when it is over.
        found: what became of it; None before, and when it has settled.
        shown: where to tell how far it is.
    """

    number: int
    start: Start | None
    found: Found | None = None
    shown: Steps = field(default_factory=Unshown)


@flow(
    name="backfill",
    task_runner=UnitRunner(),  # type: ignore[arg-type]  # Prefect types the runner by its futures, invariantly
    validate_parameters=False,
    persist_result=False,
)
def backfill(data: str, out: str, rounds: str | int | None = None, tournament: str | None = None) -> BackfillReport:
    """Resolves every round that is due and not published; published ones are verified by hash.

    Args:
        data: directory or URL of the tournament.
        out: directory or URL of what is published.
        rounds: such as `101-130`, or one; None for all.
        tournament: a file to use in place of the data's `tournament.toml`.

    Raises:
        BackfillError: a round failed; the others are published.
    """
    override = None if tournament is None else Path(tournament)
    with open_session(read_settings()):
        limit = current_session().settings.rounds_in_flight
        return settle_in_order(BackfillRequest(data, out, read_range(rounds), override), limit, _side_by_side)


def settle_in_order(
    request: BackfillRequest, limit: int, begin_scoring: Callable[[Slot], Callable[[], None]]
) -> BackfillReport:
    """Carries a backfill out; called within a flow and an open session.

    Args:
        request: what is asked for.
        limit: rounds that are begun and not settled, at most.
        begin_scoring: begins a round and returns what waits for it and raises its error.

    Raises:
        BackfillError: a round failed; the others are published.
        OperatorError: the tournament, its calendar or its transfers are wrong, or there is no such round.
        StorageError: a store failed before any round was begun.
    """
    book, session = Backfill(request, datetime.now(UTC)), current_session()
    lines: list[RoundLine] = []
    in_flight: dict[int, tuple[Slot, Callable[[], None]]] = {}
    shown = ShownProgress("backfill", book.remaining, "rounds settled")
    lost: LostSchedulerError | None = None
    with session.progress.stage("rounds", book.remaining, rate=True) as count:
        while (number := book.next_round) is not None:
            while lost is None and len(in_flight) < limit and (start := book.start()) is not None:
                slot = Slot(start.request.round, start)
                in_flight[slot.number] = slot, begin_scoring(slot)
            slot, scored = in_flight.pop(number, (Slot(number, None), _nothing))
            outcome, lost = _settle(book, _wait(slot, scored) or lost, lost)
            _show(outcome, slot.shown)
            lines.append(line_of(outcome))
            shown.step()
            count()
    report = BackfillReport(tuple(lines))
    if report.failed:
        raise BackfillError(report)
    return report


def one_by_one(slot: Slot) -> Callable[[], None]:
    """Scores the round when it is waited for, every unit a Prefect task."""
    return partial(_score, slot, _stages)


def _side_by_side(slot: Slot) -> Callable[[], None]:
    """Begins the round as one Prefect task; its thread is the driver's, and its units are Dask futures."""
    return _ROUND.submit(cast(Slot, quote(slot))).result


def _score(slot: Slot, shown: Callable[[int], Steps] | None = None) -> None:
    if slot.start is not None:
        plan = begin(slot.start)
        if isinstance(plan, AlreadyPublished):
            slot.found = plan
            return
        slot.shown = slot.shown if shown is None else shown(slot.number)
        slot.found = Scored(plan, carry_out(plan, slot.shown))


_ROUND = grouped(_score, run_name="round {slot.number}")


def _stages(number: int) -> Steps:
    return ShownProgress(f"round {number} progress", STAGES, f"stages of round {number}")


def _nothing() -> None:
    """What is waited for where a round could not be begun."""


def _wait(slot: Slot, scored: Callable[[], None]) -> Found | None:
    """Returns what became of a round, and empties its slot."""
    try:
        scored()
        return slot.found
    except StakeweightError as error:
        return error
    except Exception as error:  # a bug that one round's data brought to light must not take the others along
        _log.exception("round %d", slot.number)
        return StakeweightError(f"round {slot.number}: {type(error).__name__}: {error}")
    finally:
        slot.start = slot.found = None


def _settle(
    book: Backfill, found: Found | None, lost: LostSchedulerError | None
) -> tuple[Outcome, LostSchedulerError | None]:
    """Settles the next round; with the error that the scheduler is gone, once it is, so that none is begun in vain.

    A function of its own, because what is found must not outlive it: a failed run keeps its frames until it is told.
    """
    return book.settle(found), found if isinstance(found, LostSchedulerError) else lost


def _show(outcome: Outcome, shown: Steps) -> None:
    if outcome.resolution is not None:
        shown.step()
        show_round(outcome.resolution)
    if outcome.scores is not None:
        show_table(f"round {outcome.number} provisional", outcome.scores.to_pylist(), "no money: " + outcome.message)
