"""Statistics: against closed forms, scipy, and slow ways to the same number."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.chain import Chain, RoundDates, Transfer
from scoring.errors import OperatorError
from scoring.lab.statistics import (
    Drawdown,
    Interval,
    Resampling,
    Signs,
    block_bootstrap,
    compounding,
    drawdowns,
    effective_number,
    gini,
    largest_drawdown,
    mean,
    pearson,
    rounds_drawn,
    sign_test,
)

ATOMS = st.lists(st.integers(0, 10**26), min_size=1, max_size=30)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False)
RETURNS = st.lists(st.floats(-0.5, 0.5, allow_nan=False), max_size=30)
FIRST_DRAWN = [[0, 1, 1, 2, 4, 5], [0, 1, 5, 0, 2, 3]]
START = datetime(2026, 1, 5, tzinfo=UTC)


def days(count: float) -> datetime:
    return START + timedelta(days=count)


# Inequality


@settings(deadline=None)
@given(ATOMS)
def test_gini__is_the_mean_absolute_difference_over_twice_the_mean(atoms: list[int]) -> None:
    whole = sum(atoms)
    slow = Fraction(sum(abs(a - b) for a in atoms for b in atoms), 2 * len(atoms) * whole) if whole else Fraction(0)
    assert gini(atoms) == pytest.approx(float(slow), abs=1e-12)


def test_gini__of_equal_amounts_is_0_and_of_one_who_has_all_1_less_a_share() -> None:
    assert gini([7] * 9) == 0
    assert gini([0, 0, 0, 10**30]) == 0.75
    assert gini([0.0, 0.0]) == 0
    assert math.isnan(gini([]))
    assert gini([Decimal(1), Decimal(3)]) == gini(np.array([3, 1])) == pytest.approx(0.25)


@settings(deadline=None)
@given(ATOMS, st.randoms(use_true_random=False))
def test_gini__knows_no_order(atoms: list[int], random: object) -> None:
    mixed = list(atoms)
    random.shuffle(mixed)
    assert gini(mixed) == gini(atoms)


@settings(deadline=None)
@given(ATOMS)
def test_effective_number__is_exact_to_a_double(atoms: list[int]) -> None:
    squares = sum(each * each for each in atoms)
    slow = Fraction(sum(atoms) ** 2, squares) if squares else Fraction(0)
    assert effective_number(atoms) == pytest.approx(float(slow), rel=1e-12)


def test_effective_number__of_n_equal_weights_is_n() -> None:
    assert effective_number([0.125] * 8) == 8
    assert effective_number([0, 5, 0]) == 1
    assert effective_number([1e-200, 1e-200]) == 2
    assert effective_number([]) == effective_number([0, 0]) == 0


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf])
def test_gini_and_effective_number__need_amounts(wrong: float) -> None:
    for statistic in (gini, effective_number):
        with pytest.raises(ValueError, match="finite numbers ≥ 0"):
            statistic([1, wrong, 2])


# Intervals and signs


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**64 - 1))
def test_rounds_drawn__are_blocks_in_a_circle(rounds: int, block: int, seed: int) -> None:
    drawn = rounds_drawn(rounds, Resampling(block=block, samples=5, seed=seed))
    assert drawn.shape == (5, rounds)
    assert ((drawn >= 0) & (drawn < rounds)).all()
    for at in range(1, rounds):
        if at % block:
            assert np.array_equal(drawn[:, at], (drawn[:, at - 1] + 1) % rounds)


def test_rounds_drawn__begin_anywhere_alike() -> None:
    drawn = rounds_drawn(7, Resampling(block=2, samples=5000, seed=3))
    counts = np.bincount(drawn[:, ::2].ravel(), minlength=7)
    assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_rounds_drawn__are_these_forever() -> None:
    assert rounds_drawn(6, Resampling(block=2, samples=2, seed=1)).tolist() == FIRST_DRAWN


def test_rounds_drawn__more_samples_leave_the_first_as_they_were() -> None:
    few, many = (rounds_drawn(9, Resampling(block=2, samples=samples, seed=5)) for samples in (10, 50))
    assert np.array_equal(few, many[:10])


def test_block_bootstrap__covers_the_mean_of_independent_rounds_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(11), 0
    for trial in range(200):
        found = block_bootstrap(random.normal(3, 2, 60), Resampling(block=1, samples=500, seed=trial, level=0.9))
        covered += found.low <= 3 <= found.high
    assert 165 <= covered <= 195  # 180 expected


def test_block_bootstrap__is_as_wide_as_the_normal_interval_of_many_rounds() -> None:
    values = np.random.default_rng(2).normal(size=2000)
    found = block_bootstrap(values, Resampling(block=1, samples=4000))
    width = 2 * 1.96 * values.std() / math.sqrt(values.size)
    assert found.high - found.low == pytest.approx(width, rel=0.06)


def test_block_bootstrap__blocks_widen_the_interval_of_rounds_that_are_alike() -> None:
    steps = np.random.default_rng(4).normal(size=404)
    overlapping = np.array([steps[at : at + 5].sum() for at in range(400)])
    single, blocks = (block_bootstrap(overlapping, Resampling(block=block)) for block in (1, 20))
    assert blocks.high - blocks.low > 1.5 * (single.high - single.low)


@settings(max_examples=30, deadline=None)
@given(st.lists(FLOATS, min_size=8, max_size=30), st.integers(1, 4), st.integers(0, 50))
def test_block_bootstrap__of_the_mean_is_that_of_the_statistic_mean(values: list[float], block: int, seed: int) -> None:
    plan = Resampling(block=block, samples=50, seed=seed)
    fast = block_bootstrap(np.array(values), plan)
    slow = block_bootstrap(np.array(values), plan, lambda drawn: math.fsum(drawn) / drawn.size)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), rel=1e-9, abs=1e-6)


def test_block_bootstrap__keeps_the_columns_of_a_round_together() -> None:
    values = np.arange(20.0)
    both = np.column_stack([values, 3 * values])
    ratio = block_bootstrap(both, Resampling(), lambda drawn: float(drawn[:, 1].sum() / max(drawn[:, 0].sum(), 1e-9)))
    assert (ratio.low, ratio.high) == pytest.approx((3, 3))


def test_block_bootstrap__leaves_out_rounds_that_have_none() -> None:
    values = np.array([1.0, np.nan] * 10)
    assert block_bootstrap(values, Resampling(block=2)) == Interval(1.0, 1.0)
    nothing = block_bootstrap(np.full(20, np.nan), Resampling(block=2))
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.high)
    assert math.isnan(mean(np.full(3, np.nan)))


def test_block_bootstrap__says_nothing_of_fewer_rounds_than_two_blocks() -> None:
    found = block_bootstrap(np.arange(7.0), Resampling(block=4))
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("wrong", [{"block": 0}, {"samples": 0}, {"level": 1.0}, {"level": 0.0}, {"seed": -1}])
def test_resampling__says_what_must_hold(wrong: dict[str, float]) -> None:
    with pytest.raises(OperatorError, match="a bootstrap"):
        Resampling(**wrong)


@settings(deadline=None)
@given(st.lists(st.sampled_from([-2.5, -1.0, 0.0, 0.5, math.nan]), max_size=200))
def test_sign_test__is_the_exact_binomial_test(values: list[float]) -> None:
    positive, negative = sum(each > 0 for each in values), sum(each < 0 for each in values)
    count = positive + negative
    expected = scipy.stats.binomtest(positive, count, 0.5).pvalue if count else 1.0
    found = sign_test(values)
    assert (found.positive, found.negative) == (positive, negative)
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_sign_test__takes_money_and_thirty_rounds_of_one_sign() -> None:
    assert sign_test([10**25] * 30) == Signs(30, 0, 2 / 2**30)
    assert sign_test([Decimal("0.5"), Decimal(-3)]) == Signs(1, 1, 1.0)


# Wealth


def test_drawdowns__are_told_by_start_trough_end_and_depth() -> None:
    returns = [0.1, -0.5, 0.2, -0.5, 4.0, 0.0, -0.25, 0.0]
    first, second = drawdowns(returns)
    assert (first.start, first.trough, first.end) == (1, 3, 4)
    assert first.depth == pytest.approx(0.7)
    assert second == Drawdown(6, 6, None, 0.25)
    assert largest_drawdown(returns) == first


def test_drawdowns__of_wealth_that_never_falls_are_none() -> None:
    assert drawdowns([0.0, 0.1, math.nan, 0.2]) == drawdowns([]) == []
    assert largest_drawdown([0.0]) is None


def test_drawdowns__end_in_ruin_where_all_is_lost() -> None:
    assert drawdowns([-1.0, 0.5]) == [Drawdown(0, 0, None, 1.0)]
    with pytest.raises(ValueError, match="≥ −1"):
        drawdowns([-1.1])


@settings(deadline=None)
@given(RETURNS)
def test_drawdowns__cover_exactly_the_rounds_below_an_earlier_peak(returns: list[float]) -> None:
    wealth = np.cumprod([1.0, *(1.0 + each for each in returns)])
    below = {at for at in range(len(returns)) if wealth[at + 1] < wealth[: at + 1].max()}
    found = drawdowns(returns)
    covered = {at for each in found for at in range(each.start, len(returns) if each.end is None else each.end)}
    assert covered == below
    worst = 1 - (wealth / np.maximum.accumulate(wealth)).min()
    deepest = largest_drawdown(returns)
    assert (0.0 if deepest is None else deepest.depth) == pytest.approx(worst, abs=1e-12)


def test_compounding__of_weekly_rounds_is_the_recurrence_of_the_tournament() -> None:
    rates = np.random.default_rng(8).uniform(-0.2, 0.25, 40)
    closes = [days(7 * at) for at in range(40)]
    resolves = [days(7 * (at + 4)) for at in range(40)]
    stakes, payouts = [], []
    for at in range(40):
        stakes.append((stakes[-1] if at else 1.0) + (payouts[at - 4] if at >= 4 else 0.0))
        payouts.append(stakes[-1] * rates[at])
    expected = 1.0 + np.cumsum(payouts)
    assert compounding(rates, closes, resolves) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5), st.integers(-4, 4)), min_size=1, max_size=8))
def test_compounding__follows_the_chain_of_stakes(rounds: list[tuple[int, int, int]]) -> None:
    unit = 10**24
    dates = [RoundDates(days(at + lag), number, days(at), days(at - 1)) for number, (at, lag, _) in enumerate(rounds)]
    chain = Chain(dates, [Transfer(days(-9), "a", unit)])
    after, at_close = {}, {}
    while (number := chain.next_round) is not None:
        at_close |= {each.number: each.closes_at for each in dates}
        staked = chain.at_close(number)["a"]
        chain.settle(number, {"a": max(staked * rounds[number][2] // 4, -chain.balances["a"])})
        after[number] = chain.balances["a"]
    found = compounding(
        [rate / 4 for _, _, rate in rounds], [each.closes_at for each in dates], [each.resolves_at for each in dates]
    )
    # `balances` already holds what the chain walked on to; closes change nothing and there is one transfer only
    assert found.tolist() == pytest.approx([after[at] / unit for at in range(len(rounds))], rel=1e-12, abs=1e-18)


def test_compounding__folds_many_samples_as_it_folds_each() -> None:
    rates = np.random.default_rng(5).uniform(-0.9, 0.9, (4, 12))
    closes, resolves = [days(at) for at in range(12)], [days(at + 3.5) for at in range(12)]
    both = compounding(rates, closes, resolves)
    assert np.array_equal(both, np.stack([compounding(each, closes, resolves) for each in rates]))


def test_compounding__a_round_without_a_rate_changes_nothing() -> None:
    assert compounding([math.nan, 0.5], [days(0), days(1)], [days(2), days(3)]).tolist() == [1.0, 1.5]


def test_compounding__needs_rounds_that_close_before_they_resolve() -> None:
    with pytest.raises(OperatorError, match="close before they resolve"):
        compounding([0.1], [days(1)], [days(1)])
    with pytest.raises(ValueError, match="2 rates, 1 closes"):
        compounding([0.1, 0.2], [days(1)], [days(2)])


# Correlation


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-99, 99), st.integers(-99, 99)), min_size=2, max_size=50))
def test_pearson__is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    found = pearson(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert found is None
    else:
        assert found == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-9)


def test_pearson__knows_no_scale_and_leaves_out_what_is_missing() -> None:
    x, y = np.array([1.0, 2.0, np.nan, 4.0]), np.array([2.0, 4.0, 7.0, 8.0])
    assert pearson(x, y) == pytest.approx(1.0)
    assert pearson(x * 1e-300, -y * 1e300) == pytest.approx(-1.0)
    assert pearson(np.full(5, 0.1), np.arange(5.0)) is None
    assert pearson(np.array([1.0]), np.array([2.0])) is None
    assert pearson(np.array([]), np.array([])) is None
