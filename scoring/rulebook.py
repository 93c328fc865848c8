"""The rulebook: dated rules, and how they are read.

A round is paid by the newest row that does not start after it, so that a new row never changes what an older
round paid. The failures guarded against: a misspelt key, which would silently pay by a default, and a number
that was read as a binary float, which pays everybody a little wrongly.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any, get_args

from scoring.errors import OperatorError, nearest
from scoring.published import SCORE_KEYS
from scoring.rules import Alternative, Order, PayoutStep, PayoutUnit, Rounding, Rules

__all__ = ["Rulebook", "Rules", "builtin", "builtin_tables", "parse_rules"]

ROW_KEYS = (
    "since_round",
    "payout",
    "multipliers",
    "choices",
    "clip",
    "stake_threshold",
    "order",
    "rounding",
    "source",
    "adjust",
    "net_opposites",
)
STEP_KEYS = ("policy", "threshold", "unit", "score")
_MAX_EXPONENT = 40
"""Beyond any amount and any share; without a bound a number such as 1e999999999 would be written out in full."""
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Rulebook:
    """All rules of a tournament.

    Attributes:
        name: the first part of every rules id.
        rows: ascending in `since_round`, each round once, at least one.
    """

    name: str
    rows: tuple[Rules, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise OperatorError("must have at least one [[rules]] row, found none")
        for before, after in zip(self.rows, self.rows[1:], strict=False):
            if before.since_round >= after.since_round:
                raise OperatorError(
                    f"since_round must ascend from row to row, each round once, found {before.since_round} "
                    f"and then {after.since_round}"
                )

    def at(self, round_number: int) -> Rules:
        """Returns the rules that a round is paid by.

        Raises:
            OperatorError: the round is older than the oldest row.
        """
        in_force = [rules for rules in self.rows if rules.since_round <= round_number]
        if not in_force:
            raise OperatorError(
                f"rulebook {self.name}: must have a row in force at round {round_number}, found none before "
                f"round {self.rows[0].since_round}; add a [[rules]] row with since_round ≤ {round_number}"
            )
        return in_force[-1]


def builtin(name: str = "numerai") -> Rulebook:
    """Returns a rulebook that ships with the engine.

    Raises:
        OperatorError: there is no such book.
    """
    return parse_rules(builtin_tables(name), book=name, origin=f"built-in rulebook {name}")


def builtin_tables(name: str = "numerai") -> list[dict[str, Any]]:
    """Returns the tables `[[rules]]` of a rulebook that ships with the engine, as `parse_rules` takes them.

    Raises:
        OperatorError: there is no such book.
    """
    folder = resources.files("scoring").joinpath("rulebook")
    texts = {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}
    if name not in texts:
        known = ", ".join(sorted(texts))
        raise OperatorError(f"built-in rulebook must be one of {known}, found {name!r}{nearest(name, texts)}")
    tables: list[dict[str, Any]] = tomllib.loads(texts[name].read_text(encoding="utf-8"), parse_float=Decimal)["rules"]
    return tables


def parse_rules(tables: Sequence[Mapping[str, Any]], *, book: str, origin: str) -> Rulebook:
    """Returns the rulebook written in TOML tables `[[rules]]`.

    Args:
        tables: the tables as `tomllib` reads them with `parse_float=Decimal`; in any order.
        book: the book's name, e.g. the tournament's.
        origin: the file the tables come from, for messages.

    Raises:
        OperatorError: one line a wrong row: file, row, key, what must hold and what was found.
    """
    rows, faults = [], []
    for position, table in enumerate(tables, start=1):
        try:
            rows.append(_parse_row(table, book))
        except OperatorError as error:
            faults.append(f"{origin}: [[rules]] row {position}: {error}")
    if faults:
        raise OperatorError("; ".join(faults))
    try:
        return Rulebook(book, tuple(sorted(rows, key=lambda rules: rules.since_round)))
    except OperatorError as error:
        raise OperatorError(f"{origin}: {error}") from None


def _parse_row(table: object, book: str) -> Rules:
    if not isinstance(table, Mapping):
        raise OperatorError(f"must be a table under its own [[rules]], found {table!r}")
    for key in table:
        if key not in ROW_KEYS:
            known = ", ".join(ROW_KEYS)
            raise OperatorError(f"a key must be one of {known}, found {key!r}{nearest(key, ROW_KEYS)}")
    missing = [key for key in ("since_round", "clip") if key not in table]
    if missing:
        raise OperatorError(f"must have {' and '.join(missing)}, found only {', '.join(table) or 'nothing'}")
    since_round = table["since_round"]
    if type(since_round) is not int:
        raise OperatorError(f"since_round must be a whole number, found {since_round!r}")
    return Rules(
        rules_id=f"{book}:R{since_round}",
        since_round=since_round,
        payout=_parse_payout(table),
        clip=_parse_number(table["clip"], "clip"),
        choices=_parse_choices(table),
        stake_threshold=_parse_optional(table, "stake_threshold"),
        order=_parse_word(table, "order", get_args(Order)),
        rounding=_parse_word(table, "rounding", get_args(Rounding)),
        source=_parse_source(table),
        adjust=_parse_adjust(table),
        net_opposites=_parse_optional(table, "net_opposites"),
    )


def _parse_payout(table: Mapping[str, Any]) -> dict[str, Decimal] | None:
    if "payout" not in table:
        return None
    found = table["payout"]
    if not isinstance(found, Mapping):
        raise OperatorError(f'payout must be a table of multipliers, as {{ corr = "0.5" }}, found {found!r}')
    return {key: _parse_number(value, f"payout, {key}") for key, value in found.items()}


def _parse_choices(table: Mapping[str, Any]) -> tuple[Alternative, ...]:
    mode = table.get("multipliers")
    if mode not in (None, "model"):
        raise OperatorError(f'multipliers must be "model", found {mode!r}; fixed multipliers go under payout')
    if mode is None and "choices" in table:
        raise OperatorError('choices must stand beside multipliers = "model", found without')
    if mode is None:
        return ()
    found = table.get("choices", [dict.fromkeys(SCORE_KEYS, "any")])
    if not isinstance(found, list) or not found:
        raise OperatorError(f"choices must be a list of tables, found {found!r}")
    return tuple(_parse_alternative(each) for each in found)


def _parse_alternative(found: object) -> Alternative:
    if not isinstance(found, Mapping) or not found:
        raise OperatorError(f'choices must list tables, as {{ corr = ["0", "1"] }}, found {found!r}')
    offered: dict[str, tuple[Decimal, ...] | None] = {}
    for key, values in found.items():
        if values != "any" and not (isinstance(values, list) and values):
            raise OperatorError(f'choices, {key}: must be a list of multipliers or "any", found {values!r}')
        what = f"choices, {key}"
        offered[key] = None if values == "any" else tuple(_parse_number(each, what) for each in values)
    return offered


def _parse_adjust(table: Mapping[str, Any]) -> tuple[PayoutStep, ...]:
    found = table.get("adjust", [])
    if not isinstance(found, list):
        raise OperatorError(f'adjust must be a list of tables, as [{{ policy = "uniqueness" }}], found {found!r}')
    return tuple(_parse_step(each) for each in found)


def _parse_step(found: object) -> PayoutStep:
    if not isinstance(found, Mapping) or not isinstance(found.get("policy"), str):
        raise OperatorError(f'adjust must list tables with a policy, as {{ policy = "uniqueness" }}, found {found!r}')
    for key in found:
        if key not in STEP_KEYS:
            known = ", ".join(STEP_KEYS)
            raise OperatorError(f"adjust: a key must be one of {known}, found {key!r}{nearest(key, STEP_KEYS)}")
    score = found.get("score")
    if score is not None and not isinstance(score, str):
        raise OperatorError(f"adjust, score must be a score's name in quotes, found {score!r}")
    try:
        threshold, unit = _parse_optional(found, "threshold"), _parse_word(found, "unit", get_args(PayoutUnit))
    except OperatorError as error:
        raise OperatorError(f"adjust, {found['policy']}: {error}") from None
    return PayoutStep(found["policy"], threshold, unit, score)


def _parse_source(table: Mapping[str, Any]) -> str:
    found = table.get("source", "")
    if not isinstance(found, str):
        raise OperatorError(f"source must be a text in quotes, found {found!r}")
    return found


def _parse_optional(table: Mapping[str, Any], key: str) -> Decimal | None:
    return _parse_number(table[key], key) if key in table else None


def _parse_number(found: Any, what: str) -> Decimal:
    """Returns the number exactly as written; a binary float is no longer what was written."""
    written = isinstance(found, str) and _PLAIN_NUMBER.fullmatch(found)
    if isinstance(found, Decimal) or type(found) is int or written:
        number = Decimal(found)
        if number.is_finite() and number and abs(number.adjusted()) > _MAX_EXPONENT:
            raise OperatorError(f"{what}: must lie between 1e-{_MAX_EXPONENT} and 1e{_MAX_EXPONENT}, found {found}")
        return number
    raise OperatorError(f'{what}: must be a plain decimal number, best in quotes, as "0.05", found {found!r}')


def _parse_word(table: Mapping[str, Any], key: str, words: tuple[str, ...]) -> Any:
    """Returns the word under the key; absent, the first of the words."""
    found = table.get(key, words[0])
    if found not in words:
        known = ", ".join(words)
        raise OperatorError(f"{key} must be one of {known}, found {found!r}{nearest(str(found), words)}")
    return found
