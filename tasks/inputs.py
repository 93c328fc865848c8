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
from scoring.chain import Balances
from scoring.errors import OperatorError
from scoring.ranks import Ranks, rank
from scoring.rounds import Features, Round, Targets, Universe
from scoring.stakes import Stakes
from scoring.weight_policies import EXAMPLE, Standings, examples, needs_standings
from tasks.stakes import parse_benchmark_stakes, parse_stakes
from tasks.standings import parse_standings
from tasks.stocks import (
    parse_factor_covariance,
    parse_features,
    parse_previous_portfolio,
    parse_targets,
    parse_universe,
)
from tasks.store import MissingFileError, Store
from tasks.submission import Submission, parse_submission
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
        previous_portfolio: (stock,) held before the round, fractions of capital; None where there is no such table or
            turnover costs nothing.
        hashes: hexadecimal SHA-256 of every file as read, by its path in the store.
        standings: on a leaderboard; None where there is no such table or no weight policy looks at it.
        example: ranks of the example predictions; None where there is no such file or no weight policy looks at it.
    """

    round: Round
    universe: Universe
    targets: Targets | None
    features: Features | None
    factor_covariance: Float64[np.ndarray, "factor factor"] | None
    stakes: Stakes
    benchmark_stakes: Stakes | None
    previous_portfolio: Float64[np.ndarray, " stock"] | None
    hashes: Mapping[str, str]
    standings: Standings | None = None
    example: Ranks | None = None


def round_folder(number: int) -> str:
    """Returns the folder of a round in the store."""
    return f"{ROUNDS_FOLDER}/{number}"


def round_numbers(store: Store) -> list[int]:
    """Returns the numbers of all rounds that have a folder, ascending."""
    return sorted(int(name) for name in store.folders(ROUNDS_FOLDER) if name.isdecimal())


def refuse_unknown(store: Store, number: int) -> None:
    """Stops where a round has no folder.

    Raises:
        OperatorError: it has none; the message names the nearest that have.
    """
    known = round_numbers(store)
    if number in known:
        return
    near = sorted(sorted(known, key=lambda each: abs(each - number))[:_SHOWN_ROUNDS])
    hint = f"the nearest rounds are {', '.join(map(str, near))}" if near else "there are no rounds at all"
    raise OperatorError(f"{store.url}: there is no round {number}; {hint}")


def read_round(store: Store, tournament: Tournament, number: int, balances: Balances | None = None) -> RoundInputs:
    """Reads and validates one round.

    Args:
        store: the tournament's data.
        tournament: what holds for all rounds.
        number: the round's number, ≥ 0.
        balances: with chained stakes, what stands in place of the column `stake`; without them all stakes are 0 then.

    Raises:
        OperatorError: the round or one of its required files does not exist, or a file is not as it must be.
        StorageError: the store failed.
    """
    files = _RoundFiles(store, number)
    calendar = files.required("round.toml", partial(parse_round, tournament=tournament, number=number))
    universe = files.required("universe.parquet", parse_universe)
    covariance_of = partial(parse_factor_covariance, universe=universe)
    stakes_of = partial(
        parse_stakes, decimals=tournament.decimals, closes_at=calendar.closes_at, chained=tournament.chained
    )
    benchmark_stakes_of = partial(parse_benchmark_stakes, decimals=tournament.decimals)
    stakes = files.required("stakes.parquet", stakes_of)
    stakes = stakes if balances is None else balances.applied(stakes)
    needs_risk = tournament.terms_of_portfolio(number, stakes.rows) is not None
    trades = tournament.portfolio is not None and tournament.portfolio.turnover_cost is not None
    held_of = partial(parse_previous_portfolio, universe=universe)
    steps = tournament.weights
    own = any(step.is_own for step in steps)  # an operator's own policy may look at what there is
    ranked = own or needs_standings(steps) is not None
    compared = own or EXAMPLE in examples(steps)
    return RoundInputs(
        round=calendar,
        universe=universe,
        targets=files.optional("targets.parquet", partial(parse_targets, universe=universe)),
        features=files.optional("features.parquet", partial(parse_features, universe=universe)),
        factor_covariance=files.required("factor_covariance.parquet", covariance_of) if needs_risk else None,
        stakes=stakes,
        benchmark_stakes=files.optional("benchmark_stakes.parquet", benchmark_stakes_of),
        previous_portfolio=files.optional("previous_portfolio.parquet", held_of) if trades else None,
        standings=files.optional("standings.parquet", parse_standings) if ranked else None,
        example=files.optional("example_predictions.parquet", partial(parse_example, ids=universe.ids))
        if compared
        else None,
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
        try:
            refuse_unknown(self.store, self.number)
        except OperatorError as error:
            return error
        return OperatorError(f"{round_folder(self.number)}/{name}: no such file; every round needs it")


def parse_example(data: bytes, origin: str, *, ids: tuple[str, ...]) -> Ranks:
    """Reads the bytes of `example_predictions.parquet`, which are those of a submission, as ranks.

    Raises:
        OperatorError: as a submission it would be refused; it is the operator's own.
    """
    found = parse_submission(data, csv=False, ids=ids)
    if not isinstance(found, Submission):
        raise OperatorError(f"{origin}: {found.code}: {found.message}")
    return rank(("",), found.predictions[None, :])


def parse_round(data: bytes, origin: str, *, tournament: Tournament, number: int) -> Round:
    """Reads the bytes of `round.toml`.

    Raises:
        OperatorError: a key is missing, unknown or wrong, or the dates are out of order.
    """
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
