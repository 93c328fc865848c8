"""A mechanism: the rules and policies that rounds are paid by and models weighed by, as a tournament's file says them.

A variant names only what it changes, in the very keys of `tournament.toml`; what it says is read by the very code that
reads that file. So whatever was tried here can be put into force by copying it there, and nothing else was tried.

    [[variants]]
    name = "taxed"
    rules = { adjust = [{ policy = "conformity_tax", threshold = "50" }] }    # put into every row of the rules
    weights = [{ policy = "power", exponent = "0.5" }]                        # in place of the weights

Two things only an experiment can say. `stake_threshold = "at_risk"` is, in each round, the total at risk in that
round, so that the payout factor is 1 and whoever adds a stake lowers it. `leave_out_largest = 3` has the three
accounts with the largest stakes leave before the first round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any

from scoring.errors import OperatorError
from scoring.payouts import fixed_point
from scoring.rulebook import builtin_tables
from scoring.rules import Rules
from tasks.store import Store
from tasks.toml_file import Section
from tasks.tournament import Tournament, tournament_of

CHANGES = ("rules", "weights", "scores", "portfolio", "true_contribution", "leave_out_largest")
"""What a variant may change."""

AT_RISK = "at_risk"
_NEVER = Decimal(1)  # stands for the total at risk until a round says what it is
_MULTIPLIERS = ("payout", "multipliers", "choices")


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What rounds are paid and weighed by.

    Attributes:
        name: by which the report calls it.
        tournament: the rules and policies.
        leave_out_largest: number of accounts with the largest stakes that have left.
        threshold_at_risk: whether the stake threshold is each round's total at risk.
    """

    name: str
    tournament: Tournament
    leave_out_largest: int = 0
    threshold_at_risk: bool = False

    def rules_at(self, number: int, at_risk_atoms: int) -> Rules:
        """Returns the rules of a round.

        Args:
            number: the round's.
            at_risk_atoms: what was at risk when nobody attacked, in atoms; 0 where it is not known, and nobody attacks.
        """
        rules = self.tournament.rulebook.at(number)
        if not self.threshold_at_risk:
            return rules
        threshold = fixed_point(at_risk_atoms, self.tournament.decimals) if at_risk_atoms else None
        return replace(rules, stake_threshold=threshold)


def mechanism_of(name: str, base: Section, changes: Section, store: Store) -> Mechanism:
    """Returns a mechanism: a tournament's file with some changes.

    Args:
        name: the variant's.
        base: the content of the tournament's file.
        changes: keys of `CHANGES`.
        store: the tournament's data.

    Raises:
        OperatorError: a change is not one that a tournament's file could hold; the message names the variant.
    """
    changes.check_keys(CHANGES)
    values = {key: value for key, value in changes.values.items() if key != "leave_out_largest"}
    rules = dict(_table(changes, "rules"))
    at_risk = rules.get("stake_threshold") == AT_RISK
    if at_risk:
        rules["stake_threshold"] = _NEVER
    document = _merged(base, {**values, **({"rules": rules} if rules else {})}, changes)
    left_out = changes.whole("leave_out_largest", (0, 10_000), 0)
    try:
        tournament = tournament_of(Section(changes.origin, document, changes.path), store, _digest(document))
    except OperatorError as error:
        told = str(error).removeprefix(f"{changes.origin}: ")
        where = "" if changes.path in told else f"{changes.path.rstrip('.')}: "
        raise OperatorError(f"{changes.origin}: {where}{told}") from error
    return Mechanism(name, tournament, left_out, at_risk)


def _merged(base: Section, changes: Mapping[str, Any], origin: Section) -> dict[str, Any]:
    """Returns the document of a tournament's file with the changes in it."""
    document = dict(base.values)
    for key, value in changes.items():
        if key == "rules":
            document["rules"] = [changed_row(row, value) for row in _rows(document)]
            document.pop("rulebook", None)
        elif key == "weights":
            document[key] = value
        else:
            before = document.get(key, {})
            document[key] = {**(before if isinstance(before, Mapping) else {}), **_table(origin, key)}
    return document


def _rows(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Returns the rows of the rules, also where the file names a built-in rulebook."""
    if "rulebook" in document:
        return builtin_tables(str(document["rulebook"]))
    rows = document.get("rules", [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise OperatorError("the tournament's rules must be a list of tables [[rules]]")
    return rows


def changed_row(row: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with the changes; multipliers that are set replace those that models choose, and the reverse."""
    chosen = any(key in changes for key in _MULTIPLIERS)
    return {key: value for key, value in row.items() if not (chosen and key in _MULTIPLIERS)} | dict(changes)


def _table(section: Section, key: str) -> Mapping[str, Any]:
    value = section.values.get(key, {})
    if not isinstance(value, Mapping):
        raise section.wrong(key, f"a table, as [{section.path}{key}]")
    return value


def _digest(document: Mapping[str, Any]) -> str:
    return sha256(repr(sorted(document.items())).encode()).hexdigest()
