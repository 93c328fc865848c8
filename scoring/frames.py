"""The scores as small functions on pandas objects, for notebooks and participants.

Predictions are a frame with one row a stock (index = id, in any order) and one column a model; targets and meta models
are series by id, stakes a series by model. Every function returns a series by sorted model unless it says otherwise,
and gives the numbers that the engine publishes, because it calls the same kernels. What the engine would refuse (a
prediction outside [0, 1], a constant submission, an id twice) raises an `OperatorError` here.

    from scoring import frames
    meta_model = frames.meta_model(predictions, stakes)
    frames.mmc(predictions, meta_model, target)
"""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float64

from scoring import contribution, correlation, pairwise
from scoring.bags import bag_weights
from scoring.errors import OperatorError
from scoring.meta_model import from_sums, partial_sums
from scoring.neutralize import feature_basis, neutralized
from scoring.ranks import Ranks, is_constant, rank, restrict
from scoring.rounds import MIN_COMMON_SHARE, Features, ScoreOptions, Targets
from scoring.score_table import percentiles
from scoring.true_contribution import true_contribution
from scoring.weights import stake_weights

T = TypeVar("T")


def meta_model(predictions: pd.DataFrame, stakes: pd.Series) -> pd.Series:
    """Returns the stake-weighted mean of Φ⁻¹ of the tie-kept ranks, a series by sorted id.

    Args:
        predictions: by id and model.
        stakes: by model, ≥ 0; models of the frame that it lacks count 0.
    """
    ranks, ids = _ranks(predictions)
    weights = stake_weights(_atoms(stakes, ranks))
    return pd.Series(from_sums(partial_sums(ranks, weights[None, :])[0]), index=ids, name="meta_model")


def corr(predictions: pd.DataFrame, target: pd.Series) -> pd.Series:
    """Returns CORR: ρ(pow(g(p)), pow(y − mean y)), as numerai-tools' `numerai_corr`.

    Raises:
        OperatorError: less than 80 % of the ids on either side are common to both.
    """
    ranks, targets = _with_target(predictions, target)
    return _series(ranks, _need(correlation.corr_reference(targets), "target"), correlation.corr, "corr")


def corr_tie_broken(predictions: pd.DataFrame, target: pd.Series) -> pd.Series:
    """Returns ρ(y, rank) with the submission's ties broken by sorted id: the CORR of 2019–2023."""
    ranks, targets = _with_target(predictions, target)
    fixed = _need(correlation.reference(correlation.centre(targets.target)), "target")
    return _series(ranks, fixed, correlation.corr_tie_broken, "corr_tie_broken")


def fnc(predictions: pd.DataFrame, features: pd.DataFrame, target: pd.Series) -> pd.Series:
    """Returns CORR of what the features and a constant do not explain.

    Args:
        predictions: by id and model.
        features: by the same ids; small integers.
        target: by id.
    """
    ranks, ids = _ranks(predictions)
    if not ids.isin(features.index).all():
        raise OperatorError("features: must have every id of the predictions")
    values = features.loc[ids].to_numpy()
    if not np.array_equal(values, values.astype(np.int8)):
        raise OperatorError("features: must be small integers (-128 … 127); found others")
    residuals = neutralized(ranks, feature_basis(Features(tuple(features.columns), values.astype(np.int8))))
    targets = _targets(ids, target)
    scored = restrict(residuals, targets.positions)
    return _series(scored, _need(correlation.corr_reference(targets), "target"), correlation.corr, "fnc")


def cwmm(predictions: pd.DataFrame, meta_model: pd.Series) -> pd.Series:
    """Returns ρ(pow(g(p)), meta model), the meta model as it is, not ranked again."""
    ranks, ids = _ranks(predictions)
    fixed = _need(correlation.reference(_aligned(meta_model, ids)), "meta model")
    return _series(ranks, fixed, correlation.corr, "cwmm")


def cwmm_mean(predictions: pd.DataFrame) -> pd.Series:
    """Returns each model's mean correlation with the other models of the frame, NaN where there are none."""
    ranks, _ = _ranks(predictions)
    counted = np.ones(len(ranks.models), bool)
    sums = pairwise.mean_sums(ranks, counted, len(counted))
    return pd.Series(pairwise.cwmm_mean(ranks, counted, sums, len(counted)), index=list(ranks.models), name="cwmm_mean")


def cwmm_max(predictions: pd.DataFrame) -> pd.Series:
    """Returns each model's greatest correlation with another model of the frame, NaN where there is none."""
    ranks, _ = _ranks(predictions)
    counted = np.ones(len(ranks.models), bool)
    return pd.Series(pairwise.cwmm_max(ranks, counted), index=list(ranks.models), name="cwmm_max")


def mmc(
    predictions: pd.DataFrame, meta_model: pd.Series, target: pd.Series, *, target_buckets: bool = True
) -> pd.Series:
    """Returns MMC, as numerai-tools' `correlation_contribution`.

    Args:
        predictions: by id and model.
        meta_model: by id; only its ranks matter.
        target: by id.
        target_buckets: multiply a target inside [0, 1] by 4 before centring, as numerai-tools does.
    """
    ranks, against = _contribution(predictions, meta_model, target, target_buckets)
    return _series(ranks, against.price, contribution.mmc, "mmc")


def bmc(
    predictions: pd.DataFrame, benchmark_meta_model: pd.Series, target: pd.Series, *, target_buckets: bool = True
) -> pd.Series:
    """Returns BMC: `mmc` against the stake-weighted meta model of the benchmark models.

    Args:
        predictions: by id and model.
        benchmark_meta_model: by id, `meta_model(benchmarks, benchmark_stakes)`; only its ranks matter.
        target: by id.
        target_buckets: see `mmc`.
    """
    return mmc(predictions, benchmark_meta_model, target, target_buckets=target_buckets).rename("bmc")


def tc(predictions: pd.DataFrame, price: pd.Series, *, centre: float = 0.0, factor: float = 1.0) -> pd.Series:
    """Returns True Contribution, (g(p)·price − centre) · factor, of a published price: `tc_raw` by default.

    Args:
        predictions: by id and model.
        price: by the same ids; the column `tc_price` of the round's `meta_model` table.
        centre, factor: under `true_contribution` in the round's manifest; with them, `tc`.

    Raises:
        OperatorError: predictions and price do not have the same ids.
    """
    ranks, ids = _ranks(predictions)
    prices = _aligned(price, ids, "price")
    if len(price) > len(ids):  # a rank among fewer stocks is another rank
        raise OperatorError(f"predictions: must have every id of the price; {len(price) - len(ids)} are missing")
    scores = (true_contribution(ranks, prices) - centre) * factor
    return pd.Series(scores, index=list(ranks.models), name="tc_raw" if (centre, factor) == (0.0, 1.0) else "tc")


def mmc_mike(
    predictions: pd.DataFrame, meta_model: pd.Series, target: pd.Series, *, target_buckets: bool = True
) -> pd.Series:
    """Returns cov(y, p − m m⁺ p): Mike's form of MMC, equal to `mmc` up to rounding."""
    ranks, against = _contribution(predictions, meta_model, target, target_buckets)
    return pd.Series(contribution.three_forms(ranks, against).mike, index=list(ranks.models), name="mmc_mike")


def mmc_richard(predictions: pd.DataFrame, meta_model: pd.Series, target: pd.Series) -> pd.Series:
    """Returns ρ(y, 0.999 m + 0.001 p) − ρ(y, m), p and m standardised: Richard's question as he asked it."""
    ranks, against = _contribution(predictions, meta_model, target, True)
    scores = _need(contribution.three_forms(ranks, against).richard, "target")
    return pd.Series(scores, index=list(ranks.models), name="mmc_richard")


def mmc_bagged(
    predictions: pd.DataFrame,
    stakes: pd.Series,
    target: pd.Series,
    *,
    seed: int,
    bags: int = 20,
    fraction: Decimal = Decimal("0.67"),
    accounts: pd.Series | None = None,
) -> pd.Series:
    """Returns bagged MMC (MMC2 of 2020).

    Args:
        predictions: by id and model.
        stakes: by model, ≥ 0.
        target: by id.
        seed: the round's seed, 64 bits; published in its manifest.
        bags: number of bags.
        fraction: share of the stakers drawn into a bag, with replacement.
        accounts: by model; where given, accounts are drawn instead of models.
    """
    if not 0 <= seed < 2**64:
        raise OperatorError(f"seed: must be from 0 to 2^64 − 1, found {seed}")
    ranks, ids = _ranks(predictions)
    targets = _targets(ids, target)
    options = ScoreOptions(
        bags=bags, bag_fraction=Decimal(str(fraction)), bag_unit="model" if accounts is None else "account"
    )
    owners = [None if accounts is None else str(accounts.get(model)) for model in ranks.models]
    sums = partial_sums(ranks, bag_weights(_atoms(stakes, ranks), owners, seed, options))
    prices = [contribution.bag_price(from_sums(s)[targets.positions], targets.target) for s in sums]
    scored = restrict(ranks, targets.positions)
    return _series(scored, contribution.mean_price(prices), contribution.mmc_bagged, "mmc_bagged")


def percentile(scores: pd.Series) -> pd.Series:
    """Returns (average rank − 0.5)/m among the m scores that are present; absent ones stay absent."""
    order = scores.rank(method="dense")
    units = [None if pd.isna(place) else int(place) for place in order]
    return pd.Series(percentiles(units), index=scores.index, name=scores.name, dtype="float64")


def _ranks(predictions: pd.DataFrame) -> tuple[Ranks, pd.Index]:
    """Returns the ranks, models and stocks both in sorted order, which bags and tie-breaks rely on."""
    named = predictions.set_axis([str(model) for model in predictions.columns], axis="columns")
    ordered = named.sort_index(axis="index").sort_index(axis="columns")
    _refuse_repeated("predictions, ids", ordered.index)
    _refuse_repeated("predictions, models", ordered.columns)
    values = np.ascontiguousarray(ordered.to_numpy(dtype=np.float64).T)
    if not ((values >= 0) & (values <= 1)).all():
        raise OperatorError("predictions: must be finite and lie in [0, 1]; found others")
    ranks = rank(list(ordered.columns), values)
    constant = [model for model, silent in zip(ranks.models, is_constant(ranks), strict=True) if silent]
    if constant:
        raise OperatorError(f"predictions: must differ between stocks; {constant[0]} is constant")
    return ranks, ordered.index


def _refuse_repeated(what: str, names: pd.Index) -> None:
    if names.has_duplicates:
        raise OperatorError(f"{what}: must be unique, found {names[names.duplicated()][0]!r} twice")


def _targets(ids: pd.Index, target: pd.Series) -> Targets:
    known = target.dropna()
    _refuse_repeated("target, ids", known.index)
    positions = np.flatnonzero(ids.isin(known.index))
    for name, size in (("predictions", len(ids)), ("target", len(target))):
        if positions.size < MIN_COMMON_SHARE * size:
            raise OperatorError(
                f"{name}: at least {MIN_COMMON_SHARE:.0%} of its ids must be common with the other side, "
                f"found {positions.size} of {size}"
            )
    values = _finite("target", known.loc[ids[positions]].to_numpy(dtype=np.float64))
    full = known.sort_index().to_numpy(dtype=np.float64)
    return Targets(positions, values, correlation.total(full) / full.size)


def _with_target(predictions: pd.DataFrame, target: pd.Series) -> tuple[Ranks, Targets]:
    ranks, ids = _ranks(predictions)
    targets = _targets(ids, target)
    return restrict(ranks, targets.positions), targets


def _contribution(
    predictions: pd.DataFrame, meta_model: pd.Series, target: pd.Series, target_buckets: bool
) -> tuple[Ranks, contribution.Contribution]:
    ranks, ids = _ranks(predictions)
    targets = _targets(ids, target)
    scored = _aligned(meta_model, ids)[targets.positions]
    against = contribution.contribution(scored, targets.target, target_buckets=target_buckets)
    return restrict(ranks, targets.positions), _need(against, "meta model")


def _aligned(series: pd.Series, ids: pd.Index, what: str = "meta model") -> Float64[np.ndarray, " stock"]:
    _refuse_repeated(f"{what}, ids", series.index)
    missing = ids.difference(series.index)
    if len(missing):
        raise OperatorError(f"{what}: needs every id of the predictions; {len(missing)} are missing")
    return _finite(what, series.loc[ids].to_numpy(dtype=np.float64))


def _finite(what: str, values: Float64[np.ndarray, " any"]) -> Float64[np.ndarray, " any"]:
    if not np.isfinite(values).all():
        wrong = values[~np.isfinite(values)]
        raise OperatorError(f"{what}: must be finite; {wrong.size} of {values.size} are not, e.g. {wrong[0]}")
    return values


def _atoms(stakes: pd.Series, ranks: Ranks) -> list[int]:
    """Returns the stakes as integers in one common unit, exactly."""
    _finite("stakes", stakes.to_numpy(dtype=np.float64))
    known = {str(model): Fraction(stake) for model, stake in stakes.items()}
    exact = [known.get(model, Fraction(0)) for model in ranks.models]
    if min(exact) < 0 or max(exact) == 0:
        raise OperatorError("stakes: must be ≥ 0 and at least one model of the predictions must have one above 0")
    unit = math.lcm(*(stake.denominator for stake in exact))
    return [int(stake * unit) for stake in exact]


def _need(value: T | None, what: str) -> T:
    if value is None:
        raise OperatorError(f"{what}: must not be constant")
    return value


def _series(ranks: Ranks, fixed: T, score: Callable[[Ranks, T], Float64[np.ndarray, " model"]], name: str) -> pd.Series:
    return pd.Series(score(ranks, fixed), index=list(ranks.models), name=name)
