"""What can go wrong, by who has to act.

A participant's bad file never raises: it becomes a `Rejection`, a row of the `rejects` table, and the round goes on.
An operator's bad input raises an `OperatorError` before anything is scored. Each error carries the exit code of the
command line, so that no layer above has to translate it.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class StakeweightError(Exception):
    """The root of all expected failures: one clear line, never a traceback."""

    exit_code: ClassVar[int] = 1


class OperatorError(StakeweightError):
    """The operator's input is wrong; nothing was scored, nothing published."""

    exit_code: ClassVar[int] = 2


class NotDueError(StakeweightError):
    """There is nothing to pay, or the round is not due yet."""

    exit_code: ClassVar[int] = 3


class NothingToPayError(NotDueError):
    """The round has resolved and nobody is at risk, so there will never be anything to pay."""


class ConflictError(StakeweightError):
    """A round is already published with other inputs, rules or versions."""

    exit_code: ClassVar[int] = 4


class OtherVersionError(ConflictError):
    """A round is already published from the same inputs, by the same rules, by another version of the engine."""


class StorageError(StakeweightError):
    """The store did not answer, or answered with something that cannot be right."""

    exit_code: ClassVar[int] = 5


class UntrustworthyError(StakeweightError):
    """Scores were computed but must not be paid on; nothing was published."""

    exit_code: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one submission is refused.

    Attributes:
        code: rule code, e.g. `missing_id`; stable, for programs.
        message: one line for people: what must hold, what was found, what to do.
        rows: the first offending rows of the file, counted from 0; empty where no row is to blame.
    """

    code: str
    message: str
    rows: tuple[int, ...] = ()


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
