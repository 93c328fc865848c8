"""True Contribution: both portfolio layers on the same bags, the units of a whole round, and how cost grows.

    python -m benchmarks.bench_true_contribution --device cpu|cuda

Seconds are the best of a few repeats after a warm-up, so that a shared machine's noise does not hide the trend. Smaller
`--stocks` and `--models` try the benchmark out; the aims are those of the defaults.
"""

import argparse
import math
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from benchmarks.cuda import describe_cuda
from benchmarks.layers import compare_layers
from benchmarks.machine import CORES, describe, on_all_cores, print_table, resident, seconds
from benchmarks.market import BLOCK, OPTIONS, Crowd, make_market
from scoring.portfolio.problem import auto_risk_aversion
from scoring.portfolio.solvers import Solver
from scoring.portfolio.solvers import gradients as solver_gradients
from scoring.true_contribution import true_contribution
from tasks.meta_models import BlockSums
from tasks.true_contribution import (
    Chunk,
    Device,
    PortfolioFacts,
    RoundPortfolio,
    chunks,
    merge_chunks,
    optimise,
    pull_back,
)

MODELS, STOCKS = 10_000, 5_000
SIZES = (0.2, 0.5, 1, 2)  # of the stocks: 1 000, 2 500, 5 000, 10 000
BATCHES = (1, 10, 100)
REPEATS = 3

_held: tuple[BlockSums, Sequence[PortfolioFacts]]


def hold(sums: BlockSums, facts: Sequence[PortfolioFacts]) -> None:
    """Gives a worker what lies on it when its units begin: the sums, and each repeat's round."""
    global _held
    _held = sums, facts


def optimise_held(repeat: int) -> RoundPortfolio:
    """Runs the unit `optimise` in a worker."""
    return optimise(_held[0], _held[1][repeat])


def pull_back_held(bags: range, repeat: int, portfolio: RoundPortfolio) -> tuple[Chunk, int]:
    """Runs the unit `pull_back` in a worker; returns also the largest memory of the process so far, in bytes."""
    return pull_back(bags, _held[0], portfolio, _held[1][repeat]), resident("VmHWM")


class WholeRound:
    """The units of a round's True Contribution as a cluster of this machine runs them: two processes of one thread."""

    def __init__(self, device: Device, models: int, stocks: int) -> None:
        self.crowd = Crowd(models, stocks)
        # a process keeps its last solver, and each repeat has to make its own: another repeat is another market
        self.facts = [make_market(stocks, repeat).facts(device) for repeat in range(1 + REPEATS)]
        self.pool = ProcessPoolExecutor(
            1 if device == "cuda" else CORES,
            multiprocessing.get_context("spawn"),
            initializer=hold,
            initargs=(self.crowd.sums(), self.facts),
        )
        self.peak = 0

    def run(self, repeat: int) -> dict[str, float]:
        """Returns the seconds of each stage."""
        facts, times = self.facts[repeat], [time.perf_counter()]
        self.crowd.sums()
        times.append(time.perf_counter())
        portfolio = self.pool.submit(optimise_held, repeat).result()
        times.append(time.perf_counter())
        work = partial(pull_back_held, repeat=repeat, portfolio=portfolio)
        found = list(self.pool.map(work, chunks(OPTIONS)))
        times.append(time.perf_counter())
        price = merge_chunks([chunk for chunk, _ in found], portfolio, facts).price
        times.append(time.perf_counter())
        on_all_cores(lambda block: true_contribution(block.ranks, price), self.crowd.blocks)
        times.append(time.perf_counter())
        self.peak = max(self.peak, *(memory for _, memory in found))
        names = ("meta models of the bags", "`optimise`", "`pull_back`", "`merge_chunks`", "scores")
        return dict(zip(names, np.diff(times).tolist(), strict=True))


def whole_round(device: Device, models: int, stocks: int) -> None:
    """Prints the seconds of a round's True Contribution, from ranks to scores, and the memory of a solving process."""
    whole = WholeRound(device, models, stocks)
    with whole.pool:
        whole.run(0)  # imports and compiled kernels
        best = min((whole.run(repeat) for repeat in range(1, 1 + REPEATS)), key=lambda took: sum(took.values()))
    building = seconds(make_market(stocks).problem)
    said = {
        "meta models of the bags": "who is in which bag, and the bags' meta models",
        "`optimise`": "`optimise`: the problem, the risk aversion, the portfolio of the meta model",
        "`pull_back`": f"`pull_back`: {len(chunks(OPTIONS))} chunks of bags, making the solver included",
    }
    rows = [[said.get(name, name), f"{took:.3f} s", ""] for name, took in best.items()]
    rows.insert(2, ["of it building the problem", f"{building:.3f} s", ""])
    rows.append(["in total", f"{sum(best.values()):.2f} s", "at most 1.5 s"])
    rows.append(["peak memory of a solving process", f"{whole.peak / 1e9:.2f} GB", "at most 1.5 GB"])
    title = f"True Contribution of {models} models, {OPTIONS.bags} bags, {stocks} stocks, best of {REPEATS}"
    print_table(title, ["", "", "aim"], rows)


def scaling(device: Device, stocks: int) -> None:
    """Prints seconds a bag over the number of stocks and of bags solved together, always of the same bags.

    A bag whose largest staker is dropped takes one step, others six to nine: the first bag alone says nothing about
    ten. So every number is the mean over the same 100 bags, on one thread, and only the number in a batch differs.
    """
    sizes = [round(share * stocks) for share in SIZES]
    took = np.array([seconds_a_bag(device, size) for size in sizes])
    doubled = [
        2 ** (math.log(after / before) / math.log(larger / smaller))
        for (before, after), (smaller, larger) in zip(pairwise(took[:, -1]), pairwise(sizes), strict=True)
    ]
    rows = [
        [f"{size}", *(f"{each:.5f}" for each in row), f"{row[-1] / row[0]:.2f}", "below 1", factor, "at most 2"]
        for size, row, factor in zip(sizes, took, ["", *(f"{factor:.2f}" for factor in doubled)], strict=True)
    ]
    together = f"{BATCHES[-1]} together against {BATCHES[0]}"
    header = ["stocks", *(f"{size} together" for size in BATCHES), together, "aim", "doubling the stocks", "aim"]
    title = f"Seconds a bag, by stocks and by bags solved together: means over {BATCHES[-1]} bags, best of {REPEATS}"
    print_table(title, header, rows)
    falls = "falls at every number of stocks" if (np.diff(took, axis=1) < 0).all() else "does NOT fall everywhere"
    print(
        f"\nThe cost of a bag {falls} with the number of bags solved together; doubling the stocks multiplies it by "
        f"{min(doubled):.2f} to {max(doubled):.2f} at {BATCHES[-1]} bags (aim: at most 2)."
    )


def seconds_a_bag(device: Device, stocks: int) -> list[float]:
    """Returns seconds a bag for each size of a batch; as the units of a round do it, solver kept and all."""
    market, crowd = make_market(stocks), Crowd(BLOCK, stocks)
    problem = market.problem()
    full, alphas = crowd.alphas(BATCHES[-1])
    solver = Solver(problem, auto_risk_aversion(full, problem), device=device)
    took = []
    for size in BATCHES:
        solver_gradients(solver, alphas[:size], market.returns)  # makes the solver, and warms up
        work = partial(in_batches, solver, alphas, market.returns, size)
        took.append(seconds(work, REPEATS) / len(alphas))
    return took


def in_batches(solver: Solver, alphas: np.ndarray, returns: np.ndarray, size: int) -> None:
    """Pulls all bags back, so many at a time."""
    for start in range(0, len(alphas), size):
        solver_gradients(solver, alphas[start : start + size], returns)


def on_cuda(stocks: int) -> None:
    """Prints what a CUDA device does with one round's bags, in the chunks of a round."""
    market, crowd = make_market(stocks), Crowd(BLOCK, stocks)
    problem = market.problem()
    full, alphas = crowd.alphas(OPTIONS.bags)
    solver = Solver(problem, auto_risk_aversion(full, problem), device="cuda")
    describe_cuda(partial(in_batches, solver, alphas, market.returns, OPTIONS.chunk), OPTIONS.bags, stocks)


def main(device: Device = "cpu", models: int = MODELS, stocks: int = STOCKS) -> None:
    """Prints the tables of True Contribution."""
    torch.set_num_threads(1)
    compare_layers(device, models // 5, stocks)
    whole_round(device, models, stocks)
    scaling(device, stocks)
    if device == "cuda":
        on_cuda(stocks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--stocks", type=int, default=STOCKS)
    chosen = parser.parse_args()
    print(f"Measured on {describe()}, {chosen.device}.")
    main(chosen.device, chosen.models, chosen.stocks)
