"""The plan of a round: everything that can go wrong before work starts, goes wrong here.

Reading the operator's files, finding the submissions, deciding which rules apply, which revision this will be and
whether the work is already done needs no cluster. So a mistake costs two seconds and one clear line, and a second run
of a published round starts nothing at all.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scoring.errors import ConflictError, NotDueError, OperatorError
from scoring.ledger import Terms, refuse_multipliers
from scoring.portfolio.problem import PortfolioTerms, portfolio_problem
from scoring.rounds import Targets
from tasks.ingest import Source, file_hashes, find_sources
from tasks.inputs import RoundInputs, read_round, round_folder
from tasks.publish import Manifest, identity_digest, latest_manifest
from tasks.store import Store, open_store
from tasks.tournament import Tournament, read_tournament

_READERS = 8
_LIBRARIES = ("numba", "numpy", "pyarrow", "scipy", "torch")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class RoundRequest:
    """What the operator asks for.

    Attributes:
        data: directory or URL of the tournament.
        out: directory or URL of what is published.
        round: number of the round.
        tournament: a file to use in place of the data's `tournament.toml`.
        revise: publish a new revision where the round is published with other inputs.
    """

    data: str
    out: str
    round: int
    tournament: Path | None = None
    revise: bool = False


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """A round that is due and not published.

    Attributes:
        request: what was asked for.
        data, out: the two stores.
        tournament: name, currency, rules, options.
        inputs: the round's files but the submissions.
        targets: what happened.
        sources, benchmarks: where the submissions and the benchmark models' lie, sorted by model.
        supersedes: the revision that this one corrects.
    """

    request: RoundRequest
    data: Store
    out: Store
    tournament: Tournament
    inputs: RoundInputs
    targets: Targets
    sources: tuple[Source, ...]
    benchmarks: tuple[Source, ...]
    supersedes: int | None

    @property
    def terms(self) -> Terms:
        """Rules, decimals and revision that the round is settled on."""
        rules = self.tournament.rulebook.at(self.request.round)
        return Terms(rules, self.tournament.decimals, (self.supersedes or 0) + 1)

    @property
    def portfolio(self) -> PortfolioTerms | None:
        """The portfolio of True Contribution; None where the round asks for none."""
        return self.tournament.terms_of_portfolio(self.request.round)


@dataclass(frozen=True, slots=True)
class AlreadyPublished:
    """A round that is published from the same inputs, by the same rules and version."""

    manifest: Manifest


def plan_round(request: RoundRequest, now: datetime) -> RoundPlan | AlreadyPublished:
    """Reads and checks everything about a round but the content of its submissions.

    Args:
        request: what the operator asks for.
        now: the time, with time zone; a round is due when it has resolved.

    Raises:
        OperatorError: the operator's files are wrong.
        NotDueError: the round has not resolved, or nothing is at risk.
        ConflictError: it is published with other inputs, and no revision was asked for.
    """
    data = open_store(request.data)
    tournament = read_tournament(data, request.tournament)
    inputs = read_round(data, tournament, request.round)
    targets = _due(inputs, now)
    _check_paid_scores(tournament, inputs)
    refuse_multipliers(inputs.stakes, tournament.rulebook.at(request.round))
    _check_portfolio(tournament.terms_of_portfolio(request.round), inputs, targets)
    folder = round_folder(request.round)
    sources = find_sources(data, f"{folder}/submissions")
    if not sources:
        raise OperatorError(f"{folder}/submissions: needs at least one submission, found none")
    benchmarks = find_sources(data, f"{folder}/benchmarks") if inputs.benchmark_stakes is not None else []
    out = open_store(request.out, create=True)
    plan = RoundPlan(request, data, out, tournament, inputs, targets, tuple(sources), tuple(benchmarks), None)
    published = latest_manifest(out, request.round)
    return plan if published is None else _compared(plan, published)


def draft_manifest(plan: RoundPlan, submissions: Mapping[str, str], facts: Mapping[str, Any]) -> Manifest:
    """Returns the manifest without its outputs.

    Args:
        plan: the round's.
        submissions: SHA-256 of the submissions' and the benchmark models' files by path, as read.
        facts: totals and whatever else only the work itself could tell.
    """
    terms, calendar = plan.terms, plan.inputs.round
    return Manifest(
        round=plan.request.round,
        revision=terms.revision,
        supersedes=plan.supersedes,
        identity=_identity(plan, submissions),
        facts={
            "tournament": plan.tournament.name,
            "tournament_sha256": plan.tournament.hash,
            "currency": plan.tournament.currency,
            "decimals": plan.tournament.decimals,
            "resolves_at": calendar.resolves_at.isoformat(),
            "rules_id": terms.rules.rules_id,
            "rules": _plain(asdict(terms.rules)),
            "scores": _plain(asdict(plan.tournament.scores)),
            "seed": calendar.seed,
            "target_mean": repr(plan.targets.full_mean),  # exact, and more than the published targets tell
            "device_kind": "cpu",
            "bag_chunk_size": None,  # True Contribution alone is solved in chunks of bags
            "versions": {name: version(name) for name in ("stakeweight", *_LIBRARIES)},
            **facts,
        },
        inputs={**plan.inputs.hashes, **submissions, **_wide_hashes(plan)},
        outputs={},
    )


def hash_submissions(store: Store, sources: Sequence[Source]) -> dict[str, str]:
    """Returns the SHA-256 of all files of these models, without parsing them."""
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(partial(file_hashes, store), sources)
        return {path: digest for hashes in found for path, digest in hashes.items()}


def _due(inputs: RoundInputs, now: datetime) -> Targets:
    """Returns the targets of a round that has resolved and has something to pay."""
    calendar = inputs.round
    if now < calendar.resolves_at:
        raise NotDueError(f"round {calendar.number}: not due before {calendar.resolves_at.isoformat()}")
    if inputs.targets is None:
        raise NotDueError(
            f"round {calendar.number}: not due, {round_folder(calendar.number)}/targets.parquet is missing"
        )
    if not any(stake.atoms for stake in inputs.stakes.rows):
        raise NotDueError(f"round {calendar.number}: nothing to pay, all stakes are zero")
    return inputs.targets


def _check_paid_scores(tournament: Tournament, inputs: RoundInputs) -> None:
    """Stops before any work where money depends on a score that this round cannot have."""
    number = inputs.round.number
    rules, folder = tournament.rulebook.at(number), round_folder(number)
    staked = [stake for stake in inputs.stakes.rows if stake.atoms]
    if rules.payout is None and not any(stake.multipliers for stake in staked):
        raise OperatorError(
            f"{folder}/stakes.parquet: under {rules.rules_id} the models choose, so it needs a column "
            f"{rules.paid_scores[0]}_multiplier or another of {', '.join(rules.paid_scores)}; found none"
        )
    wanted = {key for stake in staked for key, value in rules.multipliers(stake.multipliers).items() if value}
    lacking = {
        "fnc": None if inputs.features else f"{folder}/features.parquet",
        "bmc": None if inputs.benchmark_stakes else f"{folder}/benchmark_stakes.parquet",
        "cwmm_max": None if tournament.scores.pairwise else "scores.pairwise = true",
        "cwmm_mean": None if tournament.scores.pairwise else "scores.pairwise = true",
    }
    for key in sorted(wanted):
        if needs := lacking.get(key):
            raise OperatorError(f"round {number}: {rules.rules_id} pays on {key}, which needs {needs}; found none")


def _check_portfolio(terms: PortfolioTerms | None, inputs: RoundInputs, targets: Targets) -> None:
    """Stops before any work where the round's True Contribution cannot be had."""
    if terms is None or inputs.factor_covariance is None:
        return
    portfolio_problem(inputs.universe, inputs.factor_covariance, terms, inputs.features)
    if targets.realised is None:
        folder = round_folder(inputs.round.number)
        raise OperatorError(f"{folder}/targets.parquet: column return is missing; True Contribution needs it")


def _compared(plan: RoundPlan, published: Manifest) -> RoundPlan | AlreadyPublished:
    """Decides what a round that is published already asks for: nothing, a revision, or a refusal."""
    submissions = hash_submissions(plan.data, [*plan.sources, *plan.benchmarks])
    if _identity(plan, submissions) == published.identity:
        return AlreadyPublished(published)
    if plan.request.revise:
        return replace(plan, supersedes=published.revision)
    found = {**plan.inputs.hashes, **submissions, **_wide_hashes(plan)}
    changed = sorted(
        path for path in found.keys() | published.inputs.keys() if found.get(path) != published.inputs.get(path)
    )
    what = ", ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")
    raise ConflictError(
        f"round {published.round}: already published as revision {published.revision} with other "
        f"{'inputs: ' + what if changed else 'rules, options or version'}; publish a correction with --revise"
    )


def _identity(plan: RoundPlan, submissions: Mapping[str, str]) -> str:
    tournament = plan.tournament
    terms = {
        "tournament": tournament.name,
        "currency": tournament.currency,
        "decimals": tournament.decimals,
        "rules": _plain(asdict(plan.terms.rules)),
        "scores": _plain(asdict(tournament.scores)),
        "portfolio": _plain(_portfolio_of(plan)),
        "version": version("stakeweight"),
    }
    return identity_digest(terms, {**plan.inputs.hashes, **submissions, **_wide_hashes(plan)})


def _portfolio_of(plan: RoundPlan) -> dict[str, Any] | None:
    """Returns what True Contribution rests on, None where the round has none."""
    terms = plan.portfolio
    return None if terms is None else asdict(terms) | asdict(plan.tournament.true_contribution)


def _wide_hashes(plan: RoundPlan) -> dict[str, str]:
    tables = {source.files[0] for source in (*plan.sources, *plan.benchmarks) if source.wide}
    return {entry.path: plan.data.sha256_of_entry(entry) for entry in tables}


def _plain(value: Any) -> Any:
    """Returns a value that JSON can hold: decimals as exact text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
