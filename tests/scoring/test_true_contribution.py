"""Dropout bags, the price vector's scores, and what is paid: exact, seeded, the same for equal models."""

import statistics
from decimal import Decimal
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from scoring.bags import dropout_kept
from scoring.errors import OperatorError
from scoring.meta_model import from_sums, kept_sums, partial_sums
from scoring.portfolio.report import BagReport
from scoring.published import units_to_float
from scoring.ranks import rank
from scoring.rounds import Targets, TrueContributionOptions
from scoring.true_contribution import (
    bag_alphas,
    flagged,
    returns_of_universe,
    scaling,
    true_contribution,
)
from scoring.weights import stake_weights
from tests.reference import philox

STOCKS, MODELS = 211, 17
ATOMS = [0 if model % 5 == 0 else 10**18 * (model + 1) ** 3 for model in range(MODELS)]
random = np.random.default_rng(8)
PREDICTIONS = random.uniform(size=(MODELS, STOCKS)).round(2)
RANKS = rank([f"m{model:02d}" for model in range(MODELS)], PREDICTIONS)
PRICE = random.normal(size=STOCKS)


def gauss(values: np.ndarray) -> np.ndarray:
    return norm.ppf((rankdata(values, axis=-1) - 0.5) / values.shape[-1])


@pytest.mark.parametrize("dropout", ["0", "0.25", "0.5", "0.9"])
def test_dropout_kept__follows_the_words_of_the_published_generator(dropout: str) -> None:
    kept = dropout_kept(ATOMS, seed=77, bags=3, dropout=Decimal(dropout))
    staked = [row for row, atoms in enumerate(ATOMS) if atoms]
    for bag in range(3):
        words = islice(philox.words(counter=(0, bag, 0, 0), key=(77, 2)), len(staked))
        survivors = [row for row, word in zip(staked, words, strict=True) if word >= Fraction(dropout) * 2**64]
        assert np.flatnonzero(kept[bag]).tolist() == survivors


def test_dropout_kept__drops_the_stated_share_and_nobody_twice_the_same() -> None:
    kept = dropout_kept([1] * 2000, seed=1, bags=50, dropout=Decimal("0.3"))
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / kept.size)
    assert len({row.tobytes() for row in kept}) == 50
    assert np.array_equal(dropout_kept([1] * 2000, seed=1, bags=5, dropout=Decimal("0.3"), first=45), kept[45:])


def test_kept_sums__are_the_meta_models_of_the_survivors_to_the_last_bit() -> None:
    weights = stake_weights(ATOMS)
    kept = dropout_kept(ATOMS, seed=3, bags=6, dropout=Decimal("0.5"))
    assert np.array_equal(kept_sums(RANKS, weights, kept), partial_sums(RANKS, np.where(kept, weights, 0.0)))


def test_kept_sums__without_bags_are_empty() -> None:
    assert kept_sums(RANKS, stake_weights(ATOMS), np.zeros((0, MODELS), bool)).shape == (0, STOCKS)


def test_bag_alphas__double_the_survivors_of_one_half() -> None:
    weights = stake_weights(ATOMS)
    kept = dropout_kept(ATOMS, seed=3, bags=4, dropout=Decimal("0.5"))
    alphas = bag_alphas(kept_sums(RANKS, weights, kept), TrueContributionOptions())
    expected = 2 * (np.where(kept, weights, 0.0) @ gauss(PREDICTIONS))
    assert np.abs(alphas - expected).max() < 1e-13
    everybody = kept_sums(RANKS, weights, np.ones((1, MODELS), bool))
    assert np.array_equal(
        bag_alphas(everybody, TrueContributionOptions(dropout=Decimal(0)))[0], from_sums(everybody[0])
    )


def test_true_contribution__is_the_price_times_the_gaussianised_ranks() -> None:
    assert np.abs(true_contribution(RANKS, PRICE) - gauss(PREDICTIONS) @ PRICE).max() < 1e-12


def test_true_contribution__of_one_minus_p_is_exactly_negative_and_of_a_copy_identical() -> None:
    twins = rank(
        ["p", "copy", "map", "mirror"], np.stack([PREDICTIONS[3]] * 2 + [PREDICTIONS[3] ** 3, 1 - PREDICTIONS[3]])
    )
    own, copy, mapped, mirror = true_contribution(twins, PRICE)
    assert own == copy == mapped == -mirror


def test_returns_of_universe__a_stock_without_a_return_did_not_move() -> None:
    targets = Targets(np.array([0, 2]), np.array([0.0, 1.0]), 0.5, np.array([0.1, -0.2]))
    assert returns_of_universe(targets, 4).tolist() == [0.1, 0.0, -0.2, 0.0]


@given(st.lists(st.integers(-(10**12), 10**12), min_size=2, max_size=40).filter(lambda raw: len(set(raw)) > 1))
def test_scaling__z_scores_have_the_stated_mean_and_spread(raw: list[int]) -> None:
    found = scaling(raw, TrueContributionOptions(scaling="z_score"))
    values = [value / 1e12 for value in raw]
    assert found.centre == pytest.approx(statistics.fmean(values), abs=1e-15)
    assert found.factor == pytest.approx(0.04 / statistics.pstdev(values), rel=1e-9)


@given(st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=40).filter(any))
def test_scaling__normalised_keeps_signs_and_opposites(raw: list[int]) -> None:
    found = scaling(raw, TrueContributionOptions(scaling="normalised", spread=Decimal("0.04")))
    assert found.centre == 0.0
    assert found.factor * np.sqrt(np.mean([units_to_float(value) ** 2 for value in raw])) == pytest.approx(0.04)
    for value in raw:
        assert found.apply(value) == -found.apply(-value)


def test_scaling__raw_changes_nothing_and_equal_scores_are_no_division_by_zero() -> None:
    assert scaling([5, 7], TrueContributionOptions(scaling="raw")).apply(123_456_789) == 123_456_789
    assert scaling([5, 5], TrueContributionOptions(scaling="z_score")).apply(5) == 0
    assert scaling([], TrueContributionOptions()).factor == 1.0


def test_flagged__counts_what_did_not_converge_or_sits_on_a_kink() -> None:
    reports = [BagReport(status, 4, 0.0, 0.0, 1e-3) for status in ("converged", "degenerate", "failed", "converged")]
    assert flagged(reports) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bags": 0}, "bags must be at least 1"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"dropout": Decimal(1)}, "dropout must be in 0 ≤ dropout < 1"),
        ({"spread": Decimal(0)}, "spread must be above 0"),
        ({"flagged_share": Decimal("1.1")}, "flagged_share must be from 0 to 1"),
    ],
)
def test_true_contribution_options__say_what_must_hold(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        TrueContributionOptions(**wrong)
