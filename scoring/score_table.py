"""All scores of a block of models, from their ranks and the round's vectors.

`ScoringVectors` is everything that a block needs to know about the rest of the round: a dozen vectors of n numbers.
They are made once, sent to every worker, and each block then scores itself in passes of dot products. A score that does
not exist (no benchmark models, no features, a constant meta model) is NaN here and null when published, never 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scoring.contribution import Contribution, contribution, mmc, mmc_bagged, three_forms
from scoring.correlation import Reference, centre, corr, corr_reference, corr_tie_broken, reference
from scoring.meta_model import Sums
from scoring.neutralize import FeatureBasis, feature_basis, neutralized
from scoring.pairwise import cwmm_mean
from scoring.ranks import Ranks, is_constant, restrict
from scoring.rounds import Features, Targets
from scoring.true_contribution import true_contribution

Columns = Mapping[str, Float64[np.ndarray, " model"]]
"""Scores by key; NaN where a model has none."""


@dataclass(frozen=True, slots=True)
class ScoringVectors:
    """What a block needs to score itself.

    Attributes:
        positions: (scored,) the stocks of the universe that have a target.
        corr: pow(y − mean y); None where the target is constant.
        target: y centred, for the tie-broken CORR.
        meta_model: the stake-weighted meta model over the universe, for CWMM.
        mmc, bmc: contributions against the meta model and the benchmark models.
        bagged_price: (scored,) the mean price over the bags.
        basis: the features to neutralise to.
        others: valid, on-time, staked submissions in the round.
        mean_submission: (1, stock) merged `pairwise.mean_sums`; None where pairs are not asked for.
        tc_price: (stock,) the price vector of True Contribution, over the universe.
    """

    positions: Int64[np.ndarray, " scored"]
    corr: Reference | None
    target: Reference | None
    meta_model: Reference | None
    mmc: Contribution | None
    bmc: Contribution | None = None
    bagged_price: Float64[np.ndarray, " scored"] | None = None
    basis: FeatureBasis | None = None
    others: int = 0
    mean_submission: Sums | None = None
    tc_price: Float64[np.ndarray, " stock"] | None = None


@dataclass(frozen=True, slots=True)
class MetaModels:
    """The round's weighted means, over the whole universe.

    Attributes:
        stake_weighted: the meta model, over staked, on-time, valid models.
        benchmark: the same over the benchmark models; None where there are none.
    """

    stake_weighted: Float64[np.ndarray, " stock"]
    benchmark: Float64[np.ndarray, " stock"] | None = None


def scoring_vectors(
    targets: Targets, meta_models: MetaModels, features: Features | None, *, target_buckets: bool
) -> ScoringVectors:
    """Returns the vectors that need no bags and no pairs.

    Args:
        targets: of the scored stocks.
        meta_models: over the universe.
        features: over the universe; None leaves FNC out.
        target_buckets: see `contribution.centred_target`.
    """
    scored = targets.positions

    def against(model: Float64[np.ndarray, " stock"] | None) -> Contribution | None:
        return None if model is None else contribution(model[scored], targets.target, target_buckets=target_buckets)

    return ScoringVectors(
        positions=scored,
        corr=corr_reference(targets),
        target=reference(centre(targets.target)),
        meta_model=reference(meta_models.stake_weighted),
        mmc=against(meta_models.stake_weighted),
        bmc=against(meta_models.benchmark),
        basis=None if features is None else feature_basis(features),
    )


def score_block(
    ranks: Ranks, on_time: Bool[np.ndarray, " model"], counted: Bool[np.ndarray, " model"], vectors: ScoringVectors
) -> Columns:
    """Returns every score of these models, except `cwmm_max`, which needs pairs, and `tc`, which needs the round.

    A submission that is constant over the scored stocks says nothing about them and has none of their scores.

    Args:
        ranks: over the universe; valid submissions only.
        on_time: which of them are on time: a late one has no True Contribution.
        counted: which of them are others' company, on time and staked.
        vectors: the round's.
    """
    columns = _of_scored_stocks(restrict(ranks, vectors.positions), vectors)
    if vectors.corr is not None and vectors.basis is not None:
        columns["fnc"] = corr(restrict(neutralized(ranks, vectors.basis), vectors.positions), vectors.corr)
    if vectors.meta_model is not None:
        columns["cwmm"] = corr(ranks, vectors.meta_model)
    if vectors.tc_price is not None:
        columns["tc_raw"] = np.where(on_time, true_contribution(ranks, vectors.tc_price), np.nan)
    if vectors.mean_submission is not None:
        columns["cwmm_mean"] = cwmm_mean(ranks, counted, vectors.mean_submission, vectors.others)
    return columns


def percentiles(units: Sequence[int | None]) -> list[float | None]:
    """Returns each published score's percentile, 0 … 1: (average rank − 0.5)/m among the m models that have one."""
    present = sorted(value for value in units if value is not None)
    first: dict[int, int] = {}
    for place, value in enumerate(present):
        first.setdefault(value, place)
    after = {value: place + 1 for place, value in enumerate(present)}
    return [None if v is None else (first[v] + after[v]) / (2 * len(present)) for v in units]


def _of_scored_stocks(scored: Ranks, vectors: ScoringVectors) -> dict[str, Float64[np.ndarray, " model"]]:
    columns: dict[str, Float64[np.ndarray, " model"] | None] = {}
    if vectors.corr is not None:
        columns["corr"] = corr(scored, vectors.corr)
    if vectors.target is not None:
        columns["corr_tie_broken"] = corr_tie_broken(scored, vectors.target)
    if vectors.mmc is not None:
        forms = three_forms(scored, vectors.mmc)
        columns |= {"mmc": forms.murky, "mmc_richard": forms.richard, "mmc_mike": forms.mike}
    if vectors.bmc is not None:
        columns["bmc"] = mmc(scored, vectors.bmc.price)
    if vectors.bagged_price is not None:
        columns["mmc_bagged"] = mmc_bagged(scored, vectors.bagged_price)
    silent = is_constant(scored)
    return {key: np.where(silent, np.nan, column) for key, column in columns.items() if column is not None}
