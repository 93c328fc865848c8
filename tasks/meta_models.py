"""Meta models of a round, and the price vectors that follow from them.

Receipts and stakes decide whose predictions count; each block adds up its share in fixed point; the merged sums become
the meta model, one meta model a bag, and the vectors with which every block scores itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from scoring.bags import bag_weights, number_of_draws
from scoring.contribution import bag_price, mean_price
from scoring.correlation import corr, corr_reference
from scoring.errors import NotDueError, OperatorError
from scoring.meta_model import Sums, from_sums, partial_sums, zero
from scoring.pairwise import mean_sums
from scoring.ranks import rank_vector
from scoring.rounds import Features, ScoreOptions, Targets
from scoring.score_table import MetaModels, ScoringVectors, scoring_vectors
from scoring.stakes import Stakes
from scoring.weights import stake_weights
from tasks.ingest import Block, Receipt

Vector = Float64[np.ndarray, " any"]


@dataclass(frozen=True, slots=True)
class Weights:
    """What every valid submission counts, in the round's meta model and in each bag.

    Attributes:
        models: valid submissions, sorted by model.
        counted: (model,) whether each is on time.
        sums: (1 + bag, model) weights; row 0 is the meta model, all others are bags.
        others: number of counted models.
        draws: stakers drawn into each bag.
    """

    models: tuple[str, ...]
    counted: Bool[np.ndarray, " model"]
    sums: Float64[np.ndarray, "sum model"]
    others: int
    draws: int

    def of(self, models: Sequence[str]) -> "Weights":
        """Returns the part of a block that holds these models."""
        place = {model: index for index, model in enumerate(self.models)}
        rows = [place[model] for model in models]
        return replace(self, models=tuple(models), counted=self.counted[rows], sums=self.sums[:, rows])


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What the vectors of a round are made of, besides its meta models.

    Attributes:
        targets: of the scored stocks.
        features: over the universe; None leaves FNC out.
        options: the operator's choices.
        others: valid submissions on time.
    """

    targets: Targets
    features: Features | None
    options: ScoreOptions
    others: int


@dataclass(frozen=True, slots=True)
class BlockSums:
    """A block's share in all meta models; shares merge by integer addition.

    Attributes:
        weighted: (1 + bag, stock).
        mean: (1, stock) for `cwmm_mean`; zeros where pairs are not asked for.
    """

    weighted: Sums
    mean: Sums


@dataclass(frozen=True, slots=True)
class BagResult:
    """What one bag of bagged MMC gives.

    Attributes:
        bag: its number.
        price: (scored,) its price vector.
        corr: CORR of its meta model; NaN where that is constant.
    """

    bag: int
    price: Float64[np.ndarray, " scored"]
    corr: float


def weigh(receipts: Sequence[Receipt], stakes: Stakes, seed: int, options: ScoreOptions) -> Weights:
    """Returns the weights of all valid submissions.

    Raises:
        NotDueError: nothing is at risk, so that no meta model exists and there is nothing to pay.
    """
    known = stakes.by_model()
    models = tuple(sorted(receipt.model for receipt in receipts if receipt.digest is not None))
    counted = np.array([model not in known or not known[model].late for model in models], dtype=bool)
    atoms = [
        known[model].atoms if model in known and on_time else 0 for model, on_time in zip(models, counted, strict=True)
    ]
    stakers = sum(stake > 0 for stake in atoms)
    if not stakers:
        raise NotDueError("nothing to pay: no model has both a stake and a valid submission on time")
    accounts = [known[model].account if model in known else None for model in models]
    bags = bag_weights(atoms, accounts, seed, options)
    sums = np.concatenate([stake_weights(atoms)[None, :], bags])
    units = stakers if options.bag_unit == "model" else len({a for a, s in zip(accounts, atoms, strict=True) if s})
    return Weights(models, counted, sums, int(counted.sum()), number_of_draws(units, options.bag_fraction))


def sum_block(block: Block, weights: Weights, pairwise: bool) -> BlockSums:
    """Returns a block's share in the meta models.

    Args:
        block: the block's ranks.
        weights: the part of the round's weights that belongs to it.
        pairwise: whether `cwmm_mean` is asked for.
    """
    weighted = partial_sums(block.ranks, weights.sums)
    empty = zero(1, block.ranks.stocks)
    mean = mean_sums(block.ranks, weights.counted, weights.others) if pairwise and weights.models else empty
    return BlockSums(weighted, mean)


def merge_sums(shares: Sequence[BlockSums]) -> BlockSums:
    """Returns the sum of some shares; the order does not matter, the numbers are integers."""
    weighted, mean = shares[0].weighted.copy(), shares[0].mean.copy()
    for share in shares[1:]:
        weighted += share.weighted
        mean += share.mean
    return BlockSums(weighted, mean)


def benchmark_meta_model(block: Block, stakes: Stakes) -> Float64[np.ndarray, " stock"]:
    """Returns the stake-weighted meta model of the benchmark models.

    Raises:
        OperatorError: a benchmark file is refused or has no stake row; they are the operator's own files.
    """
    for receipt in block.receipts:
        if receipt.rejection is not None:
            raise OperatorError(f"{receipt.file}: {receipt.rejection.code}: {receipt.rejection.message}")
    known = stakes.by_model()
    missing = sorted(known.keys() ^ set(block.ranks.models))
    if missing:
        raise OperatorError(
            f"benchmarks: each model needs a file and a row in benchmark_stakes.parquet, {missing[0]} lacks one"
        )
    atoms = [known[model].atoms for model in block.ranks.models]
    if not any(atoms):
        raise OperatorError("benchmark_stakes.parquet: at least one benchmark model needs a stake above 0, found none")
    return from_sums(partial_sums(block.ranks, stake_weights(atoms)[None, :])[0])


def price_bag(bag: int, sums: BlockSums, targets: Targets) -> BagResult:
    """Returns one bag's price vector and its meta model's CORR.

    Args:
        bag: the bag's number, from 0.
        sums: the round's merged sums.
        targets: of the scored stocks.
    """
    model = from_sums(sums.weighted[1 + bag])[targets.positions]
    fixed = corr_reference(targets)
    with np.errstate(invalid="ignore"):
        score = np.nan if fixed is None else float(corr(rank_vector(model), fixed)[0])
    return BagResult(bag, bag_price(model, targets.target), score)


def vectors_of_round(
    facts: RoundFacts,
    sums: BlockSums,
    bags: Sequence[BagResult],
    benchmark: Float64[np.ndarray, " stock"] | None,
) -> tuple[ScoringVectors, MetaModels]:
    """Returns everything that a block needs to score itself, and the meta models to publish.

    Args:
        facts: what the round's files say, and who counts.
        sums: the round's merged sums.
        bags: in the order of their numbers.
        benchmark: the benchmark meta model, if there is one.
    """
    models = MetaModels(from_sums(sums.weighted[0]), benchmark)
    vectors = scoring_vectors(facts.targets, models, facts.features, target_buckets=facts.options.target_buckets)
    mean_submission = sums.mean if facts.options.pairwise else None
    bagged = mean_price([bag.price for bag in bags])
    return replace(vectors, bagged_price=bagged, mean_submission=mean_submission, others=facts.others), models
