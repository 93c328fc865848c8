"""A case under a mechanism: what the weekly run would have paid, by its own units, in one process.

Nothing is computed another way than where money is paid: the same units weigh, add up, score and settle, and the ledger
is audited. So the baseline reproduces the published ledgers to the atom (`reproduces` says whether), and a variant is
paid to the atom what it would have paid. A small round takes 20 ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.families import Families
from scoring.ledger import Ledger, LedgerRow, Terms
from scoring.rules import Rules
from tasks.lab.case import RoundCase, Scene
from tasks.lab.mechanism import Mechanism
from tasks.lab.score_scene import Known, Wanted, families_in, scored
from tasks.meta_models import Vector
from tasks.publish import latest_manifest
from tasks.scores import BlockScores, Units, publish_scores, with_true_contribution
from tasks.settle import ledger_table, settle
from tasks.store import open_store
from tasks.tournament import pays_true_contribution

UNKNOWN = Known()

Extent = Literal["measured", "whole", "money"]
"""How much is computed: `whole` is every score and the portfolio, `measured` True Contribution besides, also where
nobody is paid on it, `money` only what the ledger needs."""

_PAIRWISE = frozenset({"cwmm_max", "cwmm_mean"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round gave under a mechanism.

    Attributes:
        ledger: audited.
        units: published scores by model.
        weights, meta_model, meta_model_corr, portfolio_return: see `score_scene.Scored`.
    """

    ledger: Ledger
    units: Mapping[str, Units]
    weights: Mapping[str, float]
    meta_model: Vector
    meta_model_corr: float
    portfolio_return: float


def evaluate(
    case: RoundCase, scene: Scene, mechanism: Mechanism, known: Known = UNKNOWN, extent: Extent = "whole"
) -> Outcome | None:
    """Returns what a round gives under a mechanism; None where nothing is at risk.

    Args:
        case: the round.
        scene: who takes part.
        mechanism: what it is paid by.
        known: what was known of the round beforehand.
        extent: how much is computed; the ledger is the same.

    Raises:
        OperatorError: models chose multipliers that are not on offer, or a policy lacks what it needs.
        AuditError: the ledger is wrong, which is a bug.
    """
    if case.ranks.models and not scene.ranks.models:
        return None  # a play has left nobody; where nobody ever was, `weigh` says why
    rules = mechanism.rules_at(case.number, known.at_risk_atoms)
    found = scored(case, scene, mechanism, known, _wanted(rules, scene, extent))
    if found is None:
        return None
    columns = found.columns if extent != "money" else [_paid_on(block, rules) for block in found.columns]
    tournament = mechanism.tournament
    units, _ = with_true_contribution(publish_scores(columns), tournament.true_contribution)
    terms = Terms(rules, tournament.decimals, 1, tournament.chained)
    return Outcome(
        ledger=settle(scene.stakes, scene.receipts, units, terms, _netting(scene, rules)),
        units=units,
        weights=found.weights,
        meta_model=found.meta_model,
        meta_model_corr=found.meta_model_corr,
        portfolio_return=found.portfolio_return,
    )


def models_of(ledger: Ledger) -> list[LedgerRow]:
    """Returns the models' rows."""
    return [row for row in ledger.rows if row.entry == "model"]


def reproduces(case: RoundCase, outcome: Outcome) -> bool | None:
    """Says whether a round's published ledger is the same, column by column to the atom; None where none is published.

    The revision, and with it nothing else, may differ.
    """
    if case.published is None:
        return None
    store = open_store(case.published)
    manifest = latest_manifest(store, case.number)
    if manifest is None:
        return None
    data = store.read(manifest.outputs["ledger"]["path"])
    published = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    own = ledger_table(outcome.ledger, case.plan.tournament.decimals)
    return bool(published.drop_columns("revision").equals(own.drop_columns("revision")))


def _wanted(rules: Rules, scene: Scene, extent: Extent) -> Wanted:
    pays = pays_true_contribution(rules, scene.stakes.rows)
    if extent != "money":
        return Wanted(gradients=pays or extent == "measured")
    shown = set(rules.shown_scores)
    return Wanted(not _PAIRWISE.isdisjoint(shown), "mmc_bagged" in shown, "fnc" in shown, pays, pays)


def _paid_on(block: BlockScores, rules: Rules) -> BlockScores:
    """Returns the scores that money depends on; `tc` follows from `tc_raw`."""
    keys = {*rules.shown_scores, "tc_raw"}
    return BlockScores(block.models, {key: column for key, column in block.columns.items() if key in keys})


def _netting(scene: Scene, rules: Rules) -> Families | None:
    threshold = rules.net_opposites
    return None if threshold is None else families_in(scene, [threshold])[threshold]
