"""The end of a round: from what the workers found to published tables.

Everything here is small and runs in one place: scores become published decimals, decimals and stakes the audited
ledger, all tables one revision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from scoring.ledger import Ledger
from scoring.score_table import MetaModels, ScoringVectors
from tasks.ingest import Receipt
from tasks.meta_models import BagResult
from tasks.plan import RoundPlan, draft_manifest
from tasks.publish import Manifest, publish
from tasks.scores import BlockScores, Units, meta_model_table, publish_scores, scores_table
from tasks.settle import bags_table, ledger_table, rejects_table, settle
from tasks.summary import RoundSummary, summarise


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers found.

    Attributes:
        receipts, benchmark_receipts: what became of every submission and benchmark file.
        scores: of all blocks.
        vectors: the round's vectors and meta models.
        bags: in the order of their numbers.
        draws: stakers drawn into each bag.
    """

    receipts: Sequence[Receipt]
    benchmark_receipts: Sequence[Receipt]
    scores: Sequence[BlockScores]
    vectors: tuple[ScoringVectors, MetaModels]
    bags: Sequence[BagResult]
    draws: int


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a run ended.

    Attributes:
        manifest: the revision that is in force.
        summary: the round's figures; None where it was published before and nothing was left to do.
    """

    manifest: Manifest
    summary: RoundSummary | None = None


def conclude(plan: RoundPlan, work: Work) -> Resolution:
    """Settles and publishes a round.

    Raises:
        OperatorError: models chose multipliers that are not on offer.
        ConflictError: somebody else published the revision with other inputs.
        StorageError: the store failed; nothing of this revision counts.
    """
    units = publish_scores(work.scores)
    ledger = settle(plan.inputs.stakes, work.receipts, units, plan.terms)
    summary = summarise(ledger, units, plan.tournament.decimals)
    hashes = {path: sha for r in (*work.receipts, *work.benchmark_receipts) for path, sha in r.hashes.items()}
    manifest = publish(plan.out, draft_manifest(plan, hashes, summary.facts()), _tables(plan, work, units, ledger))
    return Resolution(manifest, summary)


def _tables(plan: RoundPlan, work: Work, units: Mapping[str, Units], ledger: Ledger) -> dict[str, pa.Table]:
    inputs = plan.inputs
    models = [row.model for row in ledger.rows if row.model is not None]
    return {
        "scores": scores_table(models, inputs.stakes, units),
        "meta_model": meta_model_table(inputs.universe, plan.targets, *work.vectors),
        "bags": bags_table(inputs.round, work.bags, work.draws),
        "ledger": ledger_table(ledger, plan.tournament.decimals),
        "rejects": rejects_table(work.receipts),
    }
