"""Payouts: worked cases, and properties against an oracle in rational numbers."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from scoring.payouts import (
    CLIPPED_RATE_DECIMALS,
    FACTOR_ONE,
    RAW_RATE_DECIMALS,
    Settlement,
    fixed_point,
    payout_factor,
    settle_stake,
    whole_atoms,
)
from scoring.published import SCORE_DECIMALS
from scoring.rules import Rules

DECIMALS = 18
RULES = Rules("test:R1", 1, {"corr": Decimal(1)}, clip=Decimal("0.25"))
CASES = yaml.safe_load(Path(__file__).with_name("payout_cases.yaml").read_text(encoding="utf-8"))

stakes = st.integers(0, 10**30)
units = st.integers(-(10**SCORE_DECIMALS), 10**SCORE_DECIMALS)
score_tables = st.fixed_dictionaries({"corr": units, "mmc": units, "tc": units})
multiplier = st.decimals(-3, 15, places=6)
multiplier_tables = st.fixed_dictionaries({"corr": multiplier, "mmc": multiplier, "tc": multiplier})
factors = st.integers(0, FACTOR_ONE)
rule_sets = st.builds(
    replace,
    st.just(RULES),
    clip=st.decimals("0.000001", 1, places=6),
    order=st.sampled_from(["factor_first", "clip_first"]),
    rounding=st.sampled_from(["toward_zero", "nearest"]),
)


def exact_units(number: str, decimals: int) -> int:
    value = Fraction(number) * 10**decimals
    if value.denominator != 1:
        raise ValueError(f"{number} has more than {decimals} decimals")
    return value.numerator


def change(settled: Settlement) -> int:
    return settled.payout_atoms - settled.burn_atoms


def oracle(at_risk: int, rate: Fraction, factor: Fraction, rules: Rules) -> int:
    """The definition, word by word, in rational numbers."""

    def clipped(number: Fraction) -> Fraction:
        return min(max(number, -Fraction(rules.clip)), Fraction(rules.clip))

    exact = at_risk * (clipped(rate) * factor if rules.order == "clip_first" else clipped(rate * factor))
    return round(exact) if rules.rounding == "nearest" else int(exact)


@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_settle_stake__pays_what_was_worked_by_hand(case):
    rules = replace(
        RULES,
        clip=Decimal(case.get("clip", "0.25")),
        order=case.get("order", "factor_first"),
        rounding=case.get("rounding", "toward_zero"),
    )
    settled = settle_stake(
        exact_units(case["stake"], DECIMALS),
        {key: exact_units(score, SCORE_DECIMALS) for key, score in case["scores"].items()},
        {key: Decimal(value) for key, value in case["multipliers"].items()},
        exact_units(case.get("factor", "1"), 18),
        rules,
    )
    assert change(settled) == exact_units(case["payout"], DECIMALS)


@given(stakes, score_tables, multiplier_tables, factors, rule_sets)
def test_settle_stake__equals_the_definition_in_rational_numbers(stake, scores, multipliers, factor, rules):
    settled = settle_stake(stake, scores, multipliers, factor, rules)
    rate = sum(Fraction(multipliers[key]) * Fraction(scores[key], 10**SCORE_DECIMALS) for key in scores)
    assert Fraction(settled.raw_rate, 10**RAW_RATE_DECIMALS) == rate
    assert change(settled) == oracle(stake, rate, Fraction(factor, FACTOR_ONE), rules)


@given(stakes, score_tables, multiplier_tables, factors, rule_sets)
def test_settle_stake__never_burns_more_than_the_clip_of_the_stake(stake, scores, multipliers, factor, rules):
    settled = settle_stake(stake, scores, multipliers, factor, rules)
    assert min(settled.payout_atoms, settled.burn_atoms) == 0
    assert settled.burn_atoms <= stake
    assert abs(change(settled)) <= -(-stake * Fraction(rules.clip) // 1)


@given(stakes, units, units, factors, rule_sets)
def test_settle_stake__a_higher_score_never_pays_less(stake, one, other, factor, rules):
    low, high = sorted([one, other])
    multipliers = {"corr": Decimal("2.25")}
    paid = [change(settle_stake(stake, {"corr": score}, multipliers, factor, rules)) for score in (low, high)]
    assert paid[0] <= paid[1]


@given(stakes, score_tables, multiplier_tables, factors, rule_sets)
def test_settle_stake__opposite_scores_pay_the_opposite(stake, scores, multipliers, factor, rules):
    settled = settle_stake(stake, scores, multipliers, factor, rules)
    opposite = {key: -score for key, score in scores.items()}
    mirrored = settle_stake(stake, opposite, multipliers, factor, rules)
    assert (mirrored.payout_atoms, mirrored.burn_atoms) == (settled.burn_atoms, settled.payout_atoms)
    assert mirrored.clipped_rate == -settled.clipped_rate


@given(stakes, stakes, score_tables, multiplier_tables, factors, rule_sets)
def test_settle_stake__splitting_a_stake_moves_at_most_an_atom(one, two, scores, multipliers, factor, rules):
    whole, *parts = (change(settle_stake(stake, scores, multipliers, factor, rules)) for stake in (one + two, one, two))
    assert abs(whole - sum(parts)) <= 1
    if rules.rounding == "toward_zero":
        assert abs(sum(parts)) <= abs(whole)


@given(score_tables, multiplier_tables, factors, rule_sets)
def test_settle_stake__does_not_depend_on_the_stake_in_its_rates(scores, multipliers, factor, rules):
    rates = {
        (settled.raw_rate, settled.clipped_rate)
        for settled in (settle_stake(stake, scores, multipliers, factor, rules) for stake in (0, 1, 10**30))
    }
    assert len(rates) == 1


def test_settle_stake__an_absent_score_that_is_paid_on_is_an_error():
    with pytest.raises(KeyError, match="mmc"):
        settle_stake(1, {"corr": 1}, {"corr": Decimal(1), "mmc": Decimal(2)}, FACTOR_ONE, RULES)


@given(st.integers(1, 10**30), st.decimals("0.01", 10**6, places=2))
@example(10**24 + 1, Decimal(10**6))
def test_payout_factor__is_the_largest_that_keeps_within_the_threshold(total, threshold):
    factor = payout_factor(total, replace(RULES, stake_threshold=threshold), DECIMALS)
    threshold_atoms = Fraction(threshold) * 10**DECIMALS
    if total <= threshold_atoms:
        assert factor == FACTOR_ONE
    else:
        assert factor * total <= threshold_atoms * FACTOR_ONE < (factor + 1) * total


@pytest.mark.parametrize(
    ("total", "threshold", "factor"),
    [
        ("0", "72000", "1"),
        ("72000", "72000", "1"),
        ("72000.000000000000000001", "72000", "0.999999999999999999"),
        ("216000", "72000", "0.333333333333333333"),
        ("144000", "72000", "0.5"),
    ],
)
def test_payout_factor__is_rounded_down_to_18_decimals(total, threshold, factor):
    rules = replace(RULES, stake_threshold=Decimal(threshold))
    assert fixed_point(payout_factor(exact_units(total, 18), rules, 18), 18) == Decimal(factor)


def test_payout_factor__is_one_where_the_rules_set_no_threshold():
    assert payout_factor(10**30, RULES, DECIMALS) == FACTOR_ONE


def test_payout_factor__counts_the_threshold_in_the_currency_not_in_atoms():
    rules = replace(RULES, stake_threshold=Decimal(50))
    assert payout_factor(100, rules, 0) == payout_factor(100 * 10**6, rules, 6) == FACTOR_ONE // 2


@given(score_tables, multiplier_tables, factors, rule_sets)
def test_fixed_point__holds_every_rate_in_its_column(scores, multipliers, factor, rules):
    settled = settle_stake(10**18, scores, multipliers, factor, rules)
    for rate, decimals in (
        (settled.raw_rate, RAW_RATE_DECIMALS),
        (settled.clipped_rate, CLIPPED_RATE_DECIMALS),
    ):
        number = fixed_point(rate, decimals)
        assert Fraction(number) == Fraction(rate, 10**decimals)
        assert number.as_tuple().exponent == -decimals
        assert len(number.as_tuple().digits) <= 38


def test_fixed_point__refuses_what_its_column_cannot_hold():
    assert fixed_point(10**38 - 1, 18) == Decimal("99999999999999999999.999999999999999999")
    with pytest.raises(OverflowError, match="at most 38 digits"):
        fixed_point(10**38, 18)


@given(st.integers(-(10**60), 10**60), st.integers(1, 10**40))
@example(5, 2)
@example(-5, 2)
@example(7, 2)
def test_whole_atoms__rounds_as_the_rule_says(numerator, denominator):
    exact = Fraction(numerator, denominator)
    assert whole_atoms(numerator, denominator, "toward_zero") == int(exact)
    assert whole_atoms(numerator, denominator, "nearest") == round(exact)
