"""True Contribution: seconds a bag of both portfolio layers on the same bags, and the whole of a round.

    python -m benchmarks.bench_true_contribution --device cpu|cuda

The error of a gradient is measured without any solver's help: the problem is solved again a small step to both sides
along a submission, and the change of the return is compared with the gradient's promise.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from cvxpylayers.torch import CvxpyLayer

from benchmarks.bench_scoring import resident
from benchmarks.machine import CORES, describe, on_all_cores, print_table, seconds
from scoring.bags import dropout_kept
from scoring.meta_model import from_sums, kept_sums, partial_sums
from scoring.portfolio.default_problem import build
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import Portfolio
from scoring.portfolio.problem import PortfolioProblem, PortfolioTerms, auto_risk_aversion, portfolio_problem
from scoring.ranks import Ranks, gauss_table, rank, values
from scoring.rounds import TrueContributionOptions, Universe
from scoring.true_contribution import bag_alphas, true_contribution
from scoring.weights import stake_weights

MODELS, STOCKS, FACTORS, SECTORS, COUNTRIES = 10_000, 5_000, 70, 40, 21  # 40 + 21 − 1 = 60 independent groups
BLOCK = 512
OPTIONS = TrueContributionOptions()
SLOW_BAGS = 2
SIZES = (1_000, 2_500, 5_000, 10_000)
STEP = 1e-6


def make_problem(stocks: int) -> PortfolioProblem:
    """Returns a market of heavy factors, with bounds on all of them."""
    rng = np.random.default_rng(stocks)
    spread = rng.uniform(0.005, 0.05, FACTORS)
    loadings = rng.standard_normal((FACTORS, 5))
    covariance = (loadings @ loadings.T / 10 + np.eye(FACTORS)) * np.outer(spread, spread)
    universe = Universe(
        ids=tuple(f"n{stock:06d}" for stock in range(stocks)),
        country=tuple(f"c{label}" for label in rng.integers(0, COUNTRIES, stocks)),
        sector=tuple(f"s{label}" for label in rng.integers(0, SECTORS, stocks)),
        factor_names=tuple(f"f{factor}" for factor in range(FACTORS)),
        exposures=rng.standard_normal((stocks, FACTORS)),
        specific_risk=rng.uniform(0.05, 0.2, stocks),
    )
    return portfolio_problem(universe, covariance, PortfolioTerms())


class Round:
    """Submissions in 20 families, heavy-tailed stakes on half of them, and the dropout bags of their meta model."""

    def __init__(self, models: int, stocks: int) -> None:
        rng = np.random.default_rng(7)
        families = rng.standard_normal((20, stocks))
        cuts = [slice(at, min(at + BLOCK, models)) for at in range(0, models, BLOCK)]
        self.blocks: list[Ranks] = []
        for cut in cuts:
            size = cut.stop - cut.start
            views = families[rng.integers(0, 20, size)] + rng.standard_normal((size, stocks))
            self.blocks.append(rank([f"m{model:05d}" for model in range(cut.start, cut.stop)], views))
        self.atoms = [
            int(1e18 * stake) for stake in np.exp(2.5 * rng.standard_normal(models)) * (rng.random(models) < 0.5)
        ]
        self.places = [slice(a, b) for a, b in pairwise(np.cumsum([0, *(len(block.models) for block in self.blocks)]))]
        self.returns = rng.standard_normal(stocks) * 0.08

    def alphas(self, bags: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the full meta model and those of the dropout bags."""
        shares = stake_weights(self.atoms)
        kept = dropout_kept(self.atoms, 1, bags, OPTIONS.dropout)
        parts = list(zip(self.blocks, self.places, strict=True))
        full = sum(on_all_cores(lambda part: partial_sums(part[0], shares[None, part[1]]), parts))
        dropped = sum(on_all_cores(lambda part: kept_sums(part[0], shares[part[1]], kept[:, part[1]]), parts))
        return from_sums(full[0]), bag_alphas(dropped, OPTIONS)


def gradients(portfolio: Portfolio, alphas: np.ndarray, returns: np.ndarray, device: str, *, pool: int) -> np.ndarray:
    """Returns every bag's gradient; chunks side by side on `pool` threads of one torch thread each."""

    def solve(start: int) -> np.ndarray:
        solved = portfolio.solve(torch.as_tensor(alphas[start : start + OPTIONS.chunk], device=device))
        return portfolio.pull_back(solved, torch.as_tensor(returns, device=device)).cpu().numpy()

    with ThreadPoolExecutor(pool) as executor:
        return np.concatenate(list(executor.map(solve, range(0, len(alphas), OPTIONS.chunk))))


def gradient_by_layer(layer: CvxpyLayer, alpha: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Returns one bag's gradient by cvxpylayers as it comes; upstream near 1, because diffcp takes 1e-8 for 0."""
    at = torch.tensor(alpha, requires_grad=True)
    (weights,) = layer(at)
    scale = np.abs(returns).max()
    (gradient,) = torch.autograd.grad(weights, at, torch.as_tensor(returns / scale))
    return gradient.numpy() * scale


def error(exact: Portfolio, alphas: np.ndarray, found: np.ndarray, direction: np.ndarray, returns: np.ndarray) -> float:
    """Returns the largest relative error of the promised change along a direction, over the bags."""
    step = STEP * np.abs(alphas).mean()
    up, down = (exact.solve(torch.as_tensor(alphas + sign * step * direction)).weights.numpy() for sign in (1, -1))
    change = (up - down) @ returns / (2 * step)
    scale = np.linalg.norm(found, axis=1) * np.linalg.norm(direction)
    return float(np.max(np.abs(found @ direction - change) / scale))


def compare_layers(device: str) -> None:
    """Prints seconds a bag and the error of g of both layers."""
    crowd, problem = Round(2_000, STOCKS), make_problem(STOCKS)
    full, alphas = crowd.alphas(OPTIONS.bags)
    risk_aversion = auto_risk_aversion(full, problem)
    direction = values(crowd.blocks[0], gauss_table(STOCKS))[0]
    factor, exact = FactorPortfolio(problem, risk_aversion, device), FactorPortfolio(problem, risk_aversion)
    fast = gradients(factor, alphas, crowd.returns, device, pool=CORES)
    ours = seconds(lambda: gradients(factor, alphas, crowd.returns, device, pool=CORES)) / len(alphas)
    asked, parameter, variable = build(problem, risk_aversion)
    layer = CvxpyLayer(asked, [parameter], [variable], solver="DIFFCP", solver_args={"solve_method": "Clarabel"})
    start = time.perf_counter()
    slow = np.stack([gradient_by_layer(layer, alpha, crowd.returns) for alpha in alphas[:SLOW_BAGS]])
    theirs = (time.perf_counter() - start) / SLOW_BAGS
    rows = [
        [
            "FactorPortfolio",
            f"{1e3 * ours:.1f} ms",
            f"{error(exact, alphas[:4], fast[:4], direction, crowd.returns):.1e}",
            f"{theirs / ours:.0f}",
        ],
        [
            "cvxpylayers, DIFFCP with Clarabel",
            f"{1e3 * theirs:.0f} ms",
            f"{error(exact, alphas[:SLOW_BAGS], slow, direction, crowd.returns):.1e}",
            "",
        ],
    ]
    header = [
        f"{STOCKS} stocks, {FACTORS} factors, {len(problem.rows)} groups",
        "a bag",
        "error of g",
        "ratio (aim 500)",
    ]
    print_table("Portfolio layers, weights and gradient, the same bags", header, rows)


def whole_round(device: str) -> None:
    """Prints the seconds of a round's True Contribution, from ranks to scores."""
    crowd, problem = Round(MODELS, STOCKS), make_problem(STOCKS)
    crowd.alphas(1)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of making the submissions
    start = time.perf_counter()
    full, alphas = crowd.alphas(OPTIONS.bags)
    summed = time.perf_counter()
    factor = FactorPortfolio(problem, auto_risk_aversion(full, problem), device)
    price = gradients(factor, alphas, crowd.returns, device, pool=CORES).mean(axis=0)
    solved = time.perf_counter()
    on_all_cores(lambda block: true_contribution(block, price), crowd.blocks)
    done = time.perf_counter()
    rows = [
        ["meta models of the bags", f"{summed - start:.2f} s", ""],
        ["portfolios and gradients", f"{solved - summed:.2f} s", ""],
        ["scores", f"{done - solved:.2f} s", ""],
        ["in total", f"{done - start:.2f} s", "at most 1.5 s"],
        ["peak memory of the process, ranks and all", f"{resident('VmHWM') / 1e9:.2f} GB", "at most 1.5 GB"],
    ]
    print_table(f"True Contribution of {MODELS} models, {OPTIONS.bags} bags, {STOCKS} stocks", ["", "", "aim"], rows)


def scaling(device: str) -> None:
    """Prints seconds a bag over the number of stocks and of bags."""
    rows = []
    for stocks in SIZES:
        crowd, problem = Round(BLOCK, stocks), make_problem(stocks)
        full, alphas = crowd.alphas(OPTIONS.bags)
        factor = FactorPortfolio(problem, auto_risk_aversion(full, problem), device)
        row = [f"{stocks}"]
        for bags in (1, 10, 100):
            work = partial(gradients, factor, alphas[:bags], crowd.returns, device, pool=CORES)
            row.append(f"{1e3 * seconds(work) / bags:.1f} ms")
        rows.append(row)
    print_table("A bag, by stocks and bags", ["stocks", "1 bag", "10 bags", "100 bags"], rows)


def main(device: str = "cpu") -> None:
    """Prints the tables of True Contribution."""
    torch.set_num_threads(1)
    compare_layers(device)
    whole_round(device)
    scaling(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    chosen = parser.parse_args().device
    print(f"Measured on {describe()}, {chosen}.")
    main(chosen)
