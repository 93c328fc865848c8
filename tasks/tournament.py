"""The tournament: its name, its currency, the rules it pays by and the choices for its scores.

`tournament.toml` of the data is the default; a file of the operator's own may replace it, so that the same
rounds can be paid by other rules. Either way the digest of the bytes as read says which one it was.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

from scoring.errors import OperatorError
from scoring.rounds import ScoreOptions
from scoring.rulebook import Rulebook, builtin, parse_rules
from tasks.store import MissingFileError, Store
from tasks.toml_file import Section, parse_toml

TOURNAMENT_FILE = "tournament.toml"
MAX_DECIMALS = 18
"""Decimals of money in every table (decimal128(38, 18)); a currency cannot have more."""
MAX_BAGS = 10_000

_KEYS = ("name", "currency", "decimals", "rulebook", "rules", "scores", "weights", "portfolio")


@dataclass(frozen=True, slots=True)
class Tournament:
    """What holds for all rounds of a tournament.

    Attributes:
        name: the tournament's name; part of the default seed of every round.
        currency: what stakes are in, e.g. `NMR`.
        decimals: an atom is 10^-decimals of the currency, 0 to 18.
        rulebook: the dated rules that rounds are paid by.
        scores: the operator's choices for the scores.
        portfolio: the table `[portfolio]` as written; empty where there is none.
        hash: hexadecimal SHA-256 of the file's bytes as read.
    """

    name: str
    currency: str
    decimals: int
    rulebook: Rulebook
    scores: ScoreOptions
    portfolio: Mapping[str, Any]
    hash: str


def read_tournament(store: Store, override: Path | None = None) -> Tournament:
    """Reads the tournament of a store.

    Args:
        store: the tournament's data.
        override: a local file to read instead of the store's `tournament.toml`.

    Raises:
        OperatorError: there is no such file, it is not TOML, or a key in it is unknown, missing or wrong.
        StorageError: the store failed.
    """
    origin = str(override) if override is not None else TOURNAMENT_FILE
    try:
        data = override.read_bytes() if override is not None else store.read(TOURNAMENT_FILE)
    except MissingFileError as error:
        raise OperatorError(f"{error}; a tournament needs one") from error
    except OSError as error:
        raise OperatorError(f"{origin}: cannot be read: {error.strerror}") from error
    top = parse_toml(data, origin)
    top.check_keys(_KEYS)
    top.section("weights").check_keys(["policy"])
    top.section("weights").choice("policy", ["stake"], "stake")
    return Tournament(
        name=top.text("name"),
        currency=top.text("currency"),
        decimals=top.whole("decimals", (0, MAX_DECIMALS)),
        rulebook=_rulebook(top),
        scores=_score_options(top.section("scores")),
        portfolio=top.section("portfolio").values,
        hash=hashlib.sha256(data).hexdigest(),
    )


def _rulebook(top: Section) -> Rulebook:
    """Returns the built-in rulebook that is named, or the one that is written out."""
    if ("rulebook" in top.values) == ("rules" in top.values):
        found = "both" if "rules" in top.values else "neither"
        must = 'must have either rulebook = "numerai" or [[rules]]'
        raise OperatorError(f"{top.origin}: {must}, found {found}")
    if "rulebook" in top.values:
        try:
            return builtin(top.text("rulebook"))
        except OperatorError as error:
            raise OperatorError(f"{top.origin}: {error}") from error
    rules = top.values["rules"]
    if not isinstance(rules, list) or not all(isinstance(row, dict) for row in rules):
        raise top.wrong("rules", "a list of tables [[rules]]")
    return parse_rules(rules, book=top.text("name"), origin=top.origin)


def _score_options(scores: Section) -> ScoreOptions:
    default = ScoreOptions()
    scores.check_keys(option.name for option in fields(ScoreOptions))
    unit = scores.choice("bag_unit", ["model", "account"], default.bag_unit)
    return ScoreOptions(
        bags=scores.whole("bags", (1, MAX_BAGS), default.bags),
        bag_fraction=scores.share("bag_fraction", default.bag_fraction),
        bag_unit=cast(Literal["model", "account"], unit),
        target_buckets=scores.flag("target_buckets", default.target_buckets),
        pairwise=scores.flag("pairwise", default.pairwise),
    )
