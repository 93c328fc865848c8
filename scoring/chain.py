"""Chained stakes: a running balance per model, folded in time order over transfers, closes and settlements.

    close(r)    at risk of round r  = balance at that instant
    transfer    balance             + deposit − withdrawal
    settle(r)   balance             + payout − burn, the burn at most the balance

At one instant a settlement comes before a transfer and a transfer before a close: what a round put at risk counts all
that had happened by then. With weekly rounds that resolve four weeks later this gives the compounding of the
tournament's history, `stake[r] = stake[r−1] + payout[r−4]`.

The fold stops at each round that has to settle, because nobody can know a balance beyond it. The failures guarded
against: a round whose stakes were taken before an earlier round was paid, and a balance that depends on the order in
which rounds happened to be computed.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from scoring.errors import OperatorError
from scoring.stakes import Stakes

_SETTLE, _TRANSFER, _CLOSE = range(3)


@dataclass(frozen=True, slots=True, order=True)
class RoundDates:
    """When a round closes and resolves; in this order rounds are settled.

    Attributes:
        resolves_at, closes_at, opens_at: with time zone.
        number: the round's number, which decides between rounds of one instant.
    """

    resolves_at: datetime
    number: int
    closes_at: datetime
    opens_at: datetime


@dataclass(frozen=True, slots=True)
class Transfer:
    """A deposit (atoms > 0) or a withdrawal (atoms < 0) of a model at an instant."""

    at: datetime
    model: str
    atoms: int


class Chain:
    """The fold, as far as the settled rounds allow.

    Args:
        rounds: all rounds of the tournament, in any order.
        transfers: in any order; those of one instant count in the order given.

    Raises:
        OperatorError: a withdrawal exceeds the balance, or a round resolves no later than it closes, so that it would
            settle before anything is at risk.
    """

    def __init__(self, rounds: Sequence[RoundDates], transfers: Sequence[Transfer]) -> None:
        for dates in rounds:
            if dates.closes_at >= dates.resolves_at:
                when = f"closes at {dates.closes_at.isoformat()} and resolves at {dates.resolves_at.isoformat()}"
                raise OperatorError(f"round {dates.number}: with chained stakes must close first, {when}")
        events: list[tuple[datetime, int, int, RoundDates | Transfer]] = []
        events += [(dates.resolves_at, _SETTLE, dates.number, dates) for dates in rounds]
        events += [(dates.closes_at, _CLOSE, dates.number, dates) for dates in rounds]
        events += [(each.at, _TRANSFER, row, each) for row, each in enumerate(transfers)]
        self._events = deque(sorted(events, key=lambda event: event[:3]))
        self._balances: dict[str, int] = {}
        self._at_close: dict[int, Mapping[str, int]] = {}
        self._advance()

    @property
    def next_round(self) -> int | None:
        """The round that settles next; None where all have settled."""
        return self._events[0][2] if self._events else None

    @property
    def balances(self) -> Mapping[str, int]:
        """Returns each model's atoms just before the next round settles."""
        return dict(self._balances)

    def at_close(self, number: int) -> Mapping[str, int] | None:
        """Returns each model's atoms when a round closed; None where that is not known yet, or no longer needed."""
        return self._at_close.get(number)

    def settle(self, number: int, changes: Mapping[str, int]) -> None:
        """Adds what a round paid and burned, and goes on to the next round that has to settle.

        Args:
            number: must be `next_round`.
            changes: model → payout − burn in atoms; empty where the round had nothing to pay.

        Raises:
            OperatorError: a burn exceeds the balance, or a later withdrawal does.
            ValueError: another round settles next, which is a bug of the caller.
        """
        if number != self.next_round:
            raise ValueError(f"round {self.next_round} settles next, not round {number}")
        for model, atoms in changes.items():
            self._add(model, atoms, f"round {number} burns")
        self._at_close.pop(number, None)
        self._events.popleft()
        self._advance()

    def _advance(self) -> None:
        """Walks on to the next settlement."""
        while self._events and self._events[0][1] != _SETTLE:
            _, _, _, event = self._events.popleft()
            if isinstance(event, Transfer):
                self._add(event.model, event.atoms, f"the transfer of {event.at.isoformat()} takes")
            else:
                self._at_close[event.number] = dict(self._balances)

    def _add(self, model: str, atoms: int, what: str) -> None:
        balance = self._balances.get(model, 0)
        if balance + atoms < 0:
            raise OperatorError(f"model {model}: {what} {-atoms} atoms, more than its balance of {balance}")
        self._balances[model] = balance + atoms


@dataclass(frozen=True, slots=True)
class Balances:
    """What a round needs of the chain.

    Attributes:
        at_close: model → atoms when the round closed: what is at risk.
        before: model → atoms just before the round settles; None while that is not known.
    """

    at_close: Mapping[str, int]
    before: Mapping[str, int] | None = None

    def applied(self, stakes: Stakes) -> Stakes:
        """Returns the same models with their balances as stakes; a model without a transfer has none."""
        rows = (
            replace(row, atoms=self.at_close.get(row.model, 0), balance=self._before(row.model)) for row in stakes.rows
        )
        return Stakes(tuple(rows))

    def _before(self, model: str) -> int | None:
        return None if self.before is None else self.before.get(model, 0)
