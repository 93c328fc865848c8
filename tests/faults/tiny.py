"""Tiny tournaments of two rounds, resolved in 40 ms a round: enough for what is a matter of files."""

from pathlib import Path

from scoring.synthetic import SyntheticSpec
from tasks.backfill import Backfill, BackfillRequest
from tests.tasks.chained import LATER, found_of, write_chained
from tests.tasks.fixtures import money, round_tables, with_column, write_round

ROUNDS = (7, 8)
HISTORY = SyntheticSpec(rounds=2, models=5, stocks=40, seed=5)


def write_tiny(directory: Path) -> str:
    """Writes the tournament and returns its directory, as the command line takes it."""
    for number in ROUNDS:
        write_round(directory, number)
    return str(directory)


def write_other(directory: Path) -> str:
    """The same tournament with other stakes: the same submissions, another ledger, another identity."""
    stakes = with_column(round_tables()["stakes"], "stake", money("200", "1", "17143.5", "5"))
    for number in ROUNDS:
        write_round(directory, number, stakes=stakes)
    return str(directory)


def write_history(directory: Path) -> str:
    """A tournament of two rounds with chained stakes: the ledger of the second one rests on the first one's."""
    return str(write_chained(directory, HISTORY))


def backfill(data: str, out: str) -> None:
    """A backfill in this process; what is published is verified and left as it is.

    Raises:
        AssertionError: a round ended otherwise.
    """
    book = Backfill(BackfillRequest(data, out), LATER)
    while (start := book.start()) is not None:
        outcome = book.settle(found_of(start))
        assert outcome.status in ("published", "verified"), outcome
    assert book.remaining == 0
