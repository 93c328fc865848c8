"""Weight policies that look at more than stakes: standings, families, an example, an operator's own function."""

import sys
import types
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import OperatorError
from scoring.families import Families
from scoring.weight_policies import (
    EXAMPLE,
    Field,
    Standings,
    WeightStep,
    amounts_of,
    check_order,
    examples,
    needs_standings,
    thresholds,
)
from scoring.weights import stake_weights

NMR = 10**18
ONE = 10**12
WITHIN, REPUTATION = WeightStep("within_account"), WeightStep("reputation")
STAKES = st.lists(st.one_of(st.just(0), st.integers(1, 20_000 * NMR)), min_size=1, max_size=20)
STANDING = st.one_of(st.none(), st.integers(-ONE, ONE), st.just(0))
OWN = "own_weight_rules"


def names(count: int) -> tuple[str, ...]:
    return tuple(f"model_{at:02}" for at in range(count))


def shares(amounts: Sequence[int]) -> list[Fraction]:
    return [Fraction(amount, sum(amounts)) for amount in amounts]


def standing(**of: int | None) -> dict[str, int]:
    return {name: units for name, units in of.items() if units is not None}


# Standings ----------------------------------------------------------------------------------------------------------


def test_within_account__is_the_example_of_the_proposal_exactly() -> None:
    """An account of weight 0.02 with its stakes 90 to 10 on two models: .018 and .002."""
    rest = names(2)
    accounts = Standings(accounts={"top_20": ONE // 50, "all_others": ONE - ONE // 50})
    field = Field((*rest, "z"), ("top_20", "top_20", "all_others"), (90 * NMR, 10 * NMR, 7 * NMR), accounts)
    amounts = amounts_of([WITHIN], field)
    assert shares(amounts) == [Fraction(18, 1000), Fraction(2, 1000), Fraction(98, 100)]
    assert stake_weights(amounts).tolist() == [0.018, 0.002, 0.98]


@given(STAKES, st.data())
def test_within_account__each_account_has_its_standing_whatever_it_stakes(
    atoms: list[int], data: st.DataObject
) -> None:
    owners = data.draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=len(atoms), max_size=len(atoms)))
    stands = standing(**{name: data.draw(STANDING) for name in "abc"})
    field = Field(names(len(atoms)), tuple(owners), tuple(atoms), Standings(accounts=stands))
    got = amounts_of([WITHIN], field)
    staked: dict[object, list[int]] = {}
    for at, (owner, stake) in enumerate(zip(owners, atoms, strict=True)):
        if stake:
            staked.setdefault(owner or at, []).append(at)
    above = {owner: stands.get(str(owner), 0) for owner in staked if stands.get(str(owner), 0) > 0}
    weight = above or dict.fromkeys(staked, 1)
    for owner, rows in staked.items():
        expected = Fraction(weight.get(owner, 0), sum(weight.values()))
        assert float(sum(Fraction(got[at], sum(got)) for at in rows)) == pytest.approx(float(expected), rel=1e-15)
        for at in rows:
            inside = Fraction(atoms[at], sum(atoms[each] for each in rows)) * expected
            assert got[at] / sum(got) == pytest.approx(float(inside), rel=1e-15, abs=1e-38)


def test_within_account__shares_what_the_step_before_left() -> None:
    field = Field(names(3), ("a", "a", "b"), (90, 10, 5), Standings(accounts={"a": 3, "b": 1}))
    assert shares(amounts_of([WeightStep("equal"), WITHIN], field)) == [Fraction(3, 8), Fraction(3, 8), Fraction(1, 4)]


@given(STAKES, st.data())
def test_reputation__is_the_stake_times_the_standing(atoms: list[int], data: st.DataObject) -> None:
    known = standing(**{name: data.draw(STANDING) for name in names(len(atoms))})
    got = amounts_of([REPUTATION], Field(names(len(atoms)), (None,) * len(atoms), tuple(atoms), Standings(known)))
    expected = [stake * max(known.get(name, 0), 0) for name, stake in zip(names(len(atoms)), atoms, strict=True)]
    assert got == (expected if any(expected) else atoms)


def test_reputation__after_equal_is_the_standing_alone() -> None:
    field = Field(names(4), (None,) * 4, (5, 900, 17, 0), Standings(standing(model_00=30, model_01=10, model_03=99)))
    assert shares(amounts_of([WeightStep("equal"), REPUTATION], field)) == [Fraction(3, 4), Fraction(1, 4), 0, 0]


@given(STAKES, st.integers(1, 30_000), st.decimals("-1", "1", places=2), st.data())
def test_limit_stake__holds_those_who_have_not_proved_themselves(
    atoms: list[int], limit: int, minimum: Decimal, data: st.DataObject
) -> None:
    known = standing(**{name: data.draw(STANDING) for name in names(len(atoms))})
    step = WeightStep("limit_stake", Decimal(limit * NMR), minimum=minimum)
    got = amounts_of([step], Field(names(len(atoms)), (None,) * len(atoms), tuple(atoms), Standings(known)))
    for name, stake, amount in zip(names(len(atoms)), atoms, got, strict=True):
        proved = name in known and Decimal(known[name]) / ONE >= minimum
        assert amount == (stake if proved else min(stake, limit * NMR))


def test_limit_stake__must_stand_where_amounts_are_still_currency() -> None:
    limit = WeightStep("limit_stake", Decimal(NMR), minimum=Decimal(0))
    near = WeightStep("minimum_example_correlation", minimum=Decimal("0.1"))
    check_order([WeightStep("stake"), near, limit, WeightStep("equal")])
    with pytest.raises(OperatorError, match="limit_stake is in currency and must stand before equal, found after it"):
        check_order([WeightStep("equal"), limit])


@pytest.mark.parametrize("step", [WITHIN, REPUTATION, WeightStep("limit_stake", Decimal(1), minimum=Decimal(0))])
def test_amounts_of__says_so_where_there_are_no_standings(step: WeightStep) -> None:
    with pytest.raises(OperatorError, match=f"{step.policy} needs standings, found none"):
        amounts_of([step], Field(("a",), ("b",), (1,)))


# Families -----------------------------------------------------------------------------------------------------------


def cap_family(cap: str) -> WeightStep:
    return WeightStep("cap_family", Decimal(cap), threshold=Decimal("0.95"))


def related(atoms: Sequence[int], groups: Sequence[int]) -> Field:
    alike = dict(zip(names(len(atoms)), groups, strict=True))
    families = Families(Decimal("0.95"), {model: (group, 1) for model, group in alike.items()}, alike)
    return Field(names(len(atoms)), (None,) * len(atoms), tuple(atoms), None, {Decimal("0.95"): families})


@given(STAKES, st.decimals("0.05", "1", places=2), st.integers(2, 5))
def test_cap_family__nobody_gains_by_copies_whoever_owns_them(others: list[int], cap: Decimal, parts: int) -> None:
    whole = 1_000 * NMR
    groups = list(range(1, len(others) + 1))
    together = stake_weights(amounts_of([cap_family(str(cap))], related([whole, *others], [0, *groups])))[0]
    field = related([whole // parts] * parts + others, [0] * parts + groups)
    split = stake_weights(amounts_of([cap_family(str(cap))], field))
    assert split[:parts].sum() == pytest.approx(together, rel=1e-13)
    within = max(float(cap), 1 / (1 + sum(stake > 0 for stake in others)))
    assert split[:parts].sum() <= within * (1 + 1e-14)


def test_cap_family__needs_the_families_at_its_threshold() -> None:
    with pytest.raises(OperatorError, match=r"cap_family needs the round's families at 0\.95, found none"):
        amounts_of([cap_family("0.1")], Field(("a",), ("b",), (1,)))


# An example ---------------------------------------------------------------------------------------------------------


def near(minimum: str, example: str | None = None) -> WeightStep:
    return WeightStep("minimum_example_correlation", minimum=Decimal(minimum), example=example)


def compared(*units: int | None, name: str = EXAMPLE) -> Field:
    return Field(names(len(units)), (None,) * len(units), (7,) * len(units), example={name: units})


def test_minimum_example_correlation__decides_by_the_published_correlation() -> None:
    assert amounts_of([near("0.1")], compared(ONE // 10, ONE // 10 - 1, None, -ONE, ONE)) == [7, 0, 0, 0, 7]
    assert amounts_of([near("-0.5", "bench")], compared(-ONE // 2, -ONE, name="bench")) == [7, 0]


def test_minimum_example_correlation__does_not_leave_a_round_without_anybody() -> None:
    for step, what in ((near("0.5"), "example_predictions.parquet"), (near("0.5", "bench"), "bench")):
        with pytest.raises(
            OperatorError, match=f"of at least 0.5 with {what} leaves no model with a stake that counts"
        ):
            amounts_of([step], compared(0, -ONE, name=step.example or EXAMPLE))
    assert amounts_of([near("0.5")], Field(("a",), (None,), (0,), example={EXAMPLE: (0,)})) == [0]


def test_minimum_example_correlation__needs_the_correlations_with_its_own_example() -> None:
    with pytest.raises(OperatorError, match="with bench needs the correlations with it, found none"):
        amounts_of([near("0.5", "bench")], compared(ONE))


# The operator's own -------------------------------------------------------------------------------------------------


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], list[WeightStep]]:
    """Makes a function the operator's own."""

    def named(function: Callable[..., object]) -> list[WeightStep]:
        module = types.ModuleType(OWN)
        module.weights = function
        monkeypatch.setitem(sys.modules, OWN, module)
        return [WeightStep(f"{OWN}:weights")]

    return named


FIELD = Field(("a", "b", "c"), ("x", "x", "y"), (4, 0, 9), Standings({"a": 1}))


def test_own__sees_amounts_and_field_and_stands_in_a_chain(own: Callable[..., list[WeightStep]]) -> None:
    seen: list[object] = []
    steps = own(lambda amounts, field: seen.extend([amounts, field]) or [each * 2 for each in amounts])
    assert amounts_of([WeightStep("equal"), *steps], FIELD) == [2, 0, 2]
    assert seen == [(1, 0, 1), FIELD]
    assert amounts_of(own(lambda amounts, field: np.array(amounts)), FIELD) == [4, 0, 9]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda amounts, field: [1, 0], "must return a whole number ≥ 0 for each of 3 models, found 2 of 2"),
        (lambda amounts, field: [1, 0, 0.5], "failed: TypeError"),
        (lambda amounts, field: [1, 0, True], "for each of 3 models, found 2 of 3"),
        (lambda amounts, field: [1, 0, -1], "found -1 for c with a stake of 9"),
        (lambda amounts, field: [1, 1, 1], "0 where there is no stake; found 1 for b with a stake of 0"),
        (lambda amounts, field: [0, 0, 0], f"{OWN}:weights leaves no model with a stake that counts"),
        (lambda amounts, field: None, "failed: TypeError"),
        (lambda amounts, field: 1 // 0, "failed: ZeroDivisionError: integer division or modulo by zero"),
        (lambda amounts: amounts, "failed: TypeError"),
    ],
)
def test_own__is_checked(own: Callable[..., list[WeightStep]], function: Callable[..., object], message: str) -> None:
    with pytest.raises(OperatorError, match=message) as caught:
        amounts_of(own(function), FIELD)
    assert "\n" not in str(caught.value)


def test_own__a_misspelt_name_is_found_out() -> None:
    with pytest.raises(OperatorError, match="weights: there is no module 'no_such_rules'"):
        amounts_of([WeightStep("no_such_rules:weights")], FIELD)


# Steps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (("cap_family", Decimal("0.1")), "cap_family needs threshold, a number above 0, found None"),
        (("cap_family", Decimal("0.1"), Decimal("0.5")), "threshold of cap_family must be above 0.5, found 0.5"),
        (("cap_family", Decimal("0.1"), Decimal(2)), "threshold of cap_family must be at most 1, found 2"),
        (("cap_family", None, Decimal(1)), "cap_family needs cap"),
        (("limit_stake", Decimal(0), None, Decimal(0)), "limit_stake needs limit, a number above 0, found 0"),
        (("limit_stake", Decimal(1)), "limit_stake needs minimum, a number, found None"),
        (("minimum_example_correlation",), "needs minimum, a number, found None"),
        (("minimum_example_correlation", None, None, Decimal("1.1")), r"must be at most 1, found 1\.1"),
        (("minimum_example_correlation", None, None, Decimal("-1.1")), r"must be at least -1, found -1\.1"),
        (("cap_everything",), "there is no policy 'cap_everything'"),
    ],
)
def test_weight_step__refuses_numbers_that_are_none_of_its_own(step: tuple[object, ...], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        WeightStep(*step)


def test_stated__says_what_a_step_has_and_no_more() -> None:
    assert WeightStep("equal").stated() == {"policy": "equal", "value": None}
    assert cap_family("0.1").stated() == {"policy": "cap_family", "value": Decimal("0.1"), "threshold": Decimal("0.95")}
    assert near("0", "bench").stated() == {
        "policy": "minimum_example_correlation",
        "value": None,
        "minimum": Decimal(0),
        "example": "bench",
    }


def test_steps__say_what_they_look_at() -> None:
    steps = [WeightStep("equal"), cap_family("0.1"), near("0"), near("0", "bench"), WITHIN]
    assert thresholds(steps) == {Decimal("0.95")}
    assert examples(steps) == {EXAMPLE, "bench"}
    assert needs_standings(steps) == "within_account"
    assert (thresholds(()), examples(()), needs_standings(steps[:4])) == (set(), set(), None)
