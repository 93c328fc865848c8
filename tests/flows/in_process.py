"""The stages of a round one after the other in this process: no Prefect, no Dask. What the flow must be equal to."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from scoring.errors import StakeweightError
from scoring.true_contribution import TrueContribution
from scoring.weight_policies import EXAMPLE
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
from tasks.conclude import Resolution, Work, conclude
from tasks.ingest import Block, cut_blocks, ingest_block
from tasks.meta_models import (
    BlockSums,
    RoundFacts,
    benchmark_meta_model,
    merge_sums,
    price_bag,
    sum_block,
    vectors_of_round,
    weigh,
)
from tasks.plan import AlreadyPublished, RoundPlan, RoundRequest, plan_round
from tasks.scores import merge_pairs, score, score_pairs, vectors_to_publish
from tasks.true_contribution import chunks, merge_chunks, optimise, portfolio_facts, pull_back


def resolve_in_process(data: Path, out: Path, number: int) -> Resolution:
    """Resolves a round of a tournament that has benchmark models."""
    plan = plan_round(RoundRequest(str(data), str(out), number), datetime.now(UTC))
    if isinstance(plan, AlreadyPublished):
        raise StakeweightError("published before")
    return conclude(plan, work_in_process(plan))


def work_in_process(plan: RoundPlan) -> Work:
    """Carries out every stage that needs the workers."""
    ids, options = plan.inputs.universe.ids, plan.tournament.scores
    blocks = [ingest_block(sources, plan.data, ids) for sources in cut_blocks(plan.sources)]
    receipts = [receipt for block in blocks for receipt in block.receipts]
    dropout = None if plan.portfolio is None else plan.tournament.true_contribution
    benchmarks = ingest_block(plan.benchmarks, plan.data, ids)
    alike, policy = _alike(plan, blocks, benchmarks), plan.tournament.weights
    weights = weigh(receipts, plan.inputs.stakes, plan.inputs.round.seed, options, dropout, policy, alike)
    parts = [weights.of(block.ranks.models) for block in blocks]
    sums = merge_sums([sum_block(block, part, True) for block, part in zip(blocks, parts, strict=True)])
    bags = [price_bag(bag, sums, plan.targets) for bag in range(options.bags)]
    benchmark = benchmark_meta_model(benchmarks, plan.inputs.benchmark_stakes)
    facts = RoundFacts(plan.targets, plan.inputs.features, options, weights.others)
    found = _true_contribution(plan, sums)
    vectors = vectors_of_round(facts, sums, bags, benchmark, found)
    scores = [score(block, part, vectors) for block, part in zip(blocks, parts, strict=True)]
    scores += merge_pairs(parts, [score_pairs(start, blocks, parts) for start in range(len(blocks))])
    published = vectors_to_publish(vectors)
    families = netting_families(plan.terms.rules, alike)
    return Work(receipts, benchmarks.receipts, scores, published, bags, weights.draws, found, families=families)


def _alike(plan: RoundPlan, blocks: list[Block], benchmarks: Block) -> Alike:
    steps, own = plan.tournament.weights, plan.inputs.example
    asked = thresholds_of(steps, plan.terms.rules)
    counted = [counted_of(block.receipts, plan.inputs.stakes) for block in blocks]
    edges = [find_edges(start, blocks, counted, asked[0]) for start in range(len(blocks))] if asked else []
    families = families_of([model for block in blocks for model in block.ranks.models], edges, asked)
    ranks = {name: own if name == EXAMPLE else benchmark_example(benchmarks, name) for name in examples_of(steps, own)}
    example = {name: merged(example_correlations(block, each) for block in blocks) for name, each in ranks.items()}
    return Alike(plan.inputs.standings, families, example)


def _true_contribution(plan: RoundPlan, sums: BlockSums) -> TrueContribution | None:
    facts = portfolio_facts(plan)
    if facts is None:
        return None
    portfolio = optimise(sums, facts)
    return merge_chunks([pull_back(bags, sums, portfolio, facts) for bags in chunks(facts.options)], portfolio, facts)


if __name__ == "__main__":
    resolve_in_process(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
