"""Weight policies: what they promise, on stakes of every size, and who can get around them."""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import OperatorError
from scoring.weight_limits import capped
from scoring.weight_policies import Field, WeightStep, amounts_of
from scoring.weights import stake_weights

NMR = 10**18
STAKES = st.lists(st.one_of(st.just(0), st.integers(1, 20_000 * NMR)), min_size=1, max_size=30)
CAPS = st.decimals("0.01", "1", places=3)


def names(count: int) -> list[str]:
    return [f"model_{at:02}" for at in range(count)]


def weights(steps: Sequence[WeightStep], atoms: Sequence[int], accounts: Sequence[str | None] | None = None) -> list:
    return stake_weights(amounts_of(steps, field(atoms, accounts))).tolist()


def field(atoms: Sequence[int], accounts: Sequence[str | None] | None = None) -> Field:
    owners = [None] * len(atoms) if accounts is None else accounts
    return Field(tuple(names(len(atoms))), tuple(owners), tuple(atoms))


def joint(values: Sequence[float], accounts: Sequence[str | None]) -> list[float]:
    found: dict[object, list[float]] = defaultdict(list)
    for at, (value, account) in enumerate(zip(values, accounts, strict=True)):
        found[at if account is None else account].append(value)
    return [math.fsum(each) for each in found.values()]


def water_filled(totals: Sequence[int], cap: Fraction) -> list[Fraction]:
    """The slow way: whoever is above the cap is set to it, again and again, until nobody is."""
    held: set[int] = set()
    positive = [at for at, total in enumerate(totals) if total]
    if cap * len(positive) <= 1:
        return [Fraction(int(at in positive), max(len(positive), 1)) for at in range(len(totals))]
    while True:
        rest = sum(total for at, total in enumerate(totals) if at not in held)
        shares = [
            cap if at in held else (1 - len(held) * cap) * Fraction(total, rest) for at, total in enumerate(totals)
        ]
        above = {at for at, share in enumerate(shares) if share > cap}
        if not above:
            return shares
        held |= above


@given(STAKES)
def test_amounts_of__no_step_and_stake_are_the_stakes_themselves(atoms: list[int]) -> None:
    for steps in ((), (WeightStep("stake"),)):
        assert amounts_of(steps, field(atoms)) == atoms


@given(STAKES, CAPS)
def test_capped__is_what_the_slow_way_finds(atoms: list[int], cap: Decimal) -> None:
    found = weights([WeightStep("cap_model", cap)], atoms)
    assert found == pytest.approx([float(share) for share in water_filled(atoms, Fraction(cap))], rel=1e-15, abs=1e-40)


@given(STAKES, CAPS, st.data())
def test_caps__sum_to_one_hold_and_change_nothing_when_applied_again(
    atoms: list[int], cap: Decimal, data: st.DataObject
) -> None:
    accounts = data.draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=len(atoms), max_size=len(atoms)))
    step = WeightStep("cap_account", cap)
    once = weights([step], atoms, accounts)
    if not any(atoms):
        assert once == [0.0] * len(atoms)
        return
    assert math.fsum(once) == pytest.approx(1, abs=1e-15)
    shares = [share for share in joint(once, accounts) if share]
    assert max(shares) <= max(float(cap), 1 / len(shares)) * (1 + 1e-15)
    assert weights([step, step], atoms, accounts) == pytest.approx(once, rel=1e-15)
    assert [value > 0 for value in once] == [amount > 0 for amount in atoms]


@given(STAKES, CAPS, st.integers(2, 5))
def test_cap_account__nobody_gains_by_splitting_a_stake_over_his_own_models(
    atoms: list[int], cap: Decimal, parts: int
) -> None:
    """What a cap per model does not promise."""
    whole, others = 1_000 * NMR, list(atoms)
    step = WeightStep("cap_account", cap)
    owners = [f"other_{at}" for at in range(len(others))]
    together = weights([step], [whole, *others], ["me", *owners])[0]
    split = weights([step], [whole // parts] * parts + others, ["me"] * parts + owners)[:parts]
    assert math.fsum(split) == pytest.approx(together, rel=1e-13)


def test_cap_model__falls_to_whoever_splits_his_stake() -> None:
    others = [100 * NMR] * 10
    step = WeightStep("cap_model", Decimal("0.1"))
    together = weights([step], [9_000 * NMR, *others])[0]
    split = weights([step], [3_000 * NMR] * 3 + others)[:3]
    assert together == 0.1
    assert math.fsum(split) == pytest.approx(0.3)


@given(STAKES)
def test_concave_policies__keep_the_order_and_flatten_the_ratios(atoms: list[int]) -> None:
    staked = [amount for amount in atoms if amount]
    for step in (WeightStep("power", Decimal("0.5")), WeightStep("log", Decimal(NMR)), WeightStep("equal")):
        found = [value for value in weights([step], atoms) if value]
        assert len(found) == len(staked)
        by_stake = [value for _, value in sorted(zip(staked, found, strict=True))]
        assert all(a <= b for a, b in itertools.pairwise(by_stake))
        if staked and min(staked) >= NMR // 1000:
            assert max(found) / min(found) <= max(staked) / min(staked) * (1 + 1e-12)


def test_concave_policies__are_the_root_and_the_logarithm() -> None:
    atoms = [NMR // 7, 3 * NMR, 17_143 * NMR]
    for step, function in (
        (WeightStep("power", Decimal("0.5")), lambda nmr: nmr**0.5),
        (WeightStep("power", Decimal("0.3")), lambda nmr: nmr**0.3),
        (WeightStep("log", Decimal(NMR)), np.log1p),
        (WeightStep("log", Decimal(10 * NMR)), lambda nmr: np.log1p(nmr / 10)),
    ):
        values = np.array([function(amount / NMR) for amount in atoms])
        assert weights([step], atoms) == pytest.approx((values / values.sum()).tolist(), rel=1e-14)


def test_amounts_of__takes_the_steps_in_order() -> None:
    atoms = [10_000 * NMR, 100 * NMR, NMR]
    root, cap = WeightStep("power", Decimal("0.5")), WeightStep("cap_model", Decimal("0.5"))
    assert weights([root, cap], atoms) == pytest.approx([0.5, 0.5 * 10 / 11, 0.5 / 11])
    roots = np.sqrt([1.0, 100 / 101, 1 / 101])  # half for the first, and half in the ratio 100 : 1
    assert weights([cap, root], atoms) == pytest.approx((roots / roots.sum()).tolist())


@pytest.mark.parametrize(
    ("policy", "value", "message"),
    [
        ("power", None, "power needs exponent, a number above 0, found None"),
        ("power", Decimal(0), "power needs exponent"),
        ("power", Decimal("1.5"), r"exponent of power must be at most 1, found 1\.5"),
        ("cap_model", Decimal("-0.1"), "cap_model needs cap"),
        ("cap_account", Decimal("NaN"), "cap_account needs cap"),
        ("log", Decimal(0), "log needs scale"),
    ],
)
def test_weight_step__refuses_a_number_that_is_none_of_its_own(policy, value, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        WeightStep(policy, value)


def test_capped__one_unit_alone_has_everything() -> None:
    assert stake_weights(capped([5, 7], Fraction(1, 10), ["a", "a"])).tolist() == pytest.approx([5 / 12, 7 / 12])
