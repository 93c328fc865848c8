"""A backfill: rounds are scored in any order, side by side, and settled one after the other as they resolve.

    rounds that may start ─ begin ─ score (a map, on the workers) ─► settle in turn (a fold, here) ─► an outcome each

Where stakes are snapshots any round may start at any time. Where they are chained a round may start as soon as all
rounds that resolved before it closed have settled; with horizons of four weeks that is about four at a time. A round
that is published is verified by hash and left as it is. So a backfill that was stopped, however it was, goes on where
it stood: what is published is done, what is not is scored again.

A round that fails stops nobody's scores. With snapshots the others are paid. With chained stakes nothing that settles
after a round that is not published can be paid, because nobody knows what it would be paid on: it is told as `blocked`,
with its scores where they could be had, and the next backfill goes on there. A published round whose inputs have
changed fails, and holds up nobody: what it paid stands in its ledger. The failures guarded against: a bad round that is
passed over in silence, and a later round that is paid as if it had not happened.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from scoring.chain import Balances, Chain, RoundDates
from scoring.errors import (
    ConflictError,
    NotDueError,
    NothingToPayError,
    OperatorError,
    OtherVersionError,
    StakeweightError,
)
from tasks.conclude import Resolution, Work, conclude
from tasks.history import changes_of, pays_nothing, read_chain, round_dates
from tasks.plan import AlreadyPublished, RoundPlan, RoundRequest, plan_round
from tasks.provisional import provisional_scores
from tasks.publish import latest_manifest
from tasks.published import verify_hashes
from tasks.store import open_store
from tasks.tournament import read_tournament

Status = Literal["published", "verified", "published before", "nothing to pay", "not due", "blocked", "failed"]
_SETTLED: tuple[Status, ...] = ("published", "verified", "published before", "nothing to pay")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """What the operator asks for.

    Attributes:
        data: directory or URL of the tournament.
        out: directory or URL of what is published.
        rounds: the first and the last round; None for all.
        tournament: a file to use in place of the data's `tournament.toml`.
        trust: leave published rounds alone without a look at their files, as the weekly run does, which would else
            read years of submissions.
    """

    data: str
    out: str
    rounds: tuple[int, int] | None = None
    tournament: Path | None = None
    trust: bool = False

    def of(self, number: int) -> RoundRequest:
        """Returns the request of one round."""
        return RoundRequest(self.data, self.out, number, self.tournament)


@dataclass(frozen=True, slots=True)
class Start:
    """A round that may start.

    Attributes:
        request: what is asked for.
        now: the time of the backfill.
        trust: as in `BackfillRequest`.
        balances: what was at risk when it closed, where stakes are chained.
    """

    request: RoundRequest
    now: datetime
    trust: bool
    balances: Balances | None


@dataclass(frozen=True, slots=True)
class Scored:
    """A round whose scores are done and whose money is not."""

    plan: RoundPlan
    work: Work


Found = Scored | AlreadyPublished | StakeweightError
"""What became of a round that started: its scores, a verified publication, or the error that it ended with."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one round ended.

    Attributes:
        number: the round.
        status: `published` now, `verified` as published before, `published before` without a look at it, or why it
            is none of these.
        message: one line; empty where there is nothing to say.
        exit_code: of the error that it ended with, 0 for none.
        resolution: where it was published now.
        scores: provisional ones, where they are known and the money is blocked.
    """

    number: int
    status: Status
    message: str = ""
    exit_code: int = 0
    resolution: Resolution | None = None
    scores: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Why no later round of a chain can be paid.

    Attributes:
        reason: follows `round N: `.
        exit_code: 3 where it is a matter of time, else that of the error which somebody has to mend.
    """

    reason: str
    exit_code: int = NotDueError.exit_code


class Backfill:
    """Which round may start, which settles next, and what became of the others.

    Args:
        request: what is asked for.
        now: the time, with time zone; rounds that have resolved by then are due.

    Raises:
        OperatorError: the tournament, its calendar or its transfers are wrong, or there is no such round.
        StorageError: a store failed.
    """

    def __init__(self, request: BackfillRequest, now: datetime) -> None:
        self._request, self._now = request, now
        self._data = open_store(request.data)
        self._tournament = read_tournament(self._data, request.tournament)
        self._chain: Chain | None = read_chain(self._data, self._tournament) if self._tournament.chained else None
        chosen = _chosen(request, round_dates(self._data, self._tournament))
        self._out = open_store(request.out, create=True)
        self._waiting = [each.number for each in chosen if each.resolves_at <= now]
        self._started: set[int] = set()
        self._block: Block | None = None
        self._walk()

    @property
    def next_round(self) -> int | None:
        """The round that settles next; None when all that are due have settled."""
        return self._waiting[0] if self._waiting else None

    @property
    def remaining(self) -> int:
        """Number of rounds that are due and have not settled yet."""
        return len(self._waiting)

    def start(self) -> Start | None:
        """Returns a round that may start, the first to settle first, each once; None while there is none."""
        for number in self._waiting:
            if number not in self._started:
                at_close = self._chain.at_close(number) if self._chain else None
                if self._chain is None or at_close is not None:
                    self._started.add(number)
                    balances = None if at_close is None else Balances(at_close)
                    return Start(self._request.of(number), self._now, self._request.trust, balances)
        return None

    def settle(self, found: Found | None) -> Outcome:
        """Settles the next round.

        Args:
            found: what became of it; None where it was never offered to start, because it is blocked.
        """
        number = self._waiting.pop(0)
        outcome = self._outcome(number, found)
        if self._chain is not None and self._block is None:
            # What a published round paid is known, also where its inputs are no longer what they were.
            if outcome.status in _SETTLED or latest_manifest(self._out, number) is not None:
                self._go_on(self._chain, number)
            else:
                self._block = Block(f"follows from round {number}, which has not settled")
        return outcome

    def _outcome(self, number: int, found: Found | None) -> Outcome:
        try:
            if isinstance(found, StakeweightError):
                raise found
            if self._block is not None or found is None:
                block = self._block or Block("was not scored", StakeweightError.exit_code)
                scores = provisional_scores(found.plan, found.work) if isinstance(found, Scored) else None
                return Outcome(number, "blocked", f"round {number}: {block.reason}", block.exit_code, None, scores)
            if isinstance(found, Scored):
                resolution = self._pay(found)
                return Outcome(number, "published" if resolution.manifest.ours else "verified", resolution=resolution)
            self._verify_stakes(number)
            return Outcome(number, "published before" if self._request.trust else "verified")
        except OtherVersionError as error:
            return Outcome(number, "verified", str(error))
        except NothingToPayError as error:
            return Outcome(number, "nothing to pay", str(error))
        except NotDueError as error:
            return Outcome(number, "not due", str(error), error.exit_code)
        except StakeweightError as error:
            return Outcome(number, "failed", str(error), error.exit_code)
        except Exception as error:  # a bug that one round's data brings to light must not take the others along
            _log.exception("round %d", number)
            return Outcome(number, "failed", f"round {number}: {type(error).__name__}: {error}", 1)

    def _pay(self, found: Scored) -> Resolution:
        plan = found.plan if self._chain is None else found.plan.settled_from(self._chain.balances)
        return conclude(plan, found.work)

    def _verify_stakes(self, number: int) -> None:
        """Checks a published round against the chain, which is known only when its turn has come."""
        if self._chain is None or self._request.trust:
            return
        balances = Balances(self._chain.at_close(number) or {}, self._chain.balances)
        if not isinstance(plan_round(self._request.of(number), self._now, balances), AlreadyPublished):
            raise ConflictError(f"round {number}: was published, and its manifest is gone")

    def _go_on(self, chain: Chain, number: int) -> None:
        """Tells the chain what a settled round changed."""
        try:
            chain.settle(number, self._changes(number) or {})
        except StakeweightError as error:
            self._block = Block(f"its stakes follow from round {number}: {error}", error.exit_code)
        else:
            self._walk()

    def _walk(self) -> None:
        """Walks the chain to the next round that was asked for, through those that were not."""
        try:
            self._walk_on()
        except StakeweightError as error:
            self._block = Block(f"its stakes are not known: {error}", error.exit_code)

    def _walk_on(self) -> None:
        chain = self._chain
        while chain is not None and self._waiting and (number := chain.next_round) not in (None, self._waiting[0]):
            changes = self._changes(number or 0)
            if changes is None:
                at_close = Balances(chain.at_close(number or 0) or {})
                if not pays_nothing(self._data, self._tournament, number or 0, at_close):
                    self._block = Block(f"follows from round {number}, which is not published")
                    return
            chain.settle(number or 0, changes or {})

    def _changes(self, number: int) -> Mapping[str, int] | None:
        """Returns what a round paid and burned; None where it is not published."""
        manifest = latest_manifest(self._out, number)
        return None if manifest is None else changes_of(self._out, manifest, self._tournament.decimals)


def begin(start: Start) -> RoundPlan | AlreadyPublished:
    """Reads and checks a round; one that is published is verified by the hashes of its tables and inputs.

    Raises:
        StakeweightError: as `tasks.plan.plan_round`.
        StorageError: a published table is missing or is not what its manifest says.
    """
    out = open_store(start.request.out, create=True)
    published = latest_manifest(out, start.request.round)
    if published is None:
        return plan_round(start.request, start.now, start.balances)
    if not start.trust:
        verify_hashes(out, published)
    if start.trust or start.balances is not None:  # with chained stakes the inputs are compared when it settles
        return AlreadyPublished(published)
    return plan_round(start.request, start.now)


def read_range(text: str | int | None) -> tuple[int, int] | None:
    """Returns the first and the last round of `A-B` or `A`, which may be a number; None for None.

    Raises:
        OperatorError: the text is neither.
    """
    if text is None:
        return None
    first, dash, last = str(text).strip().partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise OperatorError(f"rounds: must be one round or a range such as 101-130, found {text!r}")
    return int(first), int(last)


def _chosen(request: BackfillRequest, dates: list[RoundDates]) -> list[RoundDates]:
    first, last = request.rounds or (0, max((each.number for each in dates), default=0))
    chosen = [each for each in dates if first <= each.number <= last]
    if not chosen:
        numbers = sorted(each.number for each in dates)
        known = f"it has rounds {numbers[0]} to {numbers[-1]}" if numbers else "it has no rounds"
        raise OperatorError(f"{request.data}: there is no round from {first} to {last}; {known}")
    return chosen
