"""`frames` against numerai-tools and scipy, beside test_oracles: meta models that tie, BMC, TC and percentiles."""

import math

import numpy as np
import pandas as pd
import pytest
from numerai_tools import scoring as tools
from scipy.stats import norm, rankdata

from scoring import frames
from scoring.errors import StakeweightError
from tests.reference import naive
from tests.reference.panels import Panel, assert_close, numbers_of, panel
from tests.scoring.test_oracles import SIZES, by_id, distinct, tools_meta_model


@pytest.mark.parametrize("seed", range(12))
def test_scores__of_a_meta_model_whose_stocks_tie_equal_numerai_tools(seed: int) -> None:
    """Only models full of ties are staked, so the project's meta model ties too, exactly: its sums are integers."""
    p = panel(9000 + seed, 30 + 17 * seed, continuous_target=seed % 3 == 2)
    predictions, target = by_id(p.predictions), by_id(p.target)
    staked = p.predictions.filter(regex="bins|halves|tens|one_high|one_low").columns
    stakes = p.stakes.where(p.stakes.index.isin(staked), 0.0)
    meta = frames.meta_model(p.predictions, stakes)
    assert not meta.is_unique
    assert_close(meta, tools_meta_model(p.predictions, stakes))
    expected = tools.correlation_contribution(predictions, meta, target)
    assert_close(frames.mmc(p.predictions, meta, p.target), expected)
    powered = tools.tie_kept_rank__gaussianize__pow_1_5(predictions)
    assert_close(frames.cwmm(p.predictions, meta), powered.apply(lambda q: tools.pearson_correlation(meta, q)))
    fine = distinct(p)
    assert fine.shape[1] >= 3
    expected = tools.feature_neutral_corr(by_id(fine), by_id(p.features), target.copy())
    assert_close(frames.fnc(fine, p.features, p.target), expected)


# BMC ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_bmc__equals_numerai_tools(n: int) -> None:
    """Some models of the panel are the benchmarks, the project makes their meta model."""
    p = panel(9500 + n, n)
    benchmarks = p.predictions.iloc[:, :4]
    stakes = pd.Series([3.0, 1.0, 0.5, 2.0], index=benchmarks.columns)
    meta = frames.meta_model(benchmarks, stakes)
    assert_close(meta, tools_meta_model(benchmarks, stakes))
    actual = frames.bmc(p.predictions, meta, p.target)
    assert actual.name == "bmc"
    expected = tools.correlation_contribution(by_id(p.predictions), meta, by_id(p.target))
    assert_close(actual, expected)


def test_bmc__buckets_can_be_left_out() -> None:
    p = panel(19, 150)
    meta = frames.meta_model(p.predictions.iloc[:, :3], p.stakes.iloc[:3] + 1)
    without = numbers_of(frames.bmc(p.predictions, meta, p.target, target_buckets=False))
    assert_close(4 * without, frames.bmc(p.predictions, meta, p.target))


# True Contribution -----------------------------------------------------------------------------------------------


def scipy_tc(p: Panel, price: pd.Series) -> pd.Series:
    """Φ⁻¹(rank)·price of every model, by scipy alone."""
    prices = price.loc[p.predictions.index].to_numpy()
    return p.predictions.apply(lambda q: math.fsum(norm.ppf((rankdata(q) - 0.5) / len(q)) * prices))


@pytest.mark.parametrize("n", SIZES)
def test_tc__is_the_product_with_the_price(n: int) -> None:
    p = panel(9600 + n, n)
    price = pd.Series(np.random.default_rng(3).normal(0, 0.01, len(p.target)), index=p.target.index)
    raw = frames.tc(p.predictions, price)
    expected = scipy_tc(p, price)
    assert raw.name == "tc_raw"
    assert_close(raw, expected)
    scaled = frames.tc(p.predictions, price, centre=0.01, factor=2.5)
    assert scaled.name == "tc"
    assert_close(scaled, (expected - 0.01) * 2.5)


def test_tc__needs_the_ids_of_the_price() -> None:
    p = panel(20, 50)
    price = pd.Series(0.01, index=p.target.index)
    with pytest.raises(StakeweightError, match="price: needs every id of the predictions; 1 are missing"):
        frames.tc(p.predictions, price.iloc[1:])
    with pytest.raises(StakeweightError, match="predictions: must have every id of the price; 2 are missing"):
        frames.tc(p.predictions.iloc[2:], price)
    with pytest.raises(StakeweightError, match="price, ids: must be unique"):
        frames.tc(p.predictions, pd.concat([price, price.iloc[:1]]))


# Percentiles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 7, 120])
def test_percentile__equals_both_oracles(m: int) -> None:
    scores = pd.Series(np.round(np.random.default_rng(m).normal(0, 0.02, m), 2)).rename(str)
    scores.index = [f"m{k:03d}" for k in range(m)]
    assert_close(frames.percentile(scores), naive.percentile(scores.to_dict()))
    assert_close(frames.percentile(scores), tools.tie_kept_rank(scores))


def test_percentile__counts_only_who_has_a_score() -> None:
    scores = pd.Series({"a": 0.3, "b": math.nan, "c": -0.1, "d": 0.3, "e": math.nan, "f": 0.0})
    percentile = numbers_of(frames.percentile(scores))
    assert percentile[["c", "f", "a", "d"]].tolist() == [0.125, 0.375, 0.75, 0.75]
    assert percentile[["b", "e"]].isna().all()
