"""A scene's scores under a mechanism's weights: all that does not depend on the rules.

    scene × weights, options ─ scored ─► Scored (scores, weights, meta model, portfolio), kept with the scene

Mechanisms that differ in their rules alone share it, so that a rule more costs no more than the settling: a third. The
units are those of the weekly run, in one process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from scoring.correlation import corr, corr_reference
from scoring.errors import NothingToPayError, OperatorError
from scoring.families import Families
from scoring.kernels.passes import dot
from scoring.pairwise import PANEL_MODELS
from scoring.ranks import Ranks, rank_vector, select
from scoring.rounds import ScoreOptions, Targets
from scoring.true_contribution import TrueContribution, returns_of_universe
from scoring.weight_policies import EXAMPLE, Standings, thresholds
from tasks.alike import (
    Alike,
    benchmark_example,
    counted_of,
    example_correlations,
    examples_of,
    families_of,
    find_edges,
    merged,
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
from tasks.scores import BlockScores, merge_pairs, score, score_pairs
from tasks.true_contribution import chunks, merge_chunks, optimise, portfolio_facts, pull_back


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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is computed besides the scores that cost next to nothing.

    Attributes:
        pairs: the scores that compare all pairs of submissions, where the mechanism has them.
        bags: all bags of bagged MMC; else one, so that there is a price.
        features: FNC.
        portfolio: the portfolio of the meta model, where the mechanism has one.
        gradients: its True Contribution.
    """

    pairs: bool = True
    bags: bool = True
    features: bool = True
    portfolio: bool = True
    gradients: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scene gives under a mechanism's weights.

    Attributes:
        columns: scores, doubles.
        weights: what each model counts in the meta model, by name; they sum to 1.
        meta_model: (stock,).
        meta_model_corr: its CORR; NaN where there is none.
        portfolio_return: of the portfolio that the meta model leads to; NaN where none is asked for.
    """

    columns: tuple[BlockScores, ...]
    weights: Mapping[str, float]
    meta_model: Vector
    meta_model_corr: float
    portfolio_return: float


def scored(case: RoundCase, scene: Scene, mechanism: Mechanism, known: Known, wanted: Wanted) -> Scored | None:
    """Returns the scores of a scene; None where nothing is at risk. What was found is kept with the scene.

    Args:
        case: the round.
        scene: who takes part.
        mechanism: by whose weights.
        known: what was known of the round beforehand.
        wanted: what is computed.

    Raises:
        OperatorError: a policy lacks what it needs, or leaves nobody; names the round and the mechanism.
    """
    plan = plan_under(case, scene, mechanism)
    tournament = mechanism.tournament
    key = (tournament.weights, tournament.scores, plan.portfolio, tournament.true_contribution, wanted)
    if key not in scene.memory:
        try:
            scene.memory[key] = _scored(case, scene, plan, known, wanted)
        except NothingToPayError:
            scene.memory[key] = None
        except OperatorError as error:
            raise OperatorError(f"round {case.number}, {mechanism.name}: {error}") from error
    found: Scored | None = scene.memory[key]
    return found


def families_in(scene: Scene, asked: Sequence[Decimal]) -> Mapping[Decimal, Families]:
    """Returns the families of a scene at some thresholds, ascending; kept with the scene."""
    key = ("families", *asked)
    if asked and key not in scene.memory:
        blocks = _blocks(scene)
        counted = [counted_of(block.receipts, scene.stakes) for block in blocks]
        edges = [find_edges(start, blocks, counted, asked[0]) for start in range(len(blocks))]
        scene.memory[key] = families_of(scene.ranks.models, edges, asked)
    found: Mapping[Decimal, Families] = scene.memory[key] if asked else {}
    return found


def plan_under(case: RoundCase, scene: Scene, mechanism: Mechanism) -> RoundPlan:
    """Returns the plan of the round as the mechanism would have made it."""
    inputs = replace(case.plan.inputs, stakes=scene.stakes, round=replace(case.plan.inputs.round, seed=scene.seed))
    return replace(case.plan, tournament=mechanism.tournament, inputs=inputs)


def corr_of(model: Vector, targets: Targets) -> float:
    """Returns the CORR of a meta model; NaN where there is none."""
    fixed = corr_reference(targets)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan if fixed is None else float(corr(rank_vector(model[targets.positions]), fixed)[0])


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


def _scored(case: RoundCase, scene: Scene, plan: RoundPlan, known: Known, wanted: Wanted) -> Scored:
    tournament, targets, blocks = plan.tournament, case.plan.targets, _blocks(scene)
    options = _options(tournament.scores, wanted)
    dropout = tournament.true_contribution if wanted.gradients and plan.portfolio is not None else None
    alike = _alike(case, scene, plan, known)
    weights = weigh(scene.receipts, scene.stakes, scene.seed, options, dropout, tournament.weights, alike)
    parts = [weights.of(block.ranks.models) for block in blocks]
    sums = merge_sums([sum_block(b, part, options.pairwise) for b, part in zip(blocks, parts, strict=True)])
    earned, solved = solved_portfolio(plan, sums, bags=dropout is not None) if wanted.portfolio else (np.nan, None)
    bags = [price_bag(bag, sums, targets) for bag in range(options.bags)]
    features = case.plan.inputs.features if wanted.features else None
    facts = RoundFacts(targets, features, options, weights.others)
    vectors = vectors_of_round(facts, sums, bags, case.benchmark, solved)
    columns = [score(block, part, vectors) for block, part in zip(blocks, parts, strict=True)]
    if options.pairwise:
        columns += merge_pairs(parts, [score_pairs(start, blocks, parts) for start in range(len(blocks))])
    meta_model = vectors[1].stake_weighted
    return Scored(tuple(columns), _shares(weights), meta_model, corr_of(meta_model, targets), earned)


def _options(options: ScoreOptions, wanted: Wanted) -> ScoreOptions:
    """Returns options without the pairs and the bags that nobody wants: a third of the time of an attack."""
    return replace(options, pairwise=options.pairwise and wanted.pairs, bags=options.bags if wanted.bags else 1)


def _blocks(scene: Scene) -> list[Block]:
    """Returns the scene's valid submissions in blocks, each with its receipts."""
    models = len(scene.ranks.models)
    valid = tuple(receipt for receipt in scene.receipts if receipt.digest is not None)
    cuts = [range(at, min(at + PANEL_MODELS, models)) for at in range(0, models, PANEL_MODELS)]
    return [
        Block(select(scene.ranks, rows) if len(cuts) > 1 else scene.ranks, valid[rows.start : rows.stop])
        for rows in cuts
    ]


def _alike(case: RoundCase, scene: Scene, plan: RoundPlan, known: Known) -> Alike:
    """Returns what the policies look at besides stakes, as the weekly run finds it."""
    steps, inputs = plan.tournament.weights, case.plan.inputs
    example = {}
    for name in examples_of(steps, inputs.example):
        ranks = inputs.example if name == EXAMPLE else _benchmark_example(case, name)
        if ranks is not None:
            example[name] = merged(example_correlations(block, ranks) for block in _blocks(scene))
    return Alike(inputs.standings or known.standings, families_in(scene, sorted(thresholds(steps))), example)


def _benchmark_example(case: RoundCase, name: str) -> Ranks:
    if case.benchmarks is None:
        raise OperatorError(f"weights compare with {name!r}, but there are no benchmark models")
    return benchmark_example(case.benchmarks, name)


def _shares(weights: Weights) -> dict[str, float]:
    return dict(zip(weights.models, weights.sums[0].tolist(), strict=True))
