"""What a verification found: what agrees, what does not, and what could not be looked at.

A verification reads to the end and tells every problem, each in one line that names the place, the thing, what is
stated and what was found. The failure guarded against: a check that was silently left out and looks like one that
passed; whatever is not looked at is a note.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.submission_file import printable

SHOWN = 5
"""How many problems of one kind are told before the rest is counted."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Lines for people.

    Attributes:
        checked: what was looked at.
        problems: what does not agree; empty if all does.
        notes: what could not be looked at, and what is odd but no problem.
    """

    checked: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was looked at agrees."""
        return not self.problems


def merge(parts: Iterable[Findings]) -> Findings:
    """Returns all findings in order, each line once."""
    found = list(parts)
    return Findings(
        _once(line for part in found for line in part.checked),
        _once(line for part in found for line in part.problems),
        _once(line for part in found for line in part.notes),
    )


def mismatch(where: str, what: str, stated: object, found: object, how: str = "found") -> str:
    """Returns a problem: where it is, what it is about, what is stated there, what was found or recomputed."""
    return f"{where}: {what}: stated {stated}, {how} {found}"


def fact_mismatches(where: str, name: str, stated: object, found: object, how: str) -> Iterator[str]:
    """Yields a problem for each value of a fact that differs, one by one where the fact is a table of values."""
    if isinstance(stated, Mapping) and isinstance(found, Mapping):
        for key in sorted(stated.keys() | found.keys()):
            yield from fact_mismatches(where, f"{name}.{key}", stated.get(key), found.get(key), how)
    elif stated != found:
        yield mismatch(where, name, stated, found, how)


def few(problems: Sequence[str]) -> tuple[str, ...]:
    """Returns the first problems of one kind; the last line counts the others."""
    if len(problems) <= SHOWN:
        return tuple(problems)
    return (*problems[: SHOWN - 1], f"{problems[SHOWN - 1]} (and {len(problems) - SHOWN} more like this)")


def _once(lines: Iterable[str]) -> tuple[str, ...]:
    """Returns each line once, safe to show: names in a table that was tampered with may hold anything."""
    return tuple(dict.fromkeys(printable(line) for line in lines))
