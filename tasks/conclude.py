"""The end of a round: from what the workers found to published tables.

Everything here is small and runs in one place: scores become published decimals, decimals and stakes the audited
ledger, all tables one revision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from scoring.errors import UntrustworthyError
from scoring.families import Families
from scoring.ledger import Ledger
from scoring.true_contribution import Scaling, TrueContribution, flagged
from tasks.ingest import Receipt
from tasks.meta_models import BagResult
from tasks.plan import RoundPlan, draft_manifest
from tasks.publish import Manifest, publish
from tasks.scores import (
    BlockScores,
    PublishedVectors,
    Units,
    meta_model_table,
    publish_scores,
    score_meta_model,
    scores_table,
    with_true_contribution,
)
from tasks.settle import bags_table, ledger_table, rejects_table, settle
from tasks.summary import RoundSummary, summarise
from tasks.tournament import pays_true_contribution
from tasks.true_contribution import refuse_untrustworthy


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers found.

    Attributes:
        receipts, benchmark_receipts: what became of every submission and benchmark file.
        scores: of all blocks.
        vectors: what of the round's vectors and meta models is published.
        bags: in the order of their numbers.
        draws: stakers drawn into each bag.
        true_contribution: None where it is not asked for.
        solved: what this run's own solver found, where `true_contribution` is a published one that agrees with it.
        families: at the threshold from which the rules net opposites; None where they do not.
    """

    receipts: Sequence[Receipt]
    benchmark_receipts: Sequence[Receipt]
    scores: Sequence[BlockScores]
    vectors: PublishedVectors
    bags: Sequence[BagResult]
    draws: int
    true_contribution: TrueContribution | None = None
    solved: TrueContribution | None = None
    families: Families | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a run ended.

    Attributes:
        manifest: the revision that is in force.
        summary: the round's figures; None where another run published it before, and nothing was left to do.
    """

    manifest: Manifest
    summary: RoundSummary | None = None


def conclude(plan: RoundPlan, work: Work) -> Resolution:
    """Settles and publishes a round.

    Raises:
        OperatorError: models chose multipliers that are not on offer.
        UntrustworthyError: no model at risk has a score to be paid on; or the round pays on True Contribution, and too
            many of its bags are flagged.
        ConflictError: somebody else published the revision with other inputs.
        StorageError: the store failed; nothing of this revision counts.
    """
    units, scaled = with_true_contribution(publish_scores(work.scores), plan.tournament.true_contribution)
    if work.true_contribution is not None and pays_true_contribution(plan.terms.rules, plan.inputs.stakes.rows):
        refuse_untrustworthy(work.true_contribution.reports, plan.tournament.true_contribution)
    ledger = settle(plan.inputs.stakes, work.receipts, units, plan.terms, work.families)
    _refuse_unscored(ledger)
    summary = summarise(ledger, units, plan.tournament.decimals, score_meta_model(work.vectors, scaled))
    hashes = {path: sha for r in (*work.receipts, *work.benchmark_receipts) for path, sha in r.hashes.items()}
    facts = summary.facts() | _facts_of_true_contribution(plan, work, scaled)
    manifest = publish(plan.out, draft_manifest(plan, hashes, facts), _tables(plan, work, units, ledger))
    return Resolution(manifest, summary if manifest.ours else None)


def _refuse_unscored(ledger: Ledger) -> None:
    at_risk = [row for row in ledger.rows if row.entry == "model" and row.at_risk]
    if at_risk and all(row.status == "unscored" for row in at_risk):
        paid = ", ".join(key for key, value in at_risk[0].multipliers.items() if value)
        raise UntrustworthyError(
            f"none of the {len(at_risk)} models at risk has a score to be paid on ({paid}); is the target constant?"
        )


def _facts_of_true_contribution(plan: RoundPlan, work: Work, scaled: Scaling) -> dict[str, object]:
    """Returns what a reader needs to recompute `tc` from the price vector, and to judge the bags."""
    found, options = work.true_contribution, plan.tournament.true_contribution
    if found is None:
        return {}
    return {
        "device_kind": found.device,
        "bag_chunk_size": options.chunk,
        "true_contribution": {
            "risk_aversion": found.risk_aversion,
            "scaling": options.scaling,
            "spread": str(options.spread),
            "centre": scaled.centre,
            "factor": scaled.factor,
            "bags": len(found.reports),
            "flagged_bags": flagged(found.reports),
        },
    }


def _tables(plan: RoundPlan, work: Work, units: Mapping[str, Units], ledger: Ledger) -> dict[str, pa.Table]:
    inputs, found = plan.inputs, work.true_contribution
    portfolio, reports = (None, ()) if found is None else (found.portfolio, found.reports)
    models = [row.model for row in ledger.rows if row.model is not None]
    return {
        "scores": scores_table(models, inputs.stakes, units),
        "meta_model": meta_model_table(
            inputs.universe, plan.targets, work.vectors.vectors, work.vectors.models, portfolio
        ),
        "bags": bags_table(inputs.round, work.bags, work.draws, reports),
        "ledger": ledger_table(ledger, plan.tournament.decimals),
        "rejects": rejects_table(work.receipts),
    }
