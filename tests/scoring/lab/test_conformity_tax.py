"""The proposal's simulation is its own to the last digit, and its tax does what the proposal says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import OperatorError
from scoring.lab.conformity_tax import by_threshold, conformity_tax, curves, simulation, total

TOTALS = {None: 30192.954174991097, 100.0: 26297.006830040107, 50.0: 23360.652071561824, 10.0: 16060.869966036134}
amounts = st.floats(-1e6, 1e6, allow_subnormal=False)
shares = st.floats(-2.0, 2.0, allow_subnormal=False)
thresholds = st.floats(0.0, 1e6, allow_subnormal=False)


def test_by_threshold__the_totals_are_the_proposals_digits() -> None:
    assert {threshold: total(paid) for threshold, paid in by_threshold(simulation()).items()} == TOTALS


def test_simulation__its_draws_are_the_proposals_and_touch_no_other_stream() -> None:
    before = np.random.get_state(legacy=False)["state"]
    found = simulation()
    after = np.random.get_state(legacy=False)["state"]
    assert after["pos"] == before["pos"]
    np.testing.assert_array_equal(after["key"], before["key"])
    assert found.payouts.size == found.meta_model_corr.size == 1_000
    assert found.payouts.max() == pytest.approx(600.0, rel=1e-15)
    assert (np.diff(found.payouts) >= 0.0).all()
    assert found.meta_model_corr.min() >= 0.0
    assert found.meta_model_corr.max() <= 1.0
    assert found.meta_model_corr.mean() == pytest.approx(0.6, abs=0.02)


def test_curves__by_hand_at_the_ends_and_the_threshold() -> None:
    payouts, after = curves()
    assert (payouts[0], payouts[-1], payouts.size) == (-75.0, 200.0, 100)
    # 50 and 150 above it, of which 1, 0.8, 0.2 and 0.05 are left
    assert [curve[-1] for curve in after.values()] == pytest.approx([200.0, 170.0, 80.0, 57.5])
    for curve in after.values():
        np.testing.assert_array_equal(curve[payouts <= 50.0], payouts[payouts <= 50.0])


@settings(deadline=None)
@given(amounts, shares, thresholds)
def test_conformity_tax__never_more_than_the_payout_and_losses_untouched(p: float, m: float, t: float) -> None:
    taxed = float(conformity_tax(np.array([p]), np.array([m]), t)[0])
    assert taxed <= p + 1e-9 * abs(p)
    if p <= t:
        assert taxed == p
    else:
        assert taxed >= t


@settings(deadline=None)
@given(amounts, amounts, shares, thresholds)
def test_conformity_tax__who_earns_more_keeps_at_least_as_much(p: float, q: float, m: float, t: float) -> None:
    low, high = conformity_tax(np.array([min(p, q), max(p, q)]), np.full(2, m), t)
    assert low <= high + 1e-9 * (1.0 + abs(high))


@settings(deadline=None)
@given(st.floats(0.0, 1e6), thresholds)
def test_conformity_tax__a_correlation_outside_0_and_1_counts_as_the_nearer_end(p: float, t: float) -> None:
    below, zero, one, above = conformity_tax(np.full(4, p), np.array([-0.7, 0.0, 1.0, 1.7]), t)
    assert below == zero == pytest.approx(p)
    assert above == one == pytest.approx(min(p, t))


@pytest.mark.parametrize("threshold", [-1.0, float("nan")])
def test_conformity_tax__refuses_a_threshold_that_would_tax_losses(threshold: float) -> None:
    with pytest.raises(OperatorError, match="threshold must be at least 0"):
        conformity_tax(np.zeros(1), np.zeros(1), threshold)
