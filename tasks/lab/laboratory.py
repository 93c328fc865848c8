"""An experiment from its file to its report: what is done before, between and after the work on rounds.

    open_laboratory ─ open_case (a round each) ─ baseline (a round each) ─► known_of: what could be known when
    ─ variants, attacks (a round each) ─► findings ─► tables and a page

A round's submissions are read once; a variant more is a few milliseconds more of each round. Nothing is published: an
experiment's results are its own folder, written anew by every run.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pandas as pd

from scoring.chain import RoundDates
from scoring.errors import OperatorError
from scoring.lab.attacks import ATTACKS
from scoring.lab.combination import Gram
from scoring.lab.past import PastRound, past_of
from scoring.weight_policies import needs_standings
from tasks.history import round_dates
from tasks.inputs import round_folder
from tasks.lab.attack_case import Blow
from tasks.lab.case import CaseRequest
from tasks.lab.compare import compare
from tasks.lab.exhibit import Exhibit
from tasks.lab.exhibits import EXHIBITS, NEEDED
from tasks.lab.experiment_file import ExperimentFile, mechanisms_of, read_experiment
from tasks.lab.matrix import blows_frame, matrix_frame
from tasks.lab.mechanism import Mechanism
from tasks.lab.paid import RoundPaid, models_frame, rounds_frame
from tasks.lab.results import Combined, Results, owner_of
from tasks.lab.score_scene import Known
from tasks.store import open_store
from tasks.synthetic import write_tournament

_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Laboratory:
    """An experiment that may start: all that its file says was found to be right.

    Attributes:
        file: what it says.
        data: directory or URL of the tournament.
        mechanisms: the baseline and the variants.
        rounds: in the order in which they close.
    """

    file: ExperimentFile
    data: str
    mechanisms: tuple[Mechanism, ...]
    rounds: tuple[RoundDates, ...]

    @property
    def baseline(self) -> Mechanism:
        """The mechanism that the others are compared with."""
        return self.mechanisms[0]

    @property
    def requests(self) -> list[CaseRequest]:
        """The rounds to open."""
        asked = any(each.tournament.portfolio is not None or _pays_true_contribution(each) for each in self.mechanisms)
        return [
            CaseRequest(self.data, each.number, self.baseline, asked, self.file.sources.published, self.mechanisms[1:])
            for each in self.rounds
        ]

    @property
    def needs_grams(self) -> bool:
        """Whether an exhibit fits combinations of submissions."""
        return "drawdown_combination" in self.file.exhibits

    @property
    def attacks(self) -> tuple[str, ...]:
        """The names of the attacks that are tried."""
        return () if self.file.attacks is None else self.file.attacks.names

    @property
    def attacked(self) -> list[Mechanism]:
        """The mechanisms that are attacked."""
        against = () if self.file.attacks is None else self.file.attacks.against
        return [each for each in self.mechanisms if each.name in against]


@dataclass(frozen=True, slots=True)
class Findings:
    """What an experiment found.

    Attributes:
        paid: the baseline's rounds, then the variants'.
        rounds, models: the same as frames, see `tasks.lab.results`.
        comparison: see `tasks.lab.compare`.
        blows, matrix: see `tasks.lab.matrix`; None where nothing was attacked.
        exhibits: in the order of the file.
    """

    paid: tuple[RoundPaid, ...]
    rounds: pd.DataFrame
    models: pd.DataFrame
    comparison: pd.DataFrame
    blows: pd.DataFrame | None
    matrix: pd.DataFrame | None
    exhibits: tuple[Exhibit, ...]

    @property
    def reproduced(self) -> tuple[int, int]:
        """How many published ledgers the baseline reproduces, and of how many."""
        compared = [each.reproduced for each in self.paid if each.reproduced is not None]
        return sum(compared), len(compared)


def open_laboratory(path: Path, folder: Path, data: str | None = None) -> Laboratory:
    """Reads an experiment and all that it rests on but the rounds; makes its data where the file says so.

    Args:
        path: the experiment's file.
        folder: where its results go, and the data that are made.
        data: a tournament to use in place of the file's.

    Raises:
        OperatorError: the file, the tournament or a calendar is wrong; an exhibit lacks a variant; there is no round.
        StorageError: the store failed.
    """
    file = read_experiment(path, tuple(ATTACKS), tuple(EXHIBITS), data)
    _check_exhibits(path, file)
    where = file.sources.data or str(_made(file, folder))
    mechanisms = mechanisms_of(file, where)
    return Laboratory(file, where, mechanisms, _rounds(file, where, mechanisms[0]))


def known_of(laboratory: Laboratory, baseline: Sequence[RoundPaid]) -> dict[int, Known]:
    """Returns what could be known of each round when it closed, by number.

    Args:
        laboratory: the experiment.
        baseline: its rounds under the baseline; those that paid nothing are not among them.

    Raises:
        OperatorError: a mechanism looks at standings that no round has a score for.
    """
    key = laboratory.file.standings
    _check_standings(laboratory, baseline, key)
    told = {int(each.figures["round"]): each for each in baseline}
    past = [_past_round(each, told[each.number], key) for each in laboratory.rounds if each.number in told]
    known = {}
    for each in laboratory.rounds:
        if each.number in told:
            before = past_of(each.closes_at, past)
            known[each.number] = Known(before.standings, before.rates, told[each.number].at_risk_atoms)
    return known


def left_of(laboratory: Laboratory, baseline: Sequence[RoundPaid]) -> dict[int, frozenset[str]]:
    """Returns the models of the accounts with the largest stakes in the first round, by number of accounts that leave.

    A model without an account is an account of its own. Ties go by name.
    """
    counts = {each.leave_out_largest for each in laboratory.mechanisms if each.leave_out_largest}
    if not counts or not baseline:
        return {}
    stakes: dict[str, Decimal] = {}
    for row in baseline[0].models:
        owner = owner_of(row["model"], row["account"])
        stakes[owner] = stakes.get(owner, Decimal(0)) + row["at_risk"]
    order = sorted(stakes, key=lambda owner: (-stakes[owner], owner))
    owners = {row["model"]: owner_of(row["model"], row["account"]) for each in baseline for row in each.models}
    return {
        count: frozenset(model for model, owner in owners.items() if owner in order[:count]) for count in sorted(counts)
    }


def find(
    laboratory: Laboratory,
    paid: Sequence[RoundPaid],
    blows: Sequence[Blow] | None,
    grams: Mapping[int, Gram],
    combined: Combined | None,
) -> Findings:
    """Returns what the rounds say.

    Args:
        laboratory: the experiment.
        paid: the baseline's rounds, then the variants'.
        blows: of all attacks; None where nothing was attacked.
        grams: by round, for fits.
        combined: what a combination of submissions would have given.

    Raises:
        OperatorError: no round paid anything.
    """
    if not paid:
        raise OperatorError("no round of the experiment has anything at risk")
    file, baseline = laboratory.file, laboratory.baseline
    rounds, models = rounds_frame(paid), models_frame(paid)
    comparison = compare(rounds, models, baseline.name, file.resampling)
    comparison["unit"] = comparison["unit"].replace("currency", baseline.tournament.currency)
    results = Results(rounds, models, baseline.name, file.resampling.seed, grams, combined)
    attacked = None if blows is None else blows_frame(blows)
    matrix = None
    if attacked is not None:
        names = [each.name for each in laboratory.attacked]
        matrix = matrix_frame(attacked, names, laboratory.attacks, file.resampling)
    exhibits = tuple(EXHIBITS[name](results) for name in file.exhibits)
    return Findings(tuple(paid), rounds, models, comparison, attacked, matrix, exhibits)


def combined_by(
    laboratory: Laboratory, ask: Callable[[int, Mechanism, Mapping[str, float]], tuple[float, float]]
) -> Combined:
    """Returns the function that exhibits ask, from one that asks the workers."""
    return lambda number, shares: ask(number, laboratory.baseline, shares)


def _pays_true_contribution(mechanism: Mechanism) -> bool:
    return any(rules.pays_true_contribution for rules in mechanism.tournament.rulebook.rows)


def _check_standings(laboratory: Laboratory, baseline: Sequence[RoundPaid], key: str) -> None:
    """Stops where all standings would be 0, so that a policy by reputation would change nothing without a word."""
    policies = [needs_standings(each.tournament.weights) for each in laboratory.mechanisms]
    policy = next((each for each in policies if each is not None), None)
    scored = any(units.get(key) is not None for each in baseline for units in each.units.values())
    if policy is not None and baseline and not scored:
        raise OperatorError(f"{laboratory.file.name}: {policy} needs standings that rounds have, {key} is in none")


def _past_round(dates: RoundDates, told: RoundPaid, key: str) -> PastRound:
    return PastRound(
        number=dates.number,
        closes_at=dates.closes_at,
        resolves_at=dates.resolves_at,
        scores={model: units.get(key) or 0 for model, units in told.units.items()},
        rates=told.rates,
        stakes=told.stakes,
        accounts={row["model"]: row["account"] for row in told.models},
    )


def _check_exhibits(path: Path, file: ExperimentFile) -> None:
    names = {variant.text("name") for variant in file.variants}
    for exhibit in file.exhibits:
        lacking = [name for name in NEEDED.get(exhibit, ()) if name not in names]
        if lacking:
            raise OperatorError(f"{path}: the exhibit {exhibit!r} needs variants named {', '.join(lacking)}")


def _made(file: ExperimentFile, folder: Path) -> Path:
    """Returns the synthetic tournament; one that is there from an earlier run, and is the same, is used again."""
    spec = file.sources.synthetic
    if spec is None:
        raise OperatorError(f"{file.name}: needs data")
    all_of_it = sha256(repr(spec).encode()).hexdigest()[:_DIGITS]
    made = folder / f"data-{spec.rounds}x{spec.models}x{spec.stocks}-{spec.seed}-{all_of_it}"
    if not made.exists():
        making = folder / f"{made.name}.making"
        shutil.rmtree(making, ignore_errors=True)  # of a run that was interrupted
        write_tournament(making, spec)
        making.rename(made)
    return made


def _rounds(file: ExperimentFile, data: str, baseline: Mechanism) -> tuple[RoundDates, ...]:
    store = open_store(data)
    first, last = file.sources.rounds or (0, 2**31)
    chosen = [each for each in round_dates(store, baseline.tournament) if first <= each.number <= last]
    resolved = [each for each in chosen if store.exists(f"{round_folder(each.number)}/targets.parquet")]
    if not resolved:
        asked = "" if file.sources.rounds is None else f" from {first} to {last}"
        raise OperatorError(f"{data}: an experiment needs rounds that have resolved, found none{asked}")
    return tuple(sorted(resolved, key=lambda each: (each.closes_at, each.number)))
