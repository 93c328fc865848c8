"""A case: one round of history as it was, its submissions read once and kept as ranks.

    open_case (files, once) ─► RoundCase ─ staged(play) ─► Scene ─ evaluate (tasks.lab.evaluate) ─► what was paid

A scene is who hands in what and stakes how much: the round itself, or the round with somebody's play in it. A play's
uploads go through the check that everybody's files go through, as the bytes of a parquet file, so that what the check
refuses is refused here. The failure guarded against: an attack that pays because the lab let it in where the engine
would not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.chain import Balances
from scoring.errors import OperatorError, Rejection
from scoring.lab.plays import Play, Predictions
from scoring.portfolio.problem import PortfolioTerms
from scoring.ranks import Ranks, rank, rank_vector
from scoring.stakes import Stake, Stakes
from scoring.weight_policies import Standings
from tasks.checks import check_paid_scores, check_portfolio, check_weights
from tasks.history import balances_of
from tasks.ingest import Block, Receipt, Source, cut_blocks, find_sources, ingest_block
from tasks.inputs import RoundInputs, read_round, round_folder
from tasks.lab.mechanism import Mechanism
from tasks.meta_models import Vector, benchmark_meta_model
from tasks.plan import RoundPlan, RoundRequest
from tasks.store import open_store
from tasks.submission import Submission, parse_submission
from tasks.tournament import Tournament


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """Which round to open.

    Attributes:
        data: directory or URL of the tournament.
        round: its number.
        baseline: what it was paid by.
        portfolio: whether portfolios are asked for by the baseline or by any variant.
        published: where the tournament's ledgers are published; None where they are not.
        variants: what else it may be paid by, so that what they look at is read, and checked to be there.
    """

    data: str
    round: int
    baseline: Mechanism
    portfolio: bool
    published: str | None = None
    variants: tuple[Mechanism, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundCase:
    """A round as it was.

    Attributes:
        plan: its files but the submissions, and the rules it was paid by.
        ranks: all valid submissions, sorted by model.
        receipts: what became of every submission, sorted by model.
        benchmark: (stock,) the benchmark models' meta model; None where there is none.
        benchmarks: these models; None where there are none.
        published: where its ledger may be found.
    """

    plan: RoundPlan
    ranks: Ranks
    receipts: tuple[Receipt, ...]
    benchmark: Vector | None
    benchmarks: Block | None
    published: str | None

    @property
    def number(self) -> int:
        """The round's number."""
        return self.plan.request.round

    @property
    def scene(self) -> "Scene":
        """The round itself, with nobody's play in it."""
        inputs = self.plan.inputs
        return Scene(self.ranks, self.receipts, inputs.stakes, inputs.round.seed)


@dataclass(frozen=True, slots=True)
class Scene:
    """Who hands in what and stakes how much.

    Attributes:
        ranks: valid submissions, sorted by model.
        receipts: what became of every submission, sorted by model.
        stakes: of all models.
        seed: the round's.
        memory: what was computed of it so far, by what it was computed from (`tasks.lab.score_scene`).
    """

    ranks: Ranks
    receipts: tuple[Receipt, ...]
    stakes: Stakes
    seed: int
    memory: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)


def open_case(request: CaseRequest) -> RoundCase:
    """Reads a round that has resolved: every file once.

    Raises:
        OperatorError: a file is wrong, or the round has no targets yet.
        StorageError: the store failed.
    """
    data, tournament = open_store(request.data), _asking_for_all(request)
    inputs = read_round(data, tournament, request.round, _balances(request))
    folder = round_folder(request.round)
    if inputs.targets is None:
        raise OperatorError(f"{folder}/targets.parquet: no such file; an experiment needs rounds that have resolved")
    check_portfolio(tournament.terms_of_portfolio(request.round, inputs.stakes.rows), inputs, inputs.targets)
    sources = tuple(find_sources(data, f"{folder}/submissions"))
    benchmarks = tuple(find_sources(data, f"{folder}/benchmarks")) if inputs.benchmark_stakes is not None else ()
    _check(request, inputs, benchmarks)
    asked = RoundRequest(request.data, request.published or request.data, request.round)
    plan = RoundPlan(asked, data, request.baseline.tournament, inputs, inputs.targets, sources, benchmarks, None)
    blocks = [ingest_block(block, data, inputs.universe.ids) for block in cut_blocks(sources)]
    others = ingest_block(benchmarks, data, inputs.universe.ids) if inputs.benchmark_stakes is not None else None
    stakes = inputs.benchmark_stakes
    return RoundCase(
        plan=plan,
        ranks=_joined(blocks, len(inputs.universe.ids)),
        receipts=tuple(receipt for block in blocks for receipt in block.receipts),
        benchmark=None if others is None or stakes is None else benchmark_meta_model(others, stakes),
        benchmarks=others,
        published=request.published,
    )


def staged(case: RoundCase, play: Play) -> Scene:
    """Returns the round with somebody's play in it.

    Args:
        case: the round.
        play: what he does.
    """
    if play == Play():
        return case.scene
    taken = play.withdrawn | play.uploads.keys()
    kept = [row for row, model in enumerate(case.ranks.models) if model not in taken]
    ids = case.plan.inputs.universe.ids
    checked = _checked(play.uploads, ids)
    names = [case.ranks.models[row] for row in kept]
    valid = {model: ranks for model, (_, ranks) in checked.items() if ranks is not None}
    order = sorted([*names, *valid])
    doubled = dict(zip(names, case.ranks.doubled[kept], strict=True)) | {m: r.doubled[0] for m, r in valid.items()}
    matrix = np.stack([doubled[model] for model in order]) if order else case.ranks.doubled[:0]
    receipts = [each for each in case.receipts if each.model not in taken] + [each for each, _ in checked.values()]
    return Scene(
        ranks=Ranks(tuple(order), matrix),
        receipts=tuple(sorted(receipts, key=lambda receipt: receipt.model)),
        stakes=_stakes(case.plan.inputs.stakes, play),
        seed=case.plan.inputs.round.seed if play.seed is None else play.seed,
    )


def example_of(case: RoundCase) -> Predictions:
    """Returns the doubled ranks of the benchmark models' meta model, where there is none of the meta model's first
    submission: what everybody has and anybody can copy.
    """
    if case.benchmark is not None:
        return rank_vector(case.benchmark).doubled[0].astype(np.float64)
    return case.ranks.doubled[0].astype(np.float64)


def _checked(uploads: Mapping[str, Predictions], ids: tuple[str, ...]) -> dict[str, tuple[Receipt, Ranks | None]]:
    """Returns the receipt of every upload, and its ranks where it is valid; equal uploads are checked once."""
    known: dict[bytes, Submission | Rejection] = {}
    checked: dict[str, tuple[Receipt, Ranks | None]] = {}
    for model, predictions in uploads.items():
        content = predictions.tobytes()
        if content not in known:
            known[content] = parse_submission(_file(predictions, ids), csv=False, ids=ids)
        found = known[content]
        file = f"submissions/{model}.parquet"
        if isinstance(found, Submission):
            ranks = rank((model,), found.predictions[None, :])
            checked[model] = (Receipt(model, file, {}, found.digest, None), ranks)
        else:
            checked[model] = (Receipt(model, file, {}, None, found), None)
    return checked


def _file(predictions: Predictions, ids: tuple[str, ...]) -> bytes:
    """Returns the file that would be handed in."""
    given = np.isfinite(predictions)
    named = pa.array([each for each, there in zip(ids, given, strict=True) if there], pa.string())
    table = pa.table({"id": named, "prediction": predictions[given]})
    sink = BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _stakes(stakes: Stakes, play: Play) -> Stakes:
    rows: dict[str, Stake] = {row.model: row for row in stakes.rows if row.model not in play.withdrawn}
    rows |= {row.model: row for row in play.stakes}
    return Stakes(tuple(rows[model] for model in sorted(rows)))


def _joined(blocks: list[Block], stocks: int) -> Ranks:
    """Returns the blocks' ranks in one."""
    if not blocks:
        raise OperatorError("a round needs at least one submission, found none")
    doubled = np.concatenate([block.ranks.doubled for block in blocks]) if stocks else blocks[0].ranks.doubled
    return Ranks(tuple(model for block in blocks for model in block.ranks.models), doubled)


def _asking_for_all(request: CaseRequest) -> Tournament:
    """Returns the baseline's tournament, made to ask for every file that any of the mechanisms looks at."""
    every = [each.tournament for each in (request.baseline, *request.variants)]
    terms = [each.portfolio for each in every if each.portfolio is not None]
    if request.portfolio and not terms:
        terms = [PortfolioTerms()]
    trading = [each for each in terms if each.turnover_cost is not None]
    steps = tuple(step for each in every for step in each.weights)
    return replace(every[0], portfolio=next(iter((*trading, *terms)), None), weights=steps)


def _check(request: CaseRequest, inputs: RoundInputs, benchmarks: Sequence[Source]) -> None:
    """Stops where a mechanism depends on what the round has not; a variant's standings may follow from the past."""
    for each in (request.baseline, *request.variants):
        known = inputs if each is request.baseline else replace(inputs, standings=inputs.standings or Standings())
        try:
            check_paid_scores(each.tournament, inputs)
            check_weights(each.tournament, known, [source.model for source in benchmarks])
        except OperatorError as error:
            raise OperatorError(f"{each.name}: {error}") from error


def _balances(request: CaseRequest) -> Balances | None:
    """Returns the chained stakes of the round, from the ledgers that are published."""
    tournament = request.baseline.tournament
    if not tournament.chained:
        return None
    if request.published is None:
        raise OperatorError("stakes are chained, so that they follow from published ledgers; name them with published")
    return balances_of(open_store(request.data), open_store(request.published), tournament, request.round)
