"""Meta models of a round, and the price vectors that follow from them.

Receipts and stakes decide whose predictions count; each block adds up its share in fixed point; the merged sums become
the meta model, one meta model a bag, and the vectors with which every block scores itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scoring.bags import bag_weights, dropout_kept, number_of_draws
from scoring.contribution import bag_price, mean_price
from scoring.correlation import corr, corr_reference
from scoring.errors import NothingToPayError, OperatorError, StakeweightError, UntrustworthyError
from scoring.meta_model import from_sums, kept_sums, partial_sums, zero
from scoring.pairwise import mean_sums
from scoring.ranks import rank_vector
from scoring.rounds import Features, ScoreOptions, Targets, TrueContributionOptions
from scoring.score_table import MetaModels, ScoringVectors, scoring_vectors
from scoring.stakes import Stakes
from scoring.true_contribution import TrueContribution
from scoring.weight_policies import Field, WeightStep, amounts_of
from scoring.weights import stake_weights
from tasks.alike import Alike
from tasks.ingest import Block, Receipt

Vector = Float64[np.ndarray, " any"]


@dataclass(frozen=True, slots=True)
class Weights:
    """What every valid submission counts, in the round's meta model and in each bag.

    Attributes:
        models: valid submissions, sorted by model.
        on_time: (model,) whether each is on time.
        counted: (model,) whether each is on time and staked, and so moves others' scores.
        sums: (1 + bag, model) weights; row 0 is the meta model, all others are bags.
        kept: (dropout bag, model) who survives each bag of True Contribution; no rows where it is not asked for.
        others: number of counted models.
        draws: stakers drawn into each bag, from those who count by the policy.
    """

    models: tuple[str, ...]
    on_time: Bool[np.ndarray, " model"]
    counted: Bool[np.ndarray, " model"]
    sums: Float64[np.ndarray, "sum model"]
    kept: Bool[np.ndarray, "dropout model"]
    others: int
    draws: int

    def of(self, models: Sequence[str]) -> "Weights":
        """Returns the part of a block that holds these models."""
        place = {model: index for index, model in enumerate(self.models)}
        rows = [place[model] for model in models]
        return Weights(
            models=tuple(models),
            on_time=self.on_time[rows],
            counted=self.counted[rows],
            sums=self.sums[:, rows],
            kept=self.kept[:, rows],
            others=self.others,
            draws=self.draws,
        )


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What the vectors of a round are made of, besides its meta models.

    Attributes:
        targets: of the scored stocks.
        features: over the universe; None leaves FNC out.
        options: the operator's choices.
        others: valid submissions on time that are staked.
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
        dropout: (dropout bag, stock) the survivors of each bag of True Contribution.
    """

    weighted: Int64[np.ndarray, "sum stock"]
    mean: Int64[np.ndarray, "1 stock"]
    dropout: Int64[np.ndarray, "dropout stock"]


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


def weigh(
    receipts: Sequence[Receipt],
    stakes: Stakes,
    seed: int,
    options: ScoreOptions,
    dropout: TrueContributionOptions | None = None,
    steps: Sequence[WeightStep] = (),
    alike: Alike | None = None,
) -> Weights:
    """Returns the weights of all valid submissions.

    Args:
        receipts: of all submissions.
        stakes: all stakes of the round.
        seed: the round's.
        options: for bagged MMC.
        dropout: for True Contribution; None where it is not asked for.
        steps: what a model counts, by its stake; none for the stake itself. One with a stake that counts nothing by
            policy is in no meta model and no bag, but still at risk, and still others' company.
        alike: what the steps look at besides stakes.

    Raises:
        NothingToPayError: nothing is at risk, so that no meta model exists and there is nothing to pay.
        OperatorError: the steps leave nobody who counts, or look at what is not there.
        UntrustworthyError: every submission was refused.
    """
    known = stakes.by_model()
    models = tuple(sorted(receipt.model for receipt in receipts if receipt.digest is not None))
    on_time = np.array([model not in known or not known[model].late for model in models], dtype=bool)
    atoms = [known[model].atoms if model in known and not known[model].late else 0 for model in models]
    counted = np.array([stake > 0 for stake in atoms], dtype=bool)
    stakers = int(counted.sum())
    if not stakers:
        raise _nobody_at_risk(receipts)
    accounts = tuple(known[model].account if model in known else None for model in models)
    amounts = amounts_of(steps, _field(models, accounts, atoms, alike or Alike()))
    bags = bag_weights(amounts, accounts, seed, options)
    sums = np.concatenate([stake_weights(amounts)[None, :], bags])
    counting = [(model, account) for model, account, each in zip(models, accounts, amounts, strict=True) if each]
    units = len({model if options.bag_unit == "model" else account for model, account in counting})
    kept = dropout_kept(atoms, seed, dropout.bags, dropout.dropout) if dropout else np.zeros((0, len(models)), bool)
    return Weights(models, on_time, counted, sums, kept, stakers, number_of_draws(units, options.bag_fraction))


def _field(models: tuple[str, ...], accounts: tuple[str | None, ...], atoms: Sequence[int], alike: Alike) -> Field:
    """Returns what policies may look at, all in the order of the models."""
    example = {name: tuple(found.get(model) for model in models) for name, found in alike.example.items()}
    return Field(models, accounts, tuple(atoms), alike.standings, alike.families, example)


def _nobody_at_risk(receipts: Sequence[Receipt]) -> StakeweightError:
    """Returns why no meta model exists: nothing to pay, or, where every file was refused, something that is wrong."""
    refused = [receipt for receipt in receipts if receipt.rejection is not None]
    if not refused or len(refused) < len(receipts):
        return NothingToPayError(
            "nothing to pay: no model has both a stake and a valid submission on time; "
            f"{len(refused)} of {len(receipts)} submissions were refused"
        )
    codes = Counter(receipt.rejection.code for receipt in refused if receipt.rejection is not None)
    counts = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
    first = refused[0]
    return UntrustworthyError(
        f"all {len(refused)} submissions were refused ({counts}), e.g. {first.file}: "
        f"{first.rejection.message if first.rejection else ''}; is the universe the right one?"
    )


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
    return BlockSums(weighted, mean, kept_sums(block.ranks, weights.sums[0], weights.kept))


def merge_sums(shares: Sequence[BlockSums]) -> BlockSums:
    """Returns the sum of some shares; the order does not matter, the numbers are integers."""
    merged = BlockSums(shares[0].weighted.copy(), shares[0].mean.copy(), shares[0].dropout.copy())
    for share in shares[1:]:
        np.add(merged.weighted, share.weighted, out=merged.weighted)
        np.add(merged.mean, share.mean, out=merged.mean)
        np.add(merged.dropout, share.dropout, out=merged.dropout)
    return merged


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
    true_contribution: TrueContribution | None = None,
) -> tuple[ScoringVectors, MetaModels]:
    """Returns everything that a block needs to score itself, and the meta models to publish.

    Args:
        facts: what the round's files say, and who counts.
        sums: the round's merged sums.
        bags: in the order of their numbers.
        benchmark: the benchmark meta model, if there is one.
        true_contribution: what its bags gave, where it is asked for.
    """
    models = MetaModels(from_sums(sums.weighted[0]), benchmark)
    vectors = scoring_vectors(facts.targets, models, facts.features, target_buckets=facts.options.target_buckets)
    mean_submission = sums.mean if facts.options.pairwise else None
    bagged = mean_price([bag.price for bag in bags])
    tc_price = None if true_contribution is None else true_contribution.price
    complete = replace(
        vectors, bagged_price=bagged, mean_submission=mean_submission, others=facts.others, tc_price=tc_price
    )
    return complete, models
