"""Scoring against numerai-tools: 10 000 models of 6 000 stocks on two cores, numerai-tools on a slice and scaled.

Both start from the same matrix of doubles. Ours makes the meta model too; numerai-tools is handed it.
"""

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numerai_tools import scoring as tools

from benchmarks.machine import on_all_cores, print_table, resident, seconds
from scoring.bags import bag_weights
from scoring.contribution import bag_price, contribution, mean_price, mmc, mmc_bagged
from scoring.correlation import corr, corr_reference, reference
from scoring.meta_model import from_sums, partial_sums
from scoring.ranks import Ranks, rank
from scoring.rounds import ScoreOptions, Targets
from scoring.synthetic import SyntheticSpec, benchmark_stakes, benchmarks, make_market, make_stakes, predictions
from scoring.weights import stake_weights

MODELS, STOCKS, SLICE, BLOCK = 10_000, 6_000, 500, 512
SPEC = SyntheticSpec(rounds=1, models=MODELS, stocks=STOCKS, seed=3)
ROUND = 1

Block = tuple[slice, np.ndarray]


def make_blocks() -> list[Block]:
    """Returns all predictions, cut into blocks of models."""
    cuts = [slice(at, min(at + BLOCK, MODELS)) for at in range(0, MODELS, BLOCK)]
    return [(cut, predictions(SPEC, ROUND, cut)) for cut in cuts]


def names(cut: slice) -> list[str]:
    return [f"m{model:05d}" for model in range(cut.start, cut.stop)]


def rank_block(block: Block) -> Ranks:
    cut, values = block
    return rank(names(cut), values)


class Round:
    """The targets, stakes and benchmark meta model of the synthetic round."""

    def __init__(self) -> None:
        self.targets: Targets = make_market(SPEC, ROUND).targets
        self.atoms = [stake.atoms for stake in make_stakes(SPEC, ROUND).rows]
        benchmark_ranks = rank(list("abcd"), benchmarks(SPEC, ROUND))
        shares = stake_weights([stake.atoms for stake in benchmark_stakes().rows])
        self.benchmark = from_sums(partial_sums(benchmark_ranks, shares[None, :])[0])

    def meta_model(self, blocks: Sequence[Ranks], weights: np.ndarray) -> np.ndarray:
        """Returns the meta models of all rows of weights."""
        cuts = np.cumsum([0, *(len(block.models) for block in blocks)])
        places = [slice(a, b) for a, b in pairwise(cuts)]
        shares = on_all_cores(lambda part: partial_sums(part[0], weights[:, part[1]]), zip(blocks, places, strict=True))
        return np.stack([from_sums(row) for row in sum(shares[1:], shares[0])])


def four_scores(facts: Round, ranks: list[Ranks]) -> list[list[np.ndarray]]:
    """CORR, CWMM, MMC and BMC of all models, from their ranks."""
    meta_model = facts.meta_model(ranks, stake_weights(facts.atoms)[None, :])[0]
    target, model = corr_reference(facts.targets), reference(meta_model)
    ours = contribution(meta_model, facts.targets.target, target_buckets=True)
    theirs = contribution(facts.benchmark, facts.targets.target, target_buckets=True)
    return on_all_cores(lambda r: [corr(r, target), corr(r, model), mmc(r, ours.price), mmc(r, theirs.price)], ranks)


def bagged(facts: Round, ranks: list[Ranks]) -> list[np.ndarray]:
    """Bagged MMC of all models over 20 bags, from ranks."""
    options = ScoreOptions()
    weights = bag_weights(facts.atoms, [None] * MODELS, seed=1, options=options)
    models = facts.meta_model(ranks, weights)
    prices = on_all_cores(lambda model: bag_price(model, facts.targets.target), models)
    price = mean_price(prices)
    return on_all_cores(lambda block: mmc_bagged(block, price), ranks)


def four_scores_by_tools(frame: pd.DataFrame, meta_model: pd.Series, benchmark: pd.Series, target: pd.Series) -> None:
    """The same four scores by numerai-tools."""
    tools.numerai_corr(frame, target)
    tools.correlation_contribution(frame, meta_model, target)
    tools.correlation_contribution(frame, benchmark, target)
    powered = tools.tie_kept_rank__gaussianize__pow_1_5(frame)
    powered.apply(lambda column: tools.pearson_correlation(meta_model, column))


def one_bag_by_tools(frame: pd.DataFrame, gaussian: pd.DataFrame, stakes: pd.Series, target: pd.Series) -> None:
    """One bag of MMC2 by numerai-tools' functions: meta model, uniform ranks, neutralisation, covariance."""
    bag = tools.stake_weight(gaussian, stakes)
    uniform = (tools.tie_broken_rank(frame)).sub(0.5)
    neutral = tools.neutralize(uniform, tools.tie_broken_rank(bag.to_frame()))
    neutral.apply(lambda column: np.cov(column, target)[0, 1] / 0.0841)


def peak_bytes_a_cell() -> float:
    """Returns the peak memory of scoring, measured in a process of its own, beyond the interpreter and its imports."""
    command = [sys.executable, "-m", "benchmarks.bench_scoring", "memory"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory() -> float:
    """Scores the round from predictions that come block by block, as ingest gives them."""
    facts = Round()
    cuts = [slice(at, min(at + BLOCK, MODELS)) for at in range(0, MODELS, BLOCK)]
    rank(["warm"], predictions(SPEC, ROUND, cuts[0])[:1])
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak that imports and compilation left
    ranks = [rank(names(cut), predictions(SPEC, ROUND, cut)) for cut in cuts]
    four_scores(facts, ranks)
    bagged(facts, ranks)
    return (resident("VmHWM") - before) / (MODELS * STOCKS)


def main() -> None:
    """Prints the table of scoring."""
    facts, blocks = Round(), make_blocks()
    ranks = on_all_cores(rank_block, blocks)
    ours = seconds(lambda: four_scores(facts, on_all_cores(rank_block, blocks)))
    ours_bagged = seconds(lambda: bagged(facts, ranks))
    index = [f"n{stock:05d}" for stock in range(STOCKS)]
    frame = pd.DataFrame(blocks[0][1][:SLICE].T, index=index, columns=names(slice(0, SLICE)))
    target = pd.Series(facts.targets.target, index=index, name="target")
    meta_model = pd.Series(facts.meta_model(ranks, stake_weights(facts.atoms)[None, :])[0], index=index, name="m")
    benchmark = pd.Series(facts.benchmark, index=index, name="b")
    scale = MODELS / SLICE
    theirs = seconds(lambda: four_scores_by_tools(frame, meta_model, benchmark, target), times=1) * scale
    gaussian = tools.gaussian(tools.tie_kept_rank(frame))
    stakes = pd.Series(1.0 + np.arange(SLICE), index=frame.columns)
    theirs_bagged = 20 * seconds(lambda: one_bag_by_tools(frame, gaussian, stakes, target), times=1) * scale
    rows = [
        ["CORR + MMC + BMC + CWMM", f"{ours:.2f} s", f"{theirs:.0f} s", f"{theirs / ours:.0f}", "150"],
        [
            "bagged MMC, 20 bags",
            f"{ours_bagged:.2f} s",
            f"{theirs_bagged:.0f} s",
            f"{theirs_bagged / ours_bagged:.0f}",
            "300",
        ],
    ]
    header = ["10 000 models × 6 000 stocks", "stakeweight", f"numerai-tools ({SLICE} models, scaled)", "ratio", "aim"]
    print_table("Scoring", header, rows)
    print(f"\npeak memory of scoring: {peak_bytes_a_cell():.2f} bytes a cell (aim: at most 4)")


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        print(measure_memory())
    else:
        main()
