"""Influence is a sum a person can do, and its correlations and shares are those of an outside library."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoring.lab.influence import average_ranks, influence, of_means, share_above, spearman
from scoring.lab.statistics import pearson

NAN = float("nan")


def test_influence__by_hand() -> None:
    found = influence(
        [2, 1, 1, 1, 2, 2],
        ["ann", "ann", "ann", "bob", "bob", "cat"],
        np.array([10.0, 4.0, 6.0, 5.0, 7.0, 0.0]),
        np.array([0.1, 0.5, -0.5, 0.2, NAN, 0.3]),
    )
    assert found.holders == ("ann", "bob")  # cat has nothing at stake, bob's second stake has no TC
    assert found.left_out == 1
    np.testing.assert_allclose(found.stake, [[10.0, 5.0], [10.0, 0.0]])
    np.testing.assert_allclose(found.influence, [[-1.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(found.mean_stake(), [10.0, 2.5])
    np.testing.assert_allclose(found.mean_influence(), [0.0, 0.5])
    np.testing.assert_allclose(found.stacked(), [[10.0, 5.0, -1.0, 1.0], [10.0, 0.0, 1.0, 0.0]])


def test_influence__without_a_tc_there_are_no_holders() -> None:
    found = influence([1, 1], ["ann", "bob"], np.ones(2), np.full(2, NAN))
    assert (found.holders, found.left_out) == ((), 2)
    assert found.mean_stake().size == 0


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=30))
def test_average_ranks__are_scipys(values: list[int]) -> None:
    given = np.array(values, dtype=np.float64)
    np.testing.assert_array_equal(average_ranks(given), stats.rankdata(given))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=30))
def test_spearman__is_scipys_and_none_where_a_side_is_constant(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=np.float64).T.copy()
    found = spearman(x, y)
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_share_above__by_hand_with_equal_stakes() -> None:
    stakes, share = share_above(np.array([5.0, 1.0, 5.0, 2.0]), np.array([3.0, -1.0, -4.0, 2.0]))
    np.testing.assert_array_equal(stakes, [1.0, 2.0, 5.0, 5.0])
    np.testing.assert_allclose(share, [1.0, 0.9, 0.7, 0.7])


def test_share_above__nobody_moves_anything() -> None:
    np.testing.assert_array_equal(share_above(np.array([1.0, 2.0]), np.zeros(2))[1], [0.0, 0.0])


def test_of_means__is_the_correlation_of_the_drawn_rounds_means() -> None:
    random = np.random.default_rng(1)
    drawn = random.random((6, 10))
    expected = stats.pearsonr(drawn[:, :5].mean(axis=0), drawn[:, 5:].mean(axis=0)).statistic
    assert of_means(pearson)(drawn) == pytest.approx(expected)
    assert np.isnan(of_means(pearson)(np.ones((3, 4))))
