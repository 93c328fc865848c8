"""TOML that an operator writes: every key known, every value checked, numbers exact.

The failures guarded against: a misspelt key that silently leaves a default in force, and a multiplier or
share that came through a binary float (TOML floats are read as decimals).
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from scoring.errors import OperatorError, nearest


@dataclass(frozen=True, slots=True)
class Section:
    """One table of a TOML file.

    Every method raises `OperatorError` where a value is not what it must be.

    Attributes:
        origin: the file, for messages.
        values: keys and values as read.
        path: the table's name and a dot, for messages; empty at the top of the file.
    """

    origin: str
    values: Mapping[str, Any]
    path: str = ""

    def wrong(self, key: str, must: str) -> OperatorError:
        """Returns the error that says what must hold for a key and what was found."""
        found = f"found {_show(self.values[key])}" if key in self.values else "but it is missing"
        return OperatorError(f"{self.origin}: {self.path}{key} must be {must}, {found}")

    def check_keys(self, known: Iterable[str]) -> None:
        """Refuses keys that mean nothing here."""
        names = list(known)
        unknown = [f"key {self.path}{key}{nearest(key, names)}" for key in self.values if key not in names]
        if unknown:
            known_here = f"keys known here: {', '.join(names)}"
            raise OperatorError(f"{self.origin}: unknown {', '.join(unknown)}; {known_here}")

    def section(self, key: str) -> "Section":
        """Returns a table inside this one; an empty one where it is absent."""
        values = self.values.get(key, {})
        if not isinstance(values, dict):
            raise self.wrong(key, f"a table [{self.path}{key}]")
        return Section(self.origin, values, f"{self.path}{key}.")

    def sections(self, key: str) -> "list[Section]":
        """Returns the tables of a list `[[key]]`, or the one table `[key]`; none where it is absent."""
        values = self.values.get(key, [])
        tables = [values] if isinstance(values, dict) else values
        if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
            raise self.wrong(key, f"a table [{self.path}{key}] or a list of tables [[{self.path}{key}]]")
        return [Section(self.origin, each, f"{self.path}{key}.") for each in tables]

    def text(self, key: str) -> str:
        """Returns a string that is not empty."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "a string that is not empty")
        return value

    def choice(self, key: str, known: Iterable[str], default: str) -> str:
        """Returns one of a few words."""
        words = list(known)
        value = self.values.get(key, default)
        if value not in words:
            raise self.wrong(key, "one of " + ", ".join(f'"{word}"' for word in words))
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        """Returns true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def whole(self, key: str, bounds: tuple[int, int], default: int | None = None) -> int:
        """Returns a whole number within `bounds`, both included."""
        value = self.values.get(key, default)
        low, high = bounds
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def exact(self, key: str, default: Decimal) -> Decimal:
        """Returns a number exactly as it is written, quoted or not."""
        number = _decimal(self.values.get(key, default))
        if not number.is_finite():
            raise self.wrong(key, 'a number, such as "0.67"')
        return number

    def share(self, key: str, default: Decimal) -> Decimal:
        """Returns a share, 0 < share ≤ 1, exactly as it is written."""
        share = _decimal(self.values.get(key, default))
        if not share.is_finite() or not 0 < share <= 1:
            raise self.wrong(key, 'a share above 0 and at most 1, such as "0.67"')
        return share

    def number(self, key: str, default: float | None, *, word: str | None = None) -> float | None:
        """Returns a number above 0 as a double, or None where the file says `word`."""
        if key not in self.values:
            return default
        if word is not None and self.values[key] == word:
            return None
        number = float(_decimal(self.values[key]))
        if not 0 < number < float("inf"):
            raise self.wrong(key, "a number above 0" + (f' or "{word}"' if word else ""))
        return number

    def choices(self, key: str, known: Iterable[str], default: Sequence[str]) -> tuple[str, ...]:
        """Returns some of a few words, in the order in which they are known."""
        words = list(known)
        values = self.values.get(key, list(default))
        if not isinstance(values, list) or not all(value in words for value in values):
            raise self.wrong(key, "a list of some of " + ", ".join(f'"{word}"' for word in words))
        return tuple(word for word in words if word in values)

    def time(self, key: str) -> datetime:
        """Returns an instant in UTC."""
        value = self.values.get(key)
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self.wrong(key, "a date-time with an offset, not quoted, such as 2026-01-31T18:00:00Z")
        return value.astimezone(UTC)


def parse_toml(data: bytes, origin: str) -> Section:
    """Reads a TOML file's bytes.

    Raises:
        OperatorError: the bytes are not UTF-8 or not TOML; the message names the line.
    """
    try:
        return Section(origin, tomllib.loads(data.decode(), parse_float=Decimal))
    except UnicodeDecodeError as error:
        raise OperatorError(f"{origin}: must be UTF-8, found byte {data[error.start]:#04x}") from error
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(f"{origin}: must be TOML: {error}") from error


def _decimal(value: object) -> Decimal:
    """Returns a number as it is written, NaN where it is none."""
    try:
        known = isinstance(value, str | int | Decimal) and not isinstance(value, bool)
        return Decimal(value) if known else Decimal("nan")  # type: ignore[arg-type]  # mypy loses the narrowing
    except ArithmeticError:
        return Decimal("nan")


def _show(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
