"""One round's inputs: all files but the submissions, validated, with the digest of every byte that was read.

Bad operator input stops here, before anything is scored, with one line that names the file, the column and
the first rows. The failures guarded against: a round scored with another round's file, and a published
round whose inputs nobody can point to.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

from scoring.bags import round_seed
from scoring.errors import OperatorError
from scoring.rounds import Features, Round, Targets, Universe
from scoring.stakes import Stakes
from tasks.stakes import parse_benchmark_stakes, parse_stakes
from tasks.stocks import parse_factor_covariance, parse_features, parse_targets, parse_universe
from tasks.store import MissingFileError, Store
from tasks.toml_file import parse_toml
from tasks.tournament import Tournament

T = TypeVar("T")

ROUNDS_FOLDER = "rounds"

_ROUND_KEYS = ("round", "opens_at", "closes_at", "resolves_at", "horizon", "target", "seed")
_HORIZON = re.compile(r"[1-9]\d*D\d+L")
_MAX_ROUND = 2**31 - 1
_SHOWN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class RoundInputs:
    """Everything about a round but its submissions.

    Attributes:
        round: its calendar and identity.
        universe: its stocks.
        targets: what happened; None where it has not happened yet.
        features: for FNC; None where there is no such table.
        factor_covariance: (factor, factor) in the order of the universe's factors; None where it is not needed.
        stakes: who is at risk with how much, with or without a submission.
        benchmark_stakes: weights of the benchmark models; None where there is no such table.
        hashes: hexadecimal SHA-256 of every file as read, by its path in the store.
    """

    round: Round
    universe: Universe
    targets: Targets | None
    features: Features | None
    factor_covariance: Float64[np.ndarray, "factor factor"] | None
    stakes: Stakes
    benchmark_stakes: Stakes | None
    hashes: Mapping[str, str]


def round_folder(number: int) -> str:
    """Returns the folder of a round in the store."""
    return f"{ROUNDS_FOLDER}/{number}"


def round_numbers(store: Store) -> list[int]:
    """Returns the numbers of all rounds that have a folder, ascending."""
    return sorted(int(name) for name in store.folders(ROUNDS_FOLDER) if name.isdecimal())


def read_round(store: Store, tournament: Tournament, number: int) -> RoundInputs:
    """Reads and validates one round.

    Args:
        store: the tournament's data.
        tournament: what holds for all rounds.
        number: the round's number, ≥ 0.

    Raises:
        OperatorError: the round or one of its required files does not exist, or a file is not as it must be.
        StorageError: the store failed.
    """
    files = _RoundFiles(store, number)
    calendar = files.required("round.toml", partial(_parse_round, tournament=tournament, number=number))
    universe = files.required("universe.parquet", parse_universe)
    covariance_of = partial(parse_factor_covariance, universe=universe)
    stakes_of = partial(parse_stakes, decimals=tournament.decimals, closes_at=calendar.closes_at)
    needs_risk = tournament.terms_of_portfolio(number) is not None
    benchmark_stakes_of = partial(parse_benchmark_stakes, decimals=tournament.decimals)
    return RoundInputs(
        round=calendar,
        universe=universe,
        targets=files.optional("targets.parquet", partial(parse_targets, universe=universe)),
        features=files.optional("features.parquet", partial(parse_features, universe=universe)),
        factor_covariance=files.required("factor_covariance.parquet", covariance_of) if needs_risk else None,
        stakes=files.required("stakes.parquet", stakes_of),
        benchmark_stakes=files.optional("benchmark_stakes.parquet", benchmark_stakes_of),
        hashes=dict(sorted(files.hashes.items())),
    )


@dataclass(frozen=True, slots=True)
class _RoundFiles:
    """The files of one round, each read once, with the digests of those that were read."""

    store: Store
    number: int
    hashes: dict[str, str] = field(default_factory=dict)

    def optional(self, name: str, parse: Callable[[bytes, str], T]) -> T | None:
        """Returns what a file says, None where there is no such file."""
        path = f"{round_folder(self.number)}/{name}"
        try:
            data, self.hashes[path] = self.store.read_with_hash(path)
        except MissingFileError:
            return None
        return parse(data, path)

    def required(self, name: str, parse: Callable[[bytes, str], T]) -> T:
        """Returns what a file says."""
        parsed = self.optional(name, parse)
        if parsed is None:
            raise self._missing(name)
        return parsed

    def _missing(self, name: str) -> OperatorError:
        """Returns the error for a required file: the round is not there at all, or only this file is not."""
        known = round_numbers(self.store)
        if self.number in known:
            return OperatorError(f"{round_folder(self.number)}/{name}: no such file; every round needs it")
        near = sorted(sorted(known, key=lambda each: abs(each - self.number))[:_SHOWN_ROUNDS])
        hint = f"the nearest rounds are {', '.join(map(str, near))}" if near else "there are no rounds at all"
        return OperatorError(f"{self.store.url}: there is no round {self.number}; {hint}")


def _parse_round(data: bytes, origin: str, *, tournament: Tournament, number: int) -> Round:
    """Reads the bytes of `round.toml`."""
    top = parse_toml(data, origin)
    top.check_keys(_ROUND_KEYS)
    if top.whole("round", (0, _MAX_ROUND)) != number:
        raise top.wrong("round", f"the number of its folder, {number}")
    if not _HORIZON.fullmatch(top.text("horizon")):
        raise top.wrong("horizon", 'days and lag, such as "20D2L"')
    return Round(
        number=number,
        opens_at=top.time("opens_at"),
        closes_at=top.time("closes_at"),
        resolves_at=top.time("resolves_at"),
        horizon=top.text("horizon"),
        target=top.text("target"),
        seed=top.whole("seed", (0, 2**64 - 1), round_seed(tournament.name, number)),
    )
