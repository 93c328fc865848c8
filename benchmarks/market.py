"""A market with a heavy risk model, and a crowd that predicts it: what the benchmarks of True Contribution solve."""

from dataclasses import dataclass

import numpy as np

from benchmarks.machine import on_all_cores
from scoring.bags import dropout_kept
from scoring.meta_model import from_sums
from scoring.portfolio.problem import PortfolioProblem, PortfolioTerms, portfolio_problem
from scoring.ranks import rank
from scoring.rounds import Targets, TrueContributionOptions, Universe
from scoring.true_contribution import bag_alphas
from scoring.weights import stake_weights
from tasks.ingest import Block
from tasks.meta_models import BlockSums, Weights, merge_sums, sum_block
from tasks.true_contribution import Device, PortfolioFacts

FACTORS, SECTORS, COUNTRIES = 70, 40, 21  # 40 + 21 − 1 = 60 independent groups
OPTIONS = TrueContributionOptions()
BLOCK = 512
ROUND_SEED = 1


@dataclass(frozen=True, slots=True)
class Market:
    """What a round's portfolio rests on: stocks with their risk model, and what they returned, as fractions."""

    universe: Universe
    covariance: np.ndarray
    returns: np.ndarray

    def problem(self) -> PortfolioProblem:
        """Returns the problem by default terms: neutral to 60 groups, bounded in all 70 factors."""
        return portfolio_problem(self.universe, self.covariance, PortfolioTerms())

    def facts(self, device: Device) -> PortfolioFacts:
        """Returns what the units of a round are given."""
        stocks = len(self.universe.ids)
        targets = Targets(np.arange(stocks), np.full(stocks, 0.5), 0.5, self.returns)
        return PortfolioFacts(self.universe, self.covariance, targets, PortfolioTerms(), OPTIONS, device)


def make_market(stocks: int, seed: int = 0) -> Market:
    """Returns a market of heavy factors; another seed is another round."""
    rng = np.random.default_rng([stocks, seed])
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
    return Market(universe, covariance, rng.standard_normal(stocks) * 0.08)


class Crowd:
    """Submissions in 20 families, and heavy-tailed stakes on half of them."""

    def __init__(self, models: int, stocks: int) -> None:
        rng = np.random.default_rng(7)
        families = rng.standard_normal((20, stocks))
        self.blocks: list[Block] = []
        for start in range(0, models, BLOCK):
            names = [f"m{model:05d}" for model in range(start, min(start + BLOCK, models))]
            views = families[rng.integers(0, 20, len(names))] + rng.standard_normal((len(names), stocks))
            self.blocks.append(Block(rank(names, views), ()))
        stakes = np.exp(2.5 * rng.standard_normal(models)) * (rng.random(models) < 0.5)
        self.atoms = [int(1e18 * stake) for stake in stakes]

    def sums(self, bags: int = OPTIONS.bags) -> BlockSums:
        """Returns the fixed-point sums of the meta model and of the dropout bags, by the units of a round."""
        models = tuple(model for block in self.blocks for model in block.ranks.models)
        staked = np.array([atoms > 0 for atoms in self.atoms])
        weights = Weights(
            models=models,
            on_time=np.ones(len(models), bool),
            counted=staked,
            sums=stake_weights(self.atoms)[None, :],
            kept=dropout_kept(self.atoms, ROUND_SEED, bags, OPTIONS.dropout),
            others=int(staked.sum()),
            draws=0,
        )
        return merge_sums(
            on_all_cores(lambda block: sum_block(block, weights.of(block.ranks.models), False), self.blocks)
        )

    def alphas(self, bags: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the full meta model and those of the dropout bags."""
        sums = self.sums(bags)
        return from_sums(sums.weighted[0]), bag_alphas(sums.dropout, OPTIONS)
