"""The project, the slow reference and numerai-tools 0.7.2 on the same random rounds: all three must agree.

The rounds are small and full of ties: five bins, two decimals, copies, 1 − p, one stock unlike all others; odd and even
numbers of stocks. Where numerai-tools has the score, it is held against both others; where it has none (Richard, Mike,
bagged MMC, the pairwise CWMM), the reference stands alone and is tied to the others by the relations between scores.
"""

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from numerai_tools import scoring as tools

from scoring import frames
from scoring.errors import StakeweightError
from tests.reference import naive
from tests.reference.panels import Panel, assert_close, numbers_of, panel

SIZES = [3, 4, 5, 10, 11, 50, 99, 100, 257, 300]
MISSING = [11, 50, 99, 100]
TARGETED = ["corr", "corr_tie_broken", "fnc", "mmc", "bmc", "mmc_richard", "mmc_mike", "mmc_bagged"]


@pytest.fixture(params=[(n, continuous) for n in SIZES for continuous in (False, True)], ids=str)
def round_(request: pytest.FixtureRequest) -> Panel:
    n, continuous = request.param
    return panel(1000 + n, n, continuous_target=continuous)


def by_id(frame: pd.DataFrame | pd.Series) -> pd.DataFrame | pd.Series:
    return frame.sort_index()


def tools_meta_model(predictions: pd.DataFrame, stakes: pd.Series) -> pd.Series:
    staked = stakes[stakes > 0]
    ranked = tools.gaussian(tools.tie_kept_rank(by_id(predictions)[staked.index]))
    return tools.stake_weight(ranked, staked).rename("meta_model")


def drop_ids(p: Panel, share: float, seed: int = 7) -> pd.Series:
    """The target without ⌊share·n⌋ of its ids; none of them the one stock that keeps a model from being constant."""
    odd = {p.predictions.filter(like="one_high").idxmax().item(), p.predictions.filter(like="one_low").idxmin().item()}
    droppable = [i for i in sorted(p.target.index) if i not in odd]
    gone = np.random.default_rng(seed).choice(droppable, math.floor(share * len(p.target)), replace=False)
    return p.target.drop(gone)


def add_ids(series: pd.Series, number: int) -> pd.Series:
    """With ids that no prediction has, all with the largest target: they move the full mean and nothing else."""
    extra = pd.Series(series.max(), index=[f"n{'f' * 10}{k:05d}" for k in range(number)])
    return pd.concat([series, extra]).rename("target")


def every_targeted_score(p: Panel, meta: pd.Series, target: pd.Series) -> dict[str, pd.Series]:
    return {
        "corr": frames.corr(p.predictions, target),
        "corr_tie_broken": frames.corr_tie_broken(p.predictions, target),
        "fnc": frames.fnc(p.predictions, p.features, target),
        "mmc": frames.mmc(p.predictions, meta, target),
        "bmc": frames.bmc(p.predictions, meta, target),
        "mmc_richard": frames.mmc_richard(p.predictions, meta, target),
        "mmc_mike": frames.mmc_mike(p.predictions, meta, target),
        "mmc_bagged": frames.mmc_bagged(p.predictions, p.stakes, target, seed=1),
    }


# The reference against numerai-tools, without the project ---------------------------------------------------------


def test_reference__equals_numerai_tools(round_: Panel) -> None:
    p, target = by_id(round_.predictions), by_id(round_.target)
    meta = tools_meta_model(p, round_.stakes)
    assert_close(naive.meta_model(p.to_dict(), round_.stakes.to_dict()), meta)
    assert_close(naive.corr(p.to_dict(), target.to_dict()), tools.numerai_corr(p, target))
    assert_close(
        naive.mmc(p.to_dict(), meta.to_dict(), target.to_dict()), tools.correlation_contribution(p, meta, target)
    )
    powered = tools.tie_kept_rank__gaussianize__pow_1_5(p)
    assert_close(naive.cwmm(p.to_dict(), meta.to_dict()), powered.apply(lambda q: tools.pearson_correlation(meta, q)))
    assert_close(
        naive.corr_tie_broken(p.to_dict(), target.to_dict()),
        p.apply(lambda q: tools.tie_broken_rank_correlation(target, q)),
    )


# Meta model ------------------------------------------------------------------------------------------------------


def test_meta_model__equals_both_oracles(round_: Panel) -> None:
    actual = frames.meta_model(round_.predictions, round_.stakes)
    assert_close(actual, tools_meta_model(round_.predictions, round_.stakes))
    assert_close(actual, naive.meta_model(round_.predictions.to_dict(), round_.stakes.to_dict()))


def test_meta_model__reads_decimal_stakes() -> None:
    p = panel(1, 60)
    rng = np.random.default_rng(1)
    atoms = [0, 1, 800, 10**18, 17_143 * 10**18 + 1, *rng.integers(1, 10**18, 7).tolist()]
    stakes = pd.Series([Decimal(a).scaleb(-18) for a in atoms], index=p.predictions.columns)
    expected = naive.meta_model(p.predictions.to_dict(), stakes.to_dict())
    assert_close(frames.meta_model(p.predictions, stakes), expected)


def test_meta_model__one_staker_is_the_meta_model() -> None:
    p = panel(2, 61)
    for model in p.predictions:
        stakes = p.stakes * 0 + (p.stakes.index == model) * 3.7
        expected = tools.gaussian(tools.tie_kept_rank(by_id(p.predictions)[[model]]))[model]
        assert_close(frames.meta_model(p.predictions, stakes), expected)


# Correlations ----------------------------------------------------------------------------------------------------


def test_corr__equals_both_oracles(round_: Panel) -> None:
    actual = frames.corr(round_.predictions, round_.target)
    assert_close(actual, tools.numerai_corr(by_id(round_.predictions), by_id(round_.target)))
    assert_close(actual, naive.corr(round_.predictions.to_dict(), round_.target.to_dict()))


def test_corr_tie_broken__equals_both_oracles(round_: Panel) -> None:
    actual = frames.corr_tie_broken(round_.predictions, round_.target)
    target = by_id(round_.target)
    assert_close(actual, by_id(round_.predictions).apply(lambda q: tools.tie_broken_rank_correlation(target, q)))
    assert_close(actual, naive.corr_tie_broken(round_.predictions.to_dict(), round_.target.to_dict()))


def test_corr_tie_broken__ties_go_by_sorted_id_not_by_row() -> None:
    """Two bins, target rising with the id: breaking ties by id gives exactly ρ(y, 1 … n)."""
    ids = [f"n{k:02d}" for k in range(10)]
    target = pd.Series(np.arange(10) / 9, index=ids)
    predictions = pd.DataFrame({"m": [0.2] * 5 + [0.8] * 5}, index=ids)
    assert frames.corr_tie_broken(predictions.iloc[::-1], target)["m"] == pytest.approx(1.0, abs=1e-15)


def test_cwmm__equals_both_oracles(round_: Panel) -> None:
    meta = tools_meta_model(round_.predictions, round_.stakes)
    powered = tools.tie_kept_rank__gaussianize__pow_1_5(by_id(round_.predictions))
    actual = frames.cwmm(round_.predictions, meta)
    assert_close(actual, powered.apply(lambda q: tools.pearson_correlation(meta, q)))
    assert_close(actual, naive.cwmm(round_.predictions.to_dict(), meta.to_dict()))


def test_cwmm__does_not_rank_the_meta_model_again() -> None:
    p = panel(3, 80)
    meta = tools_meta_model(p.predictions, p.stakes)
    ranked = tools.gaussian(tools.tie_kept_rank(meta.to_frame()))["meta_model"]
    plain, again = (numbers_of(frames.cwmm(p.predictions, m)) for m in (meta, ranked))
    assert ((plain - again).abs() > 1e-6).any()
    assert_close(frames.cwmm(p.predictions, 3 * meta), plain)


def test_cwmm_max_and_mean__equal_the_reference(round_: Panel) -> None:
    predictions = round_.predictions.to_dict()
    assert_close(frames.cwmm_max(round_.predictions), naive.cwmm_max(predictions))
    assert_close(frames.cwmm_mean(round_.predictions), naive.cwmm_mean(predictions))


def test_cwmm_max__equals_numerai_tools_transformation() -> None:
    p = panel(4, 120)
    powered = tools.tie_kept_rank__gaussianize__pow_1_5(by_id(p.predictions))
    table = powered.corr().to_numpy().copy()
    np.fill_diagonal(table, -np.inf)
    assert_close(frames.cwmm_max(p.predictions), pd.Series(table.max(axis=0), index=powered.columns))


# Feature-neutral correlation -------------------------------------------------------------------------------------


def distinct(p: Panel) -> pd.DataFrame:
    """The models whose residuals tie nowhere: only there does numerai-tools not rank its own rounding noise."""
    columns = np.column_stack([by_id(p.features), np.ones(len(p.features))])
    x = np.column_stack([naive.g(by_id(p.predictions)[model]) for model in p.predictions])
    residuals = x - columns @ np.linalg.lstsq(columns, x)[0]
    return p.predictions.loc[:, np.diff(np.sort(residuals, axis=0), axis=0).min(axis=0) > 1e-9]


def informative(p: Panel) -> pd.DataFrame:
    """The models whose residuals stay clear of where rounding to 12 decimals tips over."""
    residuals = naive.fnc_residuals(p.predictions.to_dict(), p.features.to_dict())
    return p.predictions[[model for model, r in residuals.items() if naive.rounding_margin(r) > 0.005]]


@pytest.mark.parametrize(("n", "features"), [(30, 3), (61, 8), (120, 12), (200, 24)])
def test_fnc__equals_numerai_tools(n: int, features: int) -> None:
    p = panel(2000 + n, n, features=features)
    predictions = distinct(p)
    assert predictions.shape[1] >= 4
    expected = tools.feature_neutral_corr(by_id(predictions), by_id(p.features), by_id(p.target))
    assert_close(frames.fnc(predictions, p.features, p.target), expected)


@pytest.mark.parametrize(("n", "features"), [(11, 1), (40, 1), (41, 2), (60, 3), (100, 6)])
def test_fnc__equals_the_reference_where_residuals_tie(n: int, features: int) -> None:
    p = panel(3000 + n, n, features=features)
    predictions = informative(p)
    assert predictions.shape[1] >= 6
    expected = naive.fnc(predictions.to_dict(), p.features.to_dict(), p.target.to_dict())
    assert_close(frames.fnc(predictions, p.features, p.target), expected)


def test_fnc__dependent_features_change_nothing() -> None:
    p = panel(5, 90, features=4)
    predictions = informative(p)
    more = p.features.assign(
        feature_copy=p.features["feature_0"],
        feature_constant=np.int8(3),
        feature_mirror=(4 - p.features["feature_1"]).astype("int8"),
        feature_zero=np.int8(0),
        feature_sum=(p.features["feature_2"] + p.features["feature_3"]).astype("int8"),
    )
    dummies = pd.get_dummies(p.features["feature_0"], prefix="feature_is").astype("int8")
    base = pd.concat([p.features, dummies], axis=1)
    plain = frames.fnc(predictions, p.features, p.target)
    assert_close(frames.fnc(predictions, more, p.target), plain)
    expected = naive.fnc(predictions.to_dict(), base.to_dict(), p.target.to_dict())
    assert_close(frames.fnc(predictions, base[sorted(base, reverse=True)], p.target), expected)


def test_fnc__order_of_features_changes_nothing() -> None:
    p = panel(6, 75, features=6)
    predictions = informative(p)
    assert_close(
        frames.fnc(predictions, p.features[list(p.features)[::-1]], p.target),
        frames.fnc(predictions, p.features, p.target),
    )


def test_fnc__no_score_where_the_features_explain_everything() -> None:
    p = panel(7, 40, features=2)
    predictions = pd.DataFrame(
        {"explained": p.features["feature_0"].clip(0, 1) * 0.5, "free": p.features["feature_0"] * 0.0}
    )
    predictions["free"] = np.random.default_rng(7).uniform(0, 1, 40)
    features = p.features.assign(feature_same=p.features["feature_0"].clip(0, 1).astype("int8"))
    scores = numbers_of(frames.fnc(predictions, features, p.target))
    assert math.isnan(scores["explained"])
    assert math.isfinite(scores["free"])


# Contributions ---------------------------------------------------------------------------------------------------


def test_mmc__equals_both_oracles(round_: Panel) -> None:
    """With the project's own meta model, which must be numerai-tools' before it is handed to numerai-tools."""
    meta = frames.meta_model(round_.predictions, round_.stakes)
    theirs = tools_meta_model(round_.predictions, round_.stakes)
    assert_close(meta, theirs)
    actual = frames.mmc(round_.predictions, meta, round_.target)
    for given in (meta, theirs):
        expected = tools.correlation_contribution(by_id(round_.predictions), given, by_id(round_.target))
        assert_close(actual, expected)
    assert_close(actual, naive.mmc(round_.predictions.to_dict(), meta.to_dict(), round_.target.to_dict()))


def test_mmc__of_a_meta_model_full_of_ties() -> None:
    p = panel(8, 101)
    meta = by_id(p.predictions).filter(like="bins").iloc[:, 0].rename("meta_model")
    expected = tools.correlation_contribution(by_id(p.predictions), meta, by_id(p.target))
    assert_close(frames.mmc(p.predictions, meta, p.target), expected)


def test_mmc__buckets_multiply_a_target_inside_0_1_by_four() -> None:
    p = panel(9, 150)
    meta = tools_meta_model(p.predictions, p.stakes)
    with_buckets = numbers_of(frames.mmc(p.predictions, meta, p.target))
    without = frames.mmc(p.predictions, meta, p.target, target_buckets=False)
    assert_close(4 * numbers_of(without), with_buckets)
    expected = naive.mmc(p.predictions.to_dict(), meta.to_dict(), p.target.to_dict(), target_buckets=False)
    assert_close(without, expected)
    assert (with_buckets.abs() > 1e-4).any()


def test_mmc__buckets_leave_a_target_outside_0_1_alone() -> None:
    p = panel(10, 150, continuous_target=True)
    assert p.target.min() < 0
    meta = tools_meta_model(p.predictions, p.stakes)
    for score in (frames.mmc, frames.mmc_mike):
        assert_close(score(p.predictions, meta, p.target), score(p.predictions, meta, p.target, target_buckets=False))


def test_mmc_richard__equals_the_reference(round_: Panel) -> None:
    meta = tools_meta_model(round_.predictions, round_.stakes)
    expected = naive.mmc_richard(round_.predictions.to_dict(), meta.to_dict(), round_.target.to_dict())
    assert_close(frames.mmc_richard(round_.predictions, meta, round_.target), expected)


@pytest.mark.parametrize("target_buckets", [True, False])
def test_mmc_mike__equals_the_reference(round_: Panel, target_buckets: bool) -> None:
    meta = tools_meta_model(round_.predictions, round_.stakes)
    predictions, target = round_.predictions.to_dict(), round_.target.to_dict()
    expected = naive.mmc_mike(predictions, meta.to_dict(), target, target_buckets=target_buckets)
    actual = frames.mmc_mike(round_.predictions, meta, round_.target, target_buckets=target_buckets)
    assert_close(actual, expected)


@pytest.mark.parametrize("target_buckets", [True, False])
def test_mmc_mike__is_murky(round_: Panel, target_buckets: bool) -> None:
    """To 1e-15 of the largest term either of them adds up."""
    meta = tools_meta_model(round_.predictions, round_.stakes)
    murky, mike = (
        score(round_.predictions, meta, round_.target, target_buckets=target_buckets)
        for score in (frames.mmc, frames.mmc_mike)
    )
    y = naive.buckets(round_.target.to_numpy(), target_buckets)
    largest = max(abs(naive.centred(y))) * max(naive.g(np.arange(len(y))))
    assert_close(mike, murky, tolerance=1e-15 * max(1.0, largest))


@pytest.mark.parametrize("n", [60, 301])
def test_mmc_richard__is_perfectly_correlated_with_murky(n: int) -> None:
    """Without ties all models have one mean and one sd. What is left is Richard's second order: 0.001 of a score."""
    p = panel(4000 + n, n)
    rng = np.random.default_rng(n)
    predictions = pd.DataFrame(
        rng.uniform(0, 1, (n, 40)), index=p.predictions.index, columns=[f"m{k:02d}" for k in range(40)]
    )
    meta = frames.meta_model(predictions, pd.Series(rng.uniform(1, 2, 40), index=predictions.columns))
    murky = numbers_of(frames.mmc(predictions, meta, p.target))
    richard = numbers_of(frames.mmc_richard(predictions, meta, p.target))
    assert np.corrcoef(murky, richard)[0, 1] > 1 - 1e-5


@pytest.mark.parametrize("n", [60, 301])
def test_mmc__is_the_derivative_of_richard(n: int) -> None:
    """MMC = sd(yc)·sd(m)·dRichard/dε, by central differences of the reference and, more loosely, by ε = 0.001."""
    p = panel(5000 + n, n)
    fine = p.predictions.filter(like="fine")
    meta = tools_meta_model(p.predictions, p.stakes)
    assert meta.is_unique
    arguments = fine.to_dict(), meta.to_dict(), p.target.to_dict()
    up, down = (numbers_of(pd.Series(naive.mmc_richard(*arguments, epsilon=e))) for e in (1e-5, -1e-5))
    scale = naive.sd(4 * p.target.to_numpy()) * naive.sd(naive.g(meta.to_numpy()))
    mmc = frames.mmc(fine, meta, p.target)
    assert_close(mmc, scale * (up - down) / 2e-5, tolerance=1e-8)
    assert_close(mmc, scale * numbers_of(frames.mmc_richard(fine, meta, p.target)) / 1e-3, tolerance=5e-3)


# Bagged MMC ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 10, 11, 99, 300])
@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**63 + 1, 2**64 - 1])
def test_mmc_bagged__equals_the_reference(n: int, seed: int) -> None:
    """Seeds past 2⁵³ and 2⁶³ too: half of all round seeds are past 2⁶³, where numpy turns a list into floats."""
    p = panel(6000 + n, n)
    expected = naive.mmc_bagged(p.predictions.to_dict(), p.stakes.to_dict(), p.target.to_dict(), seed=seed, bags=5)
    assert_close(frames.mmc_bagged(p.predictions, p.stakes, p.target, seed=seed, bags=5), expected)


def test_mmc_bagged__defaults_are_20_bags_of_67_percent() -> None:
    p = panel(11, 80)
    expected = naive.mmc_bagged(p.predictions.to_dict(), p.stakes.to_dict(), p.target.to_dict(), seed=205)
    assert_close(frames.mmc_bagged(p.predictions, p.stakes, p.target, seed=205), expected)


@pytest.mark.parametrize("continuous", [False, True])
def test_mmc_bagged__accounts_equal_the_reference(continuous: bool) -> None:
    p = panel(12, 90, continuous_target=continuous)
    options = {"seed": 9, "bags": 7, "fraction": Decimal("0.5")}
    expected = naive.mmc_bagged(
        p.predictions.to_dict(),
        p.stakes.to_dict(),
        p.target.to_dict(),
        accounts=p.accounts.to_dict(),
        **options,
    )
    actual = frames.mmc_bagged(p.predictions, p.stakes, p.target, accounts=p.accounts, **options)
    assert_close(actual, expected)


def test_mmc_bagged__all_models_tie() -> None:
    """The only exact ties in a bag's meta model that generic stakes allow: all go by sorted id."""
    p = panel(13, 70)
    bins = p.predictions.filter(like="five_bins").iloc[:, 0]
    predictions = pd.DataFrame({"a": bins, "b": bins**2, "c": bins / 2 + 0.1, "d": p.predictions.iloc[:, 0]})
    stakes = pd.Series({"a": 1.25, "b": 3.7, "c": 0.9, "d": 0.0})
    expected = naive.mmc_bagged(predictions.to_dict(), stakes.to_dict(), p.target.to_dict(), seed=3, bags=4)
    actual = frames.mmc_bagged(predictions, stakes, p.target, seed=3, bags=4)
    assert_close(actual, expected)
    assert all(abs(numbers_of(actual)[model]) < 1e-12 for model in "abc")


# Targets that miss some ids --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", MISSING)
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_missing_target_ids__equal_numerai_tools(n: int, share: float) -> None:
    p = panel(7000 + n, n)
    target = drop_ids(p, share)
    predictions = by_id(p.predictions)
    meta = tools_meta_model(predictions, p.stakes)
    assert_close(frames.corr(p.predictions, target), tools.numerai_corr(predictions, by_id(target)))
    expected = tools.correlation_contribution(predictions, meta, by_id(target))
    assert_close(frames.mmc(p.predictions, meta, target), expected)
    common = predictions.loc[by_id(target).index]
    expected = common.apply(lambda q: tools.tie_broken_rank_correlation(by_id(target), q))
    assert_close(frames.corr_tie_broken(p.predictions, target), expected)


def test_missing_target_ids__fnc_neutralises_over_all_stocks() -> None:
    """`feature_neutral_corr` neutralises before the target's ids are looked at."""
    p = panel(14, 100, features=5)
    predictions, target = distinct(p), drop_ids(p, 0.15)
    expected = tools.feature_neutral_corr(by_id(predictions), by_id(p.features), by_id(target))
    assert_close(frames.fnc(predictions, p.features, target), expected)


@pytest.mark.parametrize("n", MISSING)
def test_missing_target_ids__equal_the_reference(n: int) -> None:
    p = panel(8000 + n, n)
    target = drop_ids(p, 0.1)
    meta = tools_meta_model(p.predictions, p.stakes)
    arguments = p.predictions.to_dict(), meta.to_dict(), target.to_dict()
    assert_close(frames.mmc(p.predictions, meta, target), naive.mmc(*arguments))
    assert_close(frames.mmc_richard(p.predictions, meta, target), naive.mmc_richard(*arguments))
    assert_close(frames.mmc_mike(p.predictions, meta, target), naive.mmc_mike(*arguments))


@pytest.mark.parametrize("n", MISSING)
def test_missing_target_ids__bags_are_made_over_all_stocks(n: int) -> None:
    """As the meta model is: it was made, and used, before anybody knew which targets would go missing."""
    p = panel(8500 + n, n)
    target = drop_ids(p, 0.1)
    expected = naive.mmc_bagged(p.predictions.to_dict(), p.stakes.to_dict(), target.to_dict(), seed=4, bags=3)
    assert_close(frames.mmc_bagged(p.predictions, p.stakes, target, seed=4, bags=3), expected)


def test_extra_target_ids__move_only_the_full_mean() -> None:
    p = panel(15, 60)
    target = add_ids(p.target, 15)
    predictions, meta = by_id(p.predictions), tools_meta_model(p.predictions, p.stakes)
    actual = numbers_of(frames.corr(p.predictions, target))
    assert_close(actual, tools.numerai_corr(predictions, by_id(target)))
    assert ((actual - numbers_of(frames.corr(p.predictions, p.target))).abs() > 1e-6).any()
    expected = tools.correlation_contribution(predictions, meta, by_id(p.target))
    assert_close(frames.mmc(p.predictions, meta, target), expected)


@pytest.mark.parametrize("key", TARGETED)
def test_missing_target_ids__below_80_percent_are_refused(key: str) -> None:
    p = panel(16, 100)
    meta = tools_meta_model(p.predictions, p.stakes)
    call = {
        "corr": lambda y: frames.corr(p.predictions, y),
        "corr_tie_broken": lambda y: frames.corr_tie_broken(p.predictions, y),
        "fnc": lambda y: frames.fnc(p.predictions, p.features, y),
        "mmc": lambda y: frames.mmc(p.predictions, meta, y),
        "bmc": lambda y: frames.bmc(p.predictions, meta, y),
        "mmc_richard": lambda y: frames.mmc_richard(p.predictions, meta, y),
        "mmc_mike": lambda y: frames.mmc_mike(p.predictions, meta, y),
        "mmc_bagged": lambda y: frames.mmc_bagged(p.predictions, p.stakes, y, seed=1, bags=2),
    }[key]
    assert len(call(drop_ids(p, 0.20))) == p.predictions.shape[1]
    assert len(call(add_ids(p.target, 25))) == p.predictions.shape[1]
    for target in (drop_ids(p, 0.21), add_ids(p.target, 26)):
        with pytest.raises(StakeweightError, match="80"):
            call(target)


# Shape of the answers --------------------------------------------------------------------------------------------


def test_scores__have_one_value_a_model() -> None:
    p = panel(17, 50)
    meta = frames.meta_model(p.predictions, p.stakes)
    assert set(meta.index) == set(p.predictions.index)
    scores = every_targeted_score(p, meta, p.target)
    scores["cwmm"] = frames.cwmm(p.predictions, meta)
    scores["tc"] = frames.tc(p.predictions, meta)
    scores["cwmm_max"] = frames.cwmm_max(p.predictions)
    scores["cwmm_mean"] = frames.cwmm_mean(p.predictions)
    for key, score in scores.items():
        assert set(score.index) == set(p.predictions.columns), key
        assert numbers_of(score).notna().all(), key


def test_scores__leave_their_arguments_alone() -> None:
    p = panel(18, 50)
    before = panel(18, 50)
    every_targeted_score(p, frames.meta_model(p.predictions, p.stakes), p.target)
    pd.testing.assert_frame_equal(p.predictions, before.predictions)
    pd.testing.assert_series_equal(p.target, before.target)
    pd.testing.assert_series_equal(p.stakes, before.stakes)
    pd.testing.assert_frame_equal(p.features, before.features)
