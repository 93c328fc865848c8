"""What must hold for every round, whatever its numbers: mostly to the last bit.

Predictions are multiples of 2⁻²⁰, so that `1 − p`, `p²` and the other maps below are exact and order or mirror the
predictions without a single new or lost tie. Float noise can then not excuse anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import frames
from scoring.errors import StakeweightError
from tests.reference.panels import assert_close, bits, numbers_of

few = settings(deadline=None, max_examples=12, derandomize=True, database=None)
fewer = settings(deadline=None, max_examples=6, derandomize=True, database=None)


@dataclass(frozen=True)
class World:
    predictions: pd.DataFrame
    target: pd.Series
    stakes: pd.Series
    features: pd.DataFrame
    meta: pd.Series

    def with_predictions(self, predictions: pd.DataFrame) -> "World":
        return replace(self, predictions=predictions)


Score = Callable[[World], pd.Series]

TIE_KEPT: dict[str, Score] = {
    "corr": lambda w: frames.corr(w.predictions, w.target),
    "fnc": lambda w: frames.fnc(w.predictions, w.features, w.target),
    "cwmm": lambda w: frames.cwmm(w.predictions, w.meta),
    "mmc": lambda w: frames.mmc(w.predictions, w.meta, w.target),
    "mmc_raw_target": lambda w: frames.mmc(w.predictions, w.meta, w.target, target_buckets=False),
    "mmc_richard": lambda w: frames.mmc_richard(w.predictions, w.meta, w.target),
    "mmc_mike": lambda w: frames.mmc_mike(w.predictions, w.meta, w.target),
}
ALONE: dict[str, Score] = {
    **TIE_KEPT,
    "corr_tie_broken": lambda w: frames.corr_tie_broken(w.predictions, w.target),
}
"""Scores that do not look at the other models."""

ALL: dict[str, Score] = {
    **ALONE,
    "cwmm_max": lambda w: frames.cwmm_max(w.predictions),
    "cwmm_mean": lambda w: frames.cwmm_mean(w.predictions),
    "mmc_bagged": lambda w: frames.mmc_bagged(w.predictions, w.stakes, w.target, seed=11, bags=3),
}

MAPS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "square": lambda p: p * p,
    "half": lambda p: p / 2 + 0.25,
    "last bits": lambda p: 0.5 + p * 2.0**-30,
    "subnormal": lambda p: p * 2.0**-1040,
    "kinked": lambda p: p.where(p < 0.5, 0.5 + (p - 0.5) / 1024),
    "negative zero": lambda p: p.where(p != 0, -0.0),
}
"""Strictly increasing, exact on multiples of 2⁻²⁰. The subnormal one fails where denormals are flushed to zero, the
last where the bits of a float are ranked and not its value."""


@st.composite
def worlds(draw: st.DrawFn, min_stocks: int = 3, max_stocks: int = 150, max_models: int = 12) -> World:
    n = draw(st.integers(min_stocks, max_stocks), label="stocks")
    m = draw(st.integers(2, max_models), label="models")
    levels = draw(st.sampled_from([2, 5, 100, 2**20]), label="levels")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    values = rng.integers(0, levels + 1, (n, m)) * (2**20 // levels)
    for column in range(m):
        values[rng.permutation(n)[:2], column] = 0, 2**20 - 2**20 % levels  # never constant
    ids = [f"n{k:05x}" for k in rng.choice(16**5, n, replace=False)]
    index = pd.Index(ids, name="id")
    models = [f"m{k:03d}" for k in rng.choice(1000, m, replace=False)]
    predictions = pd.DataFrame(values / 2**20, index=index, columns=models)
    target = np.searchsorted([0.05, 0.25, 0.75, 0.95], (rng.permutation(n) + 0.5) / n) / 4
    if len(set(target)) == 1:
        target[0] = 1.0
    stakes = np.exp(rng.normal(1, 2, m)) * (rng.uniform(0, 1, m) < 0.8)
    stakes[0] = max(stakes[0], 1.5)
    features = pd.DataFrame(rng.integers(0, 5, (n, 3)), index=index, columns=["feature_a", "feature_b", "feature_c"])
    stake_series = pd.Series(stakes, index=models)
    return World(
        predictions=predictions,
        target=pd.Series(target, index=index, name="target"),
        stakes=stake_series,
        features=features.astype("int8"),
        meta=frames.meta_model(predictions, stake_series),
    )


# The meta model ---------------------------------------------------------------------------------------------------


@few
@given(worlds(min_stocks=100, max_stocks=400))
def test_mmc__of_the_meta_model_itself_is_zero(world: World) -> None:
    """|x| < 5e-17 was measured on 355 rounds of about 5 000 stocks. A score is a sum over n stocks divided by n, so its
    noise goes with 1/√n: × 3.5 at 400 stocks, × 7 at 100."""
    ranks = world.meta.rank()
    own = world.with_predictions(pd.DataFrame({"meta_model": (ranks - 0.5) / len(ranks)}))
    bound = 5e-17 * np.sqrt(5000 / len(ranks))
    for key in ("mmc", "mmc_mike"):
        assert abs(numbers_of(TIE_KEPT[key](own))["meta_model"]) < bound, key


@few
@given(worlds())
def test_meta_model__order_of_rows_models_and_stakes_moves_no_bit(world: World) -> None:
    p = world.predictions
    shuffled = p.sample(frac=1, random_state=1).sample(frac=1, axis=1, random_state=2)
    stakes = world.stakes.sample(frac=1, random_state=3)
    assert bits(frames.meta_model(shuffled, stakes)) == bits(world.meta)


@few
@given(worlds())
def test_meta_model__an_unstaked_model_moves_no_bit(world: World) -> None:
    p = world.predictions
    more = p.assign(a_first=1 - p.iloc[:, 0], zz_last=p.iloc[:, 1])
    zero = pd.concat([world.stakes, pd.Series({"a_first": 0.0, "zz_last": 0.0})])
    assert bits(frames.meta_model(more, zero)) == bits(world.meta)
    staked = world.stakes[world.stakes > 0]
    assert bits(frames.meta_model(p[staked.index], staked)) == bits(world.meta)


def test_meta_model__a_stake_without_a_submission_moves_no_bit() -> None:
    rng = np.random.default_rng(0)
    p = pd.DataFrame(rng.uniform(0, 1, (30, 3)), index=[f"n{k:02d}" for k in range(30)], columns=list("abc"))
    stakes = pd.Series({"a": 1.5, "b": 2.25, "c": 0.0})
    more = pd.concat([stakes, pd.Series({"absent": 100.0})])
    assert bits(frames.meta_model(p, more)) == bits(frames.meta_model(p, stakes))
    target = pd.Series(rng.integers(0, 5, 30) / 4, index=p.index)
    plain, with_absent = (frames.mmc_bagged(p, s, target, seed=1) for s in (stakes, more))
    assert bits(plain) == bits(with_absent)


def test_meta_model__decimal_and_float_stakes_of_one_value_are_one() -> None:
    rng = np.random.default_rng(1)
    p = pd.DataFrame(rng.uniform(0, 1, (30, 4)), index=[f"n{k:02d}" for k in range(30)], columns=list("abcd"))
    floats = pd.Series([1.5, 0.0078125, 17143.0, 0.0], index=p.columns)
    decimals = pd.Series([Decimal(str(s)) for s in floats], index=p.columns)
    assert bits(frames.meta_model(p, decimals)) == bits(frames.meta_model(p, floats))


@few
@given(worlds())
def test_meta_model__splitting_a_stake_between_copies_changes_nothing(world: World) -> None:
    model = world.stakes.index[0]
    more = world.predictions.assign(copy=world.predictions[model])
    stakes = world.stakes.copy()
    stakes["copy"] = stakes[model] / 4
    stakes[model] *= 0.75
    assert_close(frames.meta_model(more, stakes), world.meta)


# Symmetries of a submission ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["corr", "mmc", "mmc_raw_target", "mmc_mike"])
@few
@given(world=worlds())
def test_scores__of_1_minus_p_are_exactly_negative(key: str, world: World) -> None:
    mirrored = world.with_predictions(1 - world.predictions)
    plain, negative = (numbers_of(TIE_KEPT[key](w)) for w in (world, mirrored))
    assert (plain == -negative).all()


@few
@given(worlds())
def test_scores__of_1_minus_p_beside_p_are_exactly_negative(world: World) -> None:
    p = world.predictions
    both = world.with_predictions(pd.concat([p, (1 - p).add_suffix("_mirror")], axis=1))
    for key in ("corr", "mmc", "mmc_mike"):
        scores = numbers_of(TIE_KEPT[key](both))
        assert all(scores[f"{model}_mirror"] == -scores[model] for model in p), key


@few
@given(worlds())
def test_cwmm__of_1_minus_p_is_negative(world: World) -> None:
    negative = TIE_KEPT["cwmm"](world.with_predictions(1 - world.predictions))
    assert_close(-numbers_of(negative), TIE_KEPT["cwmm"](world))


@few
@given(worlds(), st.integers(0, 11))
def test_scores__of_identical_predictions_are_identical(world: World, which: int) -> None:
    p = world.predictions
    model = p.columns[which % p.shape[1]]
    copied = p.assign(**dict.fromkeys(("a_copy", "mm_copy", "zz_copy"), p[model]))
    twins = world.with_predictions(copied)
    for key, score in ALL.items():
        result = bits(score(twins))
        assert result["a_copy"] == result["mm_copy"] == result["zz_copy"] == result[model], key


@few
@given(worlds())
def test_scores__of_a_strictly_increasing_map_are_identical(world: World) -> None:
    plain = {key: bits(score(world)) for key, score in ALL.items()}
    for name, increasing in MAPS.items():
        mapped = world.with_predictions(increasing(world.predictions))
        for key, score in ALL.items():
            assert bits(score(mapped)) == plain[key], (name, key)
        assert bits(frames.meta_model(mapped.predictions, world.stakes)) == bits(world.meta), name


# Order and blocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ALL)
@fewer
@given(world=worlds(), seed=st.integers(0, 1000))
def test_scores__order_of_stocks_moves_no_bit(key: str, world: World, seed: int) -> None:
    shuffled = World(
        predictions=world.predictions.sample(frac=1, random_state=seed),
        target=world.target.sample(frac=1, random_state=seed + 1),
        stakes=world.stakes,
        features=world.features.sample(frac=1, random_state=seed + 2),
        meta=world.meta.sample(frac=1, random_state=seed + 3),
    )
    assert bits(ALL[key](shuffled)) == bits(ALL[key](world))


@pytest.mark.parametrize("key", ALL)
@fewer
@given(world=worlds(), seed=st.integers(0, 1000))
def test_scores__order_of_models_permutes_scores(key: str, world: World, seed: int) -> None:
    shuffled = replace(
        world,
        predictions=world.predictions.sample(frac=1, axis=1, random_state=seed),
        stakes=world.stakes.sample(frac=1, random_state=seed + 1),
    )
    assert bits(ALL[key](shuffled)) == bits(ALL[key](world))


@pytest.mark.parametrize("key", TIE_KEPT)
@fewer
@given(world=worlds())
def test_scores__names_of_stocks_do_not_matter_where_ties_are_kept(key: str, world: World) -> None:
    """Other names sort in another order, so sums run in another order: equal to 1e-12, not to the bit. FNC may not part
    ties either."""
    names = {old: f"n{hash_number:08d}" for hash_number, old in enumerate(sorted(world.target.index, reverse=True))}
    renamed = World(
        predictions=world.predictions.rename(index=names),
        target=world.target.rename(index=names),
        stakes=world.stakes,
        features=world.features.rename(index=names),
        meta=world.meta.rename(index=names),
    )
    assert_close(TIE_KEPT[key](renamed), TIE_KEPT[key](world))


@pytest.mark.parametrize("key", ALONE)
@fewer
@given(world=worlds(), cut=st.integers(1, 11))
def test_scores__blocks_of_models_move_no_bit(key: str, world: World, cut: int) -> None:
    at = min(cut, world.predictions.shape[1] - 1)
    left, right = world.predictions.iloc[:, :at], world.predictions.iloc[:, at:]
    parts = {}
    for block in (left, right):
        parts |= bits(ALONE[key](world.with_predictions(block)))
    assert parts == bits(ALONE[key](world))


@pytest.mark.parametrize("key", ALL)
def test_scores__hundreds_of_models_score_as_each_would_alone(key: str) -> None:
    """More models than any block of a kernel: whoever lands on a block's edge or in its remainder scores the same."""
    rng = np.random.default_rng(5)
    index = pd.Index([f"n{k:03d}" for k in range(37)])
    values = rng.integers(0, 2**20 + 1, (37, 40)) / 2**20
    names = [f"m{k:03d}" for k in range(600)]
    predictions = pd.DataFrame(values[:, np.arange(600) % 40], index=index, columns=names)
    target = pd.Series(rng.integers(0, 5, 37) / 4, index=index)
    stakes = pd.Series(np.exp(rng.normal(0, 1, 600)), index=names)
    features = pd.DataFrame(rng.integers(0, 5, (37, 2)), index=index, columns=["feature_a", "feature_b"], dtype="int8")
    world = World(predictions, target, stakes, features, frames.meta_model(predictions, stakes))
    result = bits(ALL[key](world))
    if key not in ("cwmm_mean",):  # whose mean leaves oneself out, but not one's copies
        assert all(result[name] == result[names[k % 40]] for k, name in enumerate(names))
    if key in ALONE:
        few_models = world.with_predictions(predictions[names[7:9]])
        assert bits(ALONE[key](few_models)) == {name: result[name] for name in names[7:9]}


# Bags -------------------------------------------------------------------------------------------------------------


@few
@given(worlds(min_stocks=30), st.integers(0, 2**64 - 1))
def test_mmc_bagged__one_seed_one_result(world: World, seed: int) -> None:
    first, second = (
        frames.mmc_bagged(world.predictions, world.stakes, world.target, seed=seed, bags=2) for _ in range(2)
    )
    assert bits(first) == bits(second)


@pytest.mark.parametrize("other", [1, 2, 2**32, 2**53 + 1, 2**63, 2**63 + 1, 2**63 + 2, 2**64 - 1])
def test_mmc_bagged__other_seeds_differ(other: int) -> None:
    rng = np.random.default_rng(3)
    index = [f"n{k:03d}" for k in range(80)]
    p = pd.DataFrame(rng.uniform(0, 1, (80, 20)), index=index, columns=[f"m{k:02d}" for k in range(20)])
    target = pd.Series(rng.integers(0, 5, 80) / 4, index=index)
    stakes = pd.Series(np.exp(rng.normal(0, 1, 20)), index=p.columns)
    for seed in {0, 2**53, 2**63 - 1, 2**63 + 3, 2**64 - 2}:
        left, right = (frames.mmc_bagged(p, stakes, target, seed=s) for s in (seed, other))
        assert bits(left) != bits(right), seed


@few
@given(worlds(min_stocks=20))
def test_mmc_bagged__an_unstaked_model_moves_no_bit_of_the_others(world: World) -> None:
    p = world.predictions
    more = p.assign(a_first=1 - p.iloc[:, 0], zz_last=p.iloc[:, 1])
    stakes = pd.concat([world.stakes, pd.Series({"a_first": 0.0, "zz_last": 0.0})])
    before = bits(frames.mmc_bagged(p, world.stakes, world.target, seed=5, bags=3))
    after = bits(frames.mmc_bagged(more, stakes, world.target, seed=5, bags=3))
    assert {model: after[model] for model in before} == before


def test_mmc_bagged__of_1_minus_p_is_negative_without_ties() -> None:
    rng = np.random.default_rng(4)
    index = [f"n{k:03d}" for k in range(101)]
    p = pd.DataFrame(rng.uniform(0, 1, (101, 5)), index=index, columns=list("abcde"))
    p["mirror"] = 1 - p["e"]
    stakes = pd.Series({"a": 1.3, "b": 0.4, "c": 2.9, "d": 0.8, "e": 0.0, "mirror": 0.0})
    scores = numbers_of(frames.mmc_bagged(p, stakes, pd.Series(rng.normal(0, 1, 101), index=index), seed=6))
    assert scores["mirror"] == pytest.approx(-scores["e"], abs=1e-14)


# The other submissions --------------------------------------------------------------------------------------------


@few
@given(worlds(), st.integers(0, 11))
def test_cwmm_max__of_a_duplicated_model_is_1(world: World, which: int) -> None:
    p = world.predictions
    model = p.columns[which % p.shape[1]]
    scores = numbers_of(frames.cwmm_max(p.assign(copy=p[model])))
    assert scores[model] == pytest.approx(1, abs=1e-12)
    assert scores["copy"] == pytest.approx(1, abs=1e-12)


@few
@given(worlds())
def test_cwmm_max__leaves_oneself_out(world: World) -> None:
    """Two models, each other's mirror: the only other submission correlates −1."""
    p = world.predictions.iloc[:, [0]]
    scores = frames.cwmm_max(p.assign(mirror=1 - p.iloc[:, 0]))
    assert_close(scores, pd.Series(-1.0, index=[p.columns[0], "mirror"]))


def test_cwmm_max__of_the_only_model_does_not_exist() -> None:
    p = pd.DataFrame({"only": [0.1, 0.7, 0.4]}, index=["a", "b", "c"])
    assert numbers_of(frames.cwmm_max(p)).isna().all()
    assert numbers_of(frames.cwmm_mean(p)).isna().all()


# Predictions that are no submission -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("bad", ["nan", "inf", "below", "above", "constant"])
def test_scores__never_come_from_a_submission_that_must_be_refused(key: str, bad: str) -> None:
    """Either the call is refused, or that model has no score; never a number, and never another score of others."""
    rng = np.random.default_rng(8)
    index = [f"n{k:02d}" for k in range(20)]
    good = pd.DataFrame(rng.uniform(0, 1, (20, 3)), index=index, columns=["a", "c", "d"])
    stakes = pd.Series({"a": 1.5, "b": 0.0, "c": 2.25, "d": 0.7})
    features = pd.DataFrame({"feature_a": rng.integers(0, 5, 20), "feature_b": rng.integers(0, 5, 20)}, index=index)
    target = pd.Series(rng.integers(0, 5, 20) / 4, index=index)
    world = World(good, target, stakes.drop("b"), features.astype("int8"), frames.meta_model(good, stakes.drop("b")))
    before = bits(ALL[key](world))
    b = pd.Series(0.5, index=index) if bad == "constant" else good["a"] ** 2
    if bad != "constant":
        b["n03"] = {"nan": np.nan, "inf": np.inf, "below": -0.001, "above": 1.001}[bad]
    refused = replace(world, predictions=good.assign(b=b), stakes=stakes)
    try:
        after = ALL[key](refused)
    except StakeweightError:
        return
    assert numbers_of(after).isna()["b"]
    assert {model: value for model, value in bits(after).items() if model != "b"} == before


@pytest.mark.parametrize("which", ["predictions", "target"])
def test_scores__refuse_an_id_that_comes_twice(which: str) -> None:
    p = pd.DataFrame({"m": [0.1, 0.7, 0.4, 0.9, 0.2, 0.3]}, index=list("abcdef"))
    target = pd.Series([0, 0.25, 0.5, 0.75, 1, 0.5], index=p.index)
    if which == "predictions":
        p = pd.concat([p, p.iloc[:1]])
    else:
        target = pd.concat([target, target.iloc[:1]])
    with pytest.raises(StakeweightError):
        frames.corr(p, target)


def test_meta_model__does_not_exist_where_nobody_staked() -> None:
    """A meta model of zeros would give everybody a contribution to nothing."""
    p = pd.DataFrame({"a": [0.1, 0.7, 0.4], "b": [0.3, 0.2, 0.9]}, index=["x", "y", "z"])
    try:
        meta = frames.meta_model(p, pd.Series({"a": 0.0, "b": 0.0}))
    except StakeweightError:
        return
    assert numbers_of(meta).isna().all()
