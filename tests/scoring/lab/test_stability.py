"""Stability's figures are those of an outside library, and what is absent counts nowhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoring.lab.stability import (
    distance,
    rank_persistence,
    sign_changes,
    spread_over_models,
    spread_over_rounds,
    standard_deviation,
)

NAN = float("nan")
SCORES = np.array([[1.0, 2.0, NAN, 4.0], [3.0, -2.0, 5.0, NAN], [5.0, 3.0, -1.0, NAN]])


def test_spread__by_hand() -> None:
    # sd of (1 3 5), (2 −2 3), (5 −1); the last model has one round
    assert spread_over_rounds(SCORES) == pytest.approx((2.0 + np.sqrt(7.0) + np.sqrt(18.0)) / 3)
    # sd of (1 2 4), (3 −2 5), (5 3 −1)
    assert spread_over_models(SCORES) == pytest.approx(
        (np.sqrt(7.0 / 3.0) + np.sqrt(13.0) + np.sqrt(28.0 / 3.0)) / 3, rel=1e-12
    )


def test_rank_persistence__is_scipys_over_models_in_both_rounds() -> None:
    random = np.random.default_rng(3)
    scores = random.normal(size=(4, 20))
    scores[1, 4] = scores[2, 7] = NAN
    pairs = [(0, 1), (1, 3)]
    expected = [stats.spearmanr(scores[a], scores[b], nan_policy="omit").statistic for a, b in pairs]
    np.testing.assert_allclose(rank_persistence(scores, pairs), expected)


def test_rank_persistence__two_models_in_common_say_nothing() -> None:
    assert rank_persistence(SCORES, [(0, 1)]).size == 0
    assert rank_persistence(SCORES, []).size == 0


def test_sign_changes__by_hand() -> None:
    # 0→1: models 0 and 1 in both, model 1 changes; 1→2: models 0 1 2, of which 1 and 2 change
    assert sign_changes(SCORES, [(0, 1), (1, 2)]) == pytest.approx(3 / 5)
    assert sign_changes(np.array([[0.0, 1.0], [1.0, 0.0]]), [(0, 1)]) == 0.0
    assert sign_changes(SCORES, []) is None


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20), st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_distance__is_the_largest_gap_at_any_value(one: list[int], other: list[int]) -> None:
    a, b = np.array(one, dtype=np.float64), np.array(other, dtype=np.float64)
    gaps = [sum(x <= at for x in one) / len(one) - sum(x <= at for x in other) / len(other) for at in range(-5, 6)]
    assert distance(a, b) == pytest.approx(max(map(abs, gaps)))


def test_standard_deviation__is_numpys_and_none_of_one_value() -> None:
    values = np.random.default_rng(0).normal(size=37)
    assert standard_deviation(values) == pytest.approx(np.std(values, ddof=1), rel=1e-13)
    assert standard_deviation(values[:1]) is None
    assert distance(values, values[:0]) is None
