"""A case under a mechanism: what the weekly run would have paid, by its own units, in one process.

Nothing is computed another way than where money is paid: the same units weigh, add up, score and settle, and the ledger
is audited. So the baseline reproduces the published ledgers to the atom (`reproduces` says whether), and a variant is
paid to the atom what it would have paid. A small round takes 20 ms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.correlation import corr, corr_reference
from scoring.errors import NothingToPayError, OperatorError
from scoring.kernels.passes import dot
from scoring.ledger import AT_RISK, Ledger, LedgerRow, Terms
from scoring.pairwise import PANEL_MODELS
from scoring.ranks import Ranks, rank_vector, select
from scoring.rounds import Features, ScoreOptions, Targets
from scoring.rules import Rules
from scoring.true_contribution import TrueContribution, returns_of_universe
from scoring.weight_policies import EXAMPLE, Standings
from tasks.alike import (
    Alike,
    benchmark_example,
    counted_of,
    example_correlations,
    examples_of,
    families_of,
    find_edges,
    merged,
    netting_families,
    thresholds_of,
)
from tasks.ingest import Block
from tasks.lab.case import RoundCase, Scene
from tasks.lab.mechanism import Mechanism
from tasks.meta_models import (
    BlockSums,
    RoundFacts,
    Vector,
    Weights,
    merge_sums,
    price_bag,
    sum_block,
    vectors_of_round,
    weigh,
)
from tasks.plan import RoundPlan
from tasks.publish import latest_manifest
from tasks.scores import BlockScores, Units, merge_pairs, publish_scores, score, score_pairs, with_true_contribution
from tasks.settle import ledger_table, settle
from tasks.store import open_store
from tasks.tournament import pays_true_contribution
from tasks.true_contribution import chunks, merge_chunks, optimise, portfolio_facts, pull_back

_PAIRWISE = frozenset({"cwmm_max", "cwmm_mean"})


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a round before it is evaluated, from the baseline of this and of earlier rounds.

    Attributes:
        standings: reputations when the round closed, for the policies that look at them where the round has none of
            its own; None where they are not known yet.
        rates: past payout less burn per stake of each model, in units of 1e-12.
        at_risk_atoms: the total at risk that a threshold `at_risk` stands for, in atoms; 0 where it is not known yet.
    """

    standings: Standings | None = None
    rates: Mapping[str, int] = field(default_factory=dict)
    at_risk_atoms: int = 0


UNKNOWN = Known()

Extent = Literal["measured", "whole", "money"]
"""How much is computed: `whole` is every score and the portfolio, `measured` True Contribution besides, also where
nobody is paid on it, `money` only what the ledger needs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round gave under a mechanism.

    Attributes:
        ledger: audited.
        units: published scores by model.
        weights: what each model counts in the meta model, by name; they sum to 1.
        meta_model: (stock,).
        meta_model_corr: its CORR; NaN where there is none.
        portfolio_return: of the portfolio that the meta model leads to; NaN where none is asked for.
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
    plan = plan_under(case, scene, mechanism)
    tournament, options = mechanism.tournament, mechanism.tournament.scores
    rules = mechanism.rules_at(case.number, known.at_risk_atoms)
    pays = pays_true_contribution(rules, scene.stakes.rows)
    solves = plan.portfolio is not None and (pays or extent == "measured")
    if extent == "money":
        options = _options_for_money(options, rules)
    dropout = tournament.true_contribution if solves else None
    blocks = _blocks(scene)
    alike = _alike(case, scene, blocks, mechanism, known)
    try:
        weights = weigh(scene.receipts, scene.stakes, scene.seed, options, dropout, tournament.weights, alike)
    except NothingToPayError:
        return None
    except OperatorError as error:
        raise OperatorError(f"round {case.number}, {mechanism.name}: {error}") from error
    parts = [weights.of(block.ranks.models) for block in blocks]
    sums = merge_sums([sum_block(b, part, options.pairwise) for b, part in zip(blocks, parts, strict=True)])
    earned, solved = np.nan, None
    if solves or extent != "money":
        earned, solved = solved_portfolio(plan, sums, bags=solves)
    bags = [price_bag(bag, sums, case.plan.targets) for bag in range(options.bags)]
    facts = RoundFacts(case.plan.targets, _features(case, rules, extent), options, weights.others)
    vectors = vectors_of_round(facts, sums, bags, case.benchmark, solved)
    scores = [score(block, part, vectors) for block, part in zip(blocks, parts, strict=True)]
    if options.pairwise:
        scores += merge_pairs(parts, [score_pairs(start, blocks, parts) for start in range(len(blocks))])
    if extent == "money":
        scores = [_paid_on(block, rules) for block in scores]
    units, _ = with_true_contribution(publish_scores(scores), tournament.true_contribution)
    terms = Terms(rules, tournament.decimals, 1, tournament.chained)
    return Outcome(
        ledger=settle(scene.stakes, scene.receipts, units, terms, netting_families(rules, alike)),
        units=units,
        weights=_shares(weights),
        meta_model=vectors[1].stake_weighted,
        meta_model_corr=corr_of(vectors[1].stake_weighted, case.plan.targets),
        portfolio_return=earned,
    )


def corr_of(model: Vector, targets: Targets) -> float:
    """Returns the CORR of a meta model; NaN where there is none."""
    fixed = corr_reference(targets)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan if fixed is None else float(corr(rank_vector(model[targets.positions]), fixed)[0])


def at_risk_of(ledger: Ledger) -> int:
    """Returns the total at risk, in atoms."""
    return sum(row.at_risk for row in models_of(ledger) if row.status in AT_RISK)


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


def plan_under(case: RoundCase, scene: Scene, mechanism: Mechanism) -> RoundPlan:
    inputs = replace(case.plan.inputs, stakes=scene.stakes, round=replace(case.plan.inputs.round, seed=scene.seed))
    return replace(case.plan, tournament=mechanism.tournament, inputs=inputs)


def _options_for_money(options: ScoreOptions, rules: Rules) -> ScoreOptions:
    """Returns options without the pairs and the bags that no money depends on: a third of the time of an attack."""
    shown = set(rules.shown_scores)
    return replace(
        options,
        pairwise=options.pairwise and not _PAIRWISE.isdisjoint(shown),
        bags=options.bags if "mmc_bagged" in shown else 1,
    )


def _features(case: RoundCase, rules: Rules, extent: Extent) -> Features | None:
    """Returns the features, which only FNC needs."""
    return case.plan.inputs.features if extent != "money" or "fnc" in rules.shown_scores else None


def _paid_on(block: BlockScores, rules: Rules) -> BlockScores:
    """Returns the scores that money depends on; `tc` follows from `tc_raw`."""
    keys = {*rules.shown_scores, "tc_raw"}
    return BlockScores(block.models, {key: column for key, column in block.columns.items() if key in keys})


def _blocks(scene: Scene) -> list[Block]:
    """Returns the scene's valid submissions in blocks, each with its receipts."""
    models = len(scene.ranks.models)
    valid = tuple(receipt for receipt in scene.receipts if receipt.digest is not None)
    cuts = [range(at, min(at + PANEL_MODELS, models)) for at in range(0, models, PANEL_MODELS)]
    return [
        Block(select(scene.ranks, rows) if len(cuts) > 1 else scene.ranks, valid[rows.start : rows.stop])
        for rows in cuts
    ]


def _alike(case: RoundCase, scene: Scene, blocks: Sequence[Block], mechanism: Mechanism, known: Known) -> Alike:
    """Returns what the policies look at besides stakes, as the weekly run finds it."""
    steps, inputs = mechanism.tournament.weights, case.plan.inputs
    asked = thresholds_of(steps, mechanism.tournament.rulebook.at(case.number))
    families = {}
    if asked:
        counted = [counted_of(block.receipts, scene.stakes) for block in blocks]
        edges = [find_edges(start, blocks, counted, asked[0]) for start in range(len(blocks))]
        families = families_of(scene.ranks.models, edges, asked)
    example = {}
    for name in examples_of(steps, inputs.example):
        ranks = inputs.example if name == EXAMPLE else _benchmark_example(case, name)
        if ranks is not None:
            example[name] = merged(example_correlations(block, ranks) for block in blocks)
    return Alike(inputs.standings or known.standings, families, example)


def _benchmark_example(case: RoundCase, name: str) -> Ranks:
    if case.benchmarks is None:
        raise OperatorError(f"round {case.number}: weights compare with {name!r}, but there are no benchmark models")
    return benchmark_example(case.benchmarks, name)


def solved_portfolio(plan: RoundPlan, sums: BlockSums, *, bags: bool) -> tuple[float, TrueContribution | None]:
    """Returns the portfolio's return, and True Contribution where it is asked for."""
    facts = portfolio_facts(plan)
    if facts is None or facts.targets.realised is None:
        return np.nan, None
    portfolio = optimise(sums, facts)
    returns = returns_of_universe(facts.targets, portfolio.weights.size)
    earned = float(dot(portfolio.weights, returns))
    if not bags:
        return earned, None
    found = [pull_back(numbers, sums, portfolio, facts) for numbers in chunks(facts.options)]
    return earned, merge_chunks(found, portfolio, facts)


def _shares(weights: Weights) -> dict[str, float]:
    return dict(zip(weights.models, weights.sums[0].tolist(), strict=True))
