"""The flow of a round: from its files to its published ledger, each stage a line.

    plan ─ ingest (blocks) ─ sums (blocks) ─ bags ─ vectors ─ scores (blocks, pairs) ─ settle ─ publish

Nothing is decided here: what a stage does stands in `tasks`, what a number is in `scoring`. Blocks of ranks stay on the
workers that made them; what comes to the driver are receipts, vectors of n numbers and scores.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect import flow

from flows.artifacts import ShownProgress, Steps, show_round
from flows.calls import Needs
from flows.runtime import Unit, UnitRunner, finish, gather, map_units, run_unit
from flows.session import current_session
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
from tasks.ingest import Block, Receipt, Source, cut_blocks, ingest_block, receipts_of
from tasks.meta_models import (
    BlockSums,
    RoundFacts,
    Vector,
    Weights,
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
from tasks.verify_solved import within_tolerance

MERGED_AT_ONCE = 16
"""Shares a merge: a tree of merges keeps memory bounded however many blocks a round has."""
STAGES = 5
"""What Prefect's page counts: submissions, meta model, bags, scores, published."""


@flow(
    name="resolve",
    flow_run_name="resolve round {round}",
    task_runner=UnitRunner(),  # type: ignore[arg-type]  # Prefect types the runner by its futures, invariantly
    validate_parameters=False,
    persist_result=False,
)
def resolve(data: str, out: str, round: int, tournament: str | None = None, revise: bool = False) -> Resolution:
    """Resolves one round end to end; a round that is published already is left as it is.

    Args:
        data: directory or URL of the tournament.
        out: directory or URL of what is published.
        round: number of the round.
        tournament: a file to use in place of the data's `tournament.toml`.
        revise: publish a new revision where the round is published with other inputs.
    """
    override = None if tournament is None else Path(tournament)
    plan = plan_round(RoundRequest(data, out, round, override, revise), datetime.now(UTC))
    if isinstance(plan, AlreadyPublished):
        return Resolution(plan.manifest)
    shown = ShownProgress(f"round {round} progress", STAGES, f"stages of round {round}")
    resolution = conclude(plan, carry_out(plan, shown))
    shown.step()
    show_round(resolution)
    return resolution


def carry_out(plan: RoundPlan, shown: Steps, published: TrueContribution | None = None) -> Work:
    """Carries out every stage that needs the workers.

    Args:
        plan: the round's.
        shown: where to tell how far it is.
        published: the solution that a verification checks; the run goes on with it where its own agrees.
    """
    options, targets = plan.tournament.scores, plan.targets
    blocks, receipts = _ingest(plan, plan.sources, "submissions")
    shown.step()
    all_receipts = [r for block in receipts for r in block]
    dropout = None if plan.portfolio is None else plan.tournament.true_contribution
    benchmarks, benchmark, benchmark_receipts = _benchmark(plan)
    alike = _alike(plan, blocks, receipts, benchmarks)
    policy = plan.tournament.weights
    weights = weigh(all_receipts, plan.inputs.stakes, plan.inputs.round.seed, options, dropout, policy, alike)
    parts = [weights.of([r.model for r in block if r.digest is not None]) for block in receipts]
    sums = _merged(plan, blocks, parts)
    shown.step()
    bags = map_units(price_bag, range(options.bags), sums, targets)
    facts = RoundFacts(targets, plan.inputs.features, options, weights.others)
    solved = _true_contribution(plan, sums)
    taken = solved if solved is None or published is None else within_tolerance(solved, published)
    bag_results = gather(bags, "bags")
    shown.step()
    vectors = run_unit(vectors_of_round, facts, sums, bags, benchmark, taken)
    public = run_unit(vectors_to_publish, vectors)
    scored = [run_unit(score, block, part, vectors) for block, part in zip(blocks, parts, strict=True)]
    pairs = map_units(score_pairs, range(len(blocks)), blocks, parts) if options.pairwise else []
    columns = gather(scored, "scores")
    columns += merge_pairs(parts, gather(pairs, "pairs")) if pairs else []
    shown.step()
    found = (all_receipts, benchmark_receipts, columns, public.small(), bag_results, weights.draws, taken, solved)
    return Work(*found, netting_families(plan.terms.rules, alike))


def _ingest(
    plan: RoundPlan, sources: Sequence[Source], title: str
) -> tuple[Sequence[Unit[Block]], list[tuple[Receipt, ...]]]:
    """Reads submissions: blocks of ranks stay on the workers, their receipts come here."""
    blocks = finish(map_units(ingest_block, cut_blocks(sources), plan.data, plan.inputs.universe.ids), title)
    return blocks, [unit.small() for unit in map_units(receipts_of, blocks)]


def _merged(plan: RoundPlan, blocks: Sequence[Unit[Block]], parts: Sequence[Weights]) -> Unit[BlockSums]:
    """Adds up the blocks' shares in all meta models, in a tree."""
    pairwise = plan.tournament.scores.pairwise
    shares = [run_unit(sum_block, block, part, pairwise) for block, part in zip(blocks, parts, strict=True)]
    while len(shares) > 1:
        cuts = range(0, len(shares), MERGED_AT_ONCE)
        shares = [run_unit(merge_sums, shares[at : at + MERGED_AT_ONCE]) for at in cuts]
    finish(shares, "meta model")
    return shares[0]


def _true_contribution(plan: RoundPlan, merged: Unit[BlockSums]) -> TrueContribution | None:
    """Solves the portfolio and its dropout bags, where the round asks for True Contribution."""
    gpu = current_session().gpu
    facts = portfolio_facts(plan, device="cuda" if gpu else "cpu")
    if facts is None:
        return None
    needs = Needs(resources={"GPU": 1.0}) if gpu else None
    portfolio = run_unit(optimise, merged, facts, needs=needs)
    solved = map_units(pull_back, chunks(facts.options), merged, portfolio, facts, needs=needs)
    finish(solved, "portfolios")
    return run_unit(merge_chunks, solved, portfolio, facts).small()


def _alike(
    plan: RoundPlan,
    blocks: Sequence[Unit[Block]],
    receipts: Sequence[tuple[Receipt, ...]],
    benchmarks: Unit[Block] | None,
) -> Alike:
    """Finds who is alike and who is near an example, where the weights or the rules ask."""
    steps, asked = plan.tournament.weights, thresholds_of(plan.tournament.weights, plan.terms.rules)
    families = {}
    if asked:
        counted = [counted_of(block, plan.inputs.stakes) for block in receipts]
        edges = gather(map_units(find_edges, range(len(blocks)), blocks, counted, asked[0]), "families")
        models = [r.model for block in receipts for r in block if r.digest is not None]
        families = families_of(models, edges, asked)
    example = {}
    for name in examples_of(steps, plan.inputs.example):
        ranks = plan.inputs.example if name == EXAMPLE else run_unit(benchmark_example, benchmarks, name)
        example[name] = merged(gather(map_units(example_correlations, blocks, ranks), "example"))
    return Alike(plan.inputs.standings, families, example)


def _benchmark(plan: RoundPlan) -> tuple[Unit[Block] | None, Unit[Vector] | None, list[Receipt]]:
    """Makes the benchmark models' meta model, where the round has any."""
    stakes = plan.inputs.benchmark_stakes
    if stakes is None:
        return None, None, []
    block = run_unit(ingest_block, plan.benchmarks, plan.data, plan.inputs.universe.ids)
    model = run_unit(benchmark_meta_model, block, stakes)
    finish([model], "benchmark models")
    return block, model, list(run_unit(receipts_of, block).small())
