"""The plan of a round: everything that can go wrong before work starts, goes wrong here.

Reading the operator's files, finding the submissions, deciding which rules apply, which revision this will be and
whether the work is already done needs no cluster. So a mistake costs two seconds and one clear line, and a second run
of a published round starts nothing at all.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scoring.chain import Balances
from scoring.errors import ConflictError, NotDueError, OperatorError, OtherVersionError
from scoring.ledger import Terms, refuse_multipliers
from scoring.named_function import is_named_function
from scoring.named_function import source_file as file_of
from scoring.payout_policies import PLACE as ADJUST
from scoring.portfolio.builder import STRUCTURED, source_file
from scoring.portfolio.problem import PortfolioTerms
from scoring.rounds import Targets
from scoring.weight_policies import PLACE as WEIGHTS
from tasks.checks import check_paid_scores, check_portfolio, check_weights, digest_as_loaded, targets_if_due
from tasks.history import balances_of
from tasks.ingest import Source, file_hashes, find_sources
from tasks.inputs import RoundInputs, read_round, round_folder
from tasks.publish import Manifest, identity_digest, latest_manifest
from tasks.store import Store, open_store
from tasks.tournament import Tournament, read_tournament

_READERS = 8
_LIBRARIES = ("numba", "numpy", "pyarrow", "scipy", "torch")
_LIBRARIES_OF_CVXPY = ("clarabel", "cvxpy", "cvxpylayers", "diffcp")
"""What an operator's own portfolio problem goes through besides."""
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
        history: with chained stakes, where earlier rounds are published; None: `out`.
    """

    data: str
    out: str
    round: int
    tournament: Path | None = None
    revise: bool = False
    history: str | None = None


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """A round that is due and not published.

    Attributes:
        request: what was asked for.
        data: the tournament's store.
        tournament: name, currency, rules, options.
        inputs: the round's files but the submissions.
        targets: what happened.
        sources, benchmarks: where the submissions and the benchmark models' lie, sorted by model.
        supersedes: the revision that this one corrects.
    """

    request: RoundRequest
    data: Store
    tournament: Tournament
    inputs: RoundInputs
    targets: Targets
    sources: tuple[Source, ...]
    benchmarks: tuple[Source, ...]
    supersedes: int | None

    @property
    def out(self) -> Store:
        """The store to publish to; made where it is missing, so only asked for when all is checked."""
        return open_store(self.request.out, create=True)

    @property
    def terms(self) -> Terms:
        """Rules, decimals and revision that the round is settled on."""
        rules = self.tournament.rulebook.at(self.request.round)
        return Terms(rules, self.tournament.decimals, (self.supersedes or 0) + 1, self.tournament.chained)

    @property
    def portfolio(self) -> PortfolioTerms | None:
        """The portfolio of True Contribution; None where the round asks for none."""
        return self.tournament.terms_of_portfolio(self.request.round, self.inputs.stakes.rows)

    def settled_from(self, before: Mapping[str, int]) -> "RoundPlan":
        """Returns the plan with the balances just before the round settles, where they were not known when it was read.

        Args:
            before: model → atoms.
        """
        at_close = {stake.model: stake.atoms for stake in self.inputs.stakes.rows}
        stakes = Balances(at_close, before).applied(self.inputs.stakes)
        return replace(self, inputs=replace(self.inputs, stakes=stakes))


@dataclass(frozen=True, slots=True)
class AlreadyPublished:
    """A round that is published from the same inputs, by the same rules and version."""

    manifest: Manifest


def plan_round(request: RoundRequest, now: datetime, balances: Balances | None = None) -> RoundPlan | AlreadyPublished:
    """Reads and checks everything about a round but the content of its submissions.

    Args:
        request: what the operator asks for.
        now: the time, with time zone; a round is due when it has resolved.
        balances: with chained stakes, those of the round where the caller has them; else published rounds tell. A
            published round is not compared where its balances before settlement are not known yet: it cannot be.

    Raises:
        OperatorError: the operator's files are wrong.
        NotDueError: the round has not resolved, or nothing is at risk.
        ConflictError: it is published with other inputs, or by another version, and no revision was asked for.
    """
    plan = read_plan(request, partial(_targets_of, request=request, now=now), balances)
    check_paid_scores(plan.tournament, plan.inputs)
    refuse_multipliers(plan.inputs.stakes, plan.terms.rules)
    published = latest_manifest(plan.out, request.round)
    if published is None:
        return plan
    known = balances is None or balances.before is not None
    return _compared(plan, published) if known else AlreadyPublished(published)


def _targets_of(inputs: RoundInputs, request: RoundRequest, now: datetime) -> Targets:
    """Returns the targets; a round that is published was due once, so that its inputs have changed if it is not now."""
    try:
        return targets_if_due(inputs, now)
    except NotDueError as error:
        published = _in_force(request)
        if published is None:
            raise
        raise ConflictError(
            f"round {request.round}: already published as revision {published.revision}, but now {error}"
        ) from error


def _in_force(request: RoundRequest) -> Manifest | None:
    """Returns what is published, without making the place where nothing ever was."""
    try:
        return latest_manifest(open_store(request.out), request.round)
    except OperatorError:
        return None


def read_plan(
    request: RoundRequest,
    targets_of: Callable[[RoundInputs], Targets],
    balances: Balances | None = None,
    *,
    provisional: bool = False,
) -> RoundPlan:
    """Reads a round and checks what scores need of it; what money needs is the caller's.

    Args:
        request: what the operator asks for.
        targets_of: returns the targets, or raises where the round is not far enough.
        balances: as in `plan_round`.
        provisional: chained stakes are needed as they were when the round closed, no further.

    Raises:
        OperatorError: the operator's files are wrong.
        NotDueError: as `targets_of` says, or chained stakes are not known yet.
    """
    data, number = open_store(request.data), request.round
    tournament = read_tournament(data, request.tournament)
    if tournament.chained and balances is None:
        history = open_store(request.history or request.out, create=True)
        balances = balances_of(data, history, tournament, number, provisional=provisional)
    inputs = read_round(data, tournament, number, balances)
    targets = targets_of(inputs)
    check_portfolio(tournament.terms_of_portfolio(number, inputs.stakes.rows), inputs, targets)
    folder = round_folder(number)
    sources = find_sources(data, f"{folder}/submissions")
    if not sources:
        raise OperatorError(f"{folder}/submissions: needs at least one submission, found none")
    benchmarks = find_sources(data, f"{folder}/benchmarks") if inputs.benchmark_stakes is not None else []
    check_weights(tournament, inputs, [source.model for source in benchmarks])
    return RoundPlan(request, data, tournament, inputs, targets, tuple(sources), tuple(benchmarks), None)


def draft_manifest(plan: RoundPlan, submissions: Mapping[str, str], facts: Mapping[str, Any]) -> Manifest:
    """Returns the manifest without its outputs.

    Args:
        plan: the round's.
        submissions: SHA-256 of the submissions' and the benchmark models' files by path, as read.
        facts: totals and whatever else only the work itself could tell.

    Raises:
        OperatorError: the module of an own function was edited while the round was worked on.
    """
    _refuse_edited(plan)
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
            "weights": [_plain(step.stated()) for step in plan.tournament.weights],
            "stakes": _chained_stakes(plan) or "snapshot",
            "seed": calendar.seed,
            "target_mean": repr(plan.targets.full_mean),  # exact, and more than the published targets tell
            "device_kind": "cpu",
            "bag_chunk_size": None,  # True Contribution alone is solved in chunks of bags
            "versions": {name: version(name) for name in ("stakeweight", *_LIBRARIES)} | _operators_versions(plan),
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


def _compared(plan: RoundPlan, published: Manifest) -> RoundPlan | AlreadyPublished:
    """Decides what a round that is published already asks for: nothing, a revision, or a refusal."""
    submissions = hash_submissions(plan.data, [*plan.sources, *plan.benchmarks])
    if _identity(plan, submissions) == published.identity:
        return AlreadyPublished(published)
    if plan.request.revise:
        return replace(plan, supersedes=published.revision)
    versions = published.facts.get("versions", {})
    engine = str(versions.get("stakeweight"))
    if _identity(plan, submissions, engine) == published.identity:
        raise OtherVersionError(
            f"round {published.round}: already published as revision {published.revision} by stakeweight {engine}; "
            "publish a correction with --revise"
        )
    found = {**plan.inputs.hashes, **submissions, **_wide_hashes(plan)}
    changed = sorted(
        path for path in found.keys() | published.inputs.keys() if found.get(path) != published.inputs.get(path)
    )
    own = {name: found for name, found in _operators_versions(plan).items() if is_named_function(name)}
    changed += [f"the module of {name}" for name, found in own.items() if versions.get(name, found) != found]
    what = ", ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else "")
    raise ConflictError(
        f"round {published.round}: already published as revision {published.revision} with other "
        f"{'inputs: ' + what if changed else 'rules, options or version'}; publish a correction with --revise"
    )


def _identity(plan: RoundPlan, submissions: Mapping[str, str], engine: str | None = None) -> str:
    """Returns the digest of all that bears on the numbers, the engine's version too: by default this one's."""
    tournament = plan.tournament
    terms = {
        "tournament": tournament.name,
        "currency": tournament.currency,
        "decimals": tournament.decimals,
        "rules": _plain(asdict(plan.terms.rules)),
        "scores": _plain(asdict(tournament.scores)),
        "portfolio": _plain(_portfolio_of(plan)),
        "chained_stakes": _chained_stakes(plan),
        "version": engine or version("stakeweight"),
        **({"weights": [_plain(step.stated()) for step in tournament.weights]} if tournament.weights else {}),
        **({"functions": own} if (own := _own_functions(plan)) else {}),
    }
    return identity_digest(terms, {**plan.inputs.hashes, **submissions, **_wide_hashes(plan)})


def _portfolio_of(plan: RoundPlan) -> dict[str, Any] | None:
    """Returns what True Contribution rests on, None where the round has none."""
    terms = plan.portfolio
    if terms is None:
        return None
    own = {} if terms.solver == STRUCTURED else {"solver_sha256": _solver_sha256(terms)}
    return asdict(terms) | asdict(plan.tournament.true_contribution) | own


def _operators_versions(plan: RoundPlan) -> dict[str, str]:
    """Returns the versions that what an operator wrote himself depends on, that of a module being its digest."""
    own = {name: f"sha256:{digest}" for name, digest in _own_functions(plan).items()}
    terms = plan.portfolio
    if terms is None or terms.solver == STRUCTURED:
        return own
    libraries = {name: version(name) for name in _LIBRARIES_OF_CVXPY}
    return libraries | own | {terms.solver: f"sha256:{_solver_sha256(terms)}"}


def _own_functions(plan: RoundPlan) -> dict[str, str]:
    """Returns the operator's own policies of weights and payouts, each with the SHA-256 of its module's file."""
    return {name: sha256(file.read_bytes()).hexdigest() for name, file in _own_files(plan).items()}


def _own_files(plan: RoundPlan) -> dict[str, Path]:
    named = [(step.policy, WEIGHTS) for step in plan.tournament.weights if step.is_own]
    named += [(name, ADJUST) for name in plan.terms.rules.own_functions]
    return {name: file_of(name, place) for name, place in named}


def _refuse_edited(plan: RoundPlan) -> None:
    """Stops where a round would be published with the digest of a function that it was not made by."""
    own = _own_functions(plan)
    for name, file in _own_files(plan).items():
        if own[name] != digest_as_loaded(file):
            raise OperatorError(f"{file}: was edited after {name} had been loaded from it; run the round again")


def _solver_sha256(terms: PortfolioTerms) -> str:
    return sha256(source_file(terms.solver).read_bytes()).hexdigest()


def _chained_stakes(plan: RoundPlan) -> dict[str, str] | None:
    """Returns digests of the balances that stand in place of stakes; None where the stakes are snapshots.

    They are told apart from the transfers, whose file grows every week and leaves earlier rounds as they are.
    """
    if not plan.tournament.chained:
        return None
    rows = plan.inputs.stakes.rows
    found = {"at_close": [(row.model, row.atoms) for row in rows], "before": [(row.model, row.before) for row in rows]}
    return {f"{name}_sha256": sha256(json.dumps(pairs).encode()).hexdigest() for name, pairs in found.items()}


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
