"""Payout policies: the formulas against their definition, and what each of them promises."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoring.errors import OperatorError
from scoring.payout_policies import Gain, adjusted
from scoring.rules import PayoutStep, PayoutUnit, Rules

NMR = 10**18
ONE = 10**12
RULES = Rules("test:R1", 1, {"corr": Decimal(1)}, clip=Decimal("0.25"))
UNIQUE = PayoutStep("uniqueness")


def tax(threshold: object, unit: PayoutUnit = "model", score: str | None = None) -> PayoutStep:
    return PayoutStep("conformity_tax", Decimal(str(threshold)), unit, score)


def by(*steps: PayoutStep, **fields: object) -> Rules:
    return replace(RULES, adjust=steps, **fields)


def gain(model: str, payout: int, score: int | None = 0, account: str | None = None, key: str = "cwmm") -> Gain:
    return Gain(model, account, payout, 100 * NMR, {key: score})


def paid(gains: Sequence[Gain], rules: Rules) -> dict[str, int]:
    return {each.model: payout for each, payout in zip(gains, adjusted(gains, rules, 18), strict=True)}


payouts = st.integers(1, 10**24)
scores = st.none() | st.integers(-(2 * ONE), 2 * ONE)
accounts = st.none() | st.sampled_from(["x", "y"])
thresholds = st.decimals(0, 10**6, places=18)
units = st.sampled_from(["model", "account"])
roundings = st.sampled_from(["toward_zero", "nearest"])
rounds = st.lists(st.tuples(payouts, scores, accounts), max_size=8).map(
    lambda rows: [gain(f"m{at}", *row) for at, row in enumerate(rows)]
)


def share(score: int | None) -> Fraction:
    return Fraction(min(max(score or 0, 0), ONE), ONE)


# The conformity tax -------------------------------------------------------------------------------------------------


def seed_formula(payout: Fraction, score: Fraction, threshold: Fraction) -> Fraction:
    """The proposal's function, word by word."""
    return min(payout, threshold) + max(payout - threshold, Fraction(0)) * (1 - score)


@pytest.mark.parametrize(
    ("payout", "score", "expected"),
    [
        (40, "0.9", "40"),
        (50, "0.9", "50"),
        (200, "0", "200"),
        (200, "0.2", "170"),
        (200, "0.8", "80"),
        (200, "0.95", "57.5"),
        (200, "1", "50"),
        (200, "1.5", "50"),
        (200, "-0.7", "200"),
    ],
)
def test_adjusted__conformity_tax_is_what_was_worked_by_hand_at_a_threshold_of_50(
    payout: int, score: str, expected: str
) -> None:
    found = paid([gain("a", payout * NMR, int(Decimal(score) * ONE))], by(tax(50)))
    assert found == {"a": int(Decimal(expected) * NMR)}


@given(payouts, scores, thresholds, roundings)
def test_adjusted__conformity_tax_of_a_model_is_the_proposals_formula_rounded_once(
    payout: int, score: int | None, threshold: Decimal, rounding: str
) -> None:
    exact = seed_formula(Fraction(payout), share(score), Fraction(threshold) * NMR)
    expected = int(exact) if rounding == "toward_zero" else round(exact)
    assert paid([gain("a", payout, score)], by(tax(threshold), rounding=rounding)) == {"a": expected}


@given(rounds, thresholds)
def test_adjusted__an_account_keeps_what_one_model_of_its_payout_and_mean_correlation_keeps(
    gains: list[Gain], threshold: Decimal
) -> None:
    found = paid(gains, by(tax(threshold, "account")))
    for account in ("x", "y"):
        models = [each for each in gains if each.account == account]
        if models:
            total = Fraction(sum(each.payout for each in models))
            mean = sum(each.payout * share(each.scores["cwmm"]) for each in models) / total
            lost = seed_formula(total, mean, Fraction(threshold) * NMR) - sum(found[each.model] for each in models)
            assert 0 <= lost < len(models)


@given(payouts, scores, thresholds, st.lists(st.integers(1, 100), min_size=1, max_size=12))
def test_adjusted__splitting_a_stake_inside_an_account_gains_nothing(
    payout: int, score: int | None, threshold: Decimal, parts: list[int]
) -> None:
    whole = sum(parts) * payout
    together = paid([gain("a", whole, score, "x")], by(tax(threshold, "account")))["a"]
    split = [gain(f"m{at}", part * payout, score, "x") for at, part in enumerate(parts)]
    assert 0 <= together - sum(paid(split, by(tax(threshold, "account"))).values()) < len(parts)


def test_adjusted__splitting_a_stake_passes_a_threshold_per_model() -> None:
    whole, half = [gain("a", 100 * NMR, ONE, "x")], [gain(name, 50 * NMR, ONE, "x") for name in ("a", "b")]
    assert sum(paid(whole, by(tax(50))).values()) == 50 * NMR
    assert sum(paid(half, by(tax(50))).values()) == 100 * NMR
    assert paid(half, by(tax(50, "account"))) == {"a": 25 * NMR, "b": 25 * NMR}


@given(rounds, thresholds, units, roundings)
def test_adjusted__conformity_tax_never_adds_and_never_takes_what_is_below_the_threshold(
    gains: list[Gain], threshold: Decimal, unit: PayoutUnit, rounding: str
) -> None:
    found = paid(gains, by(tax(threshold, unit), rounding=rounding))
    for each in gains:
        assert each.payout * (1 - share(each.scores["cwmm"])) - 1 < found[each.model] <= each.payout
        if unit == "model" and each.payout <= threshold * NMR:
            assert found[each.model] == each.payout


@given(rounds.filter(bool), thresholds, units, st.data())
def test_adjusted__conformity_tax_falls_for_nobody_whose_payout_grows(
    gains: list[Gain], threshold: Decimal, unit: PayoutUnit, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(gains) - 1))
    more = gains[at].payout + data.draw(payouts)
    grown = [*gains[:at], replace(gains[at], payout=more), *gains[at + 1 :]]
    rules = by(tax(threshold, unit))
    before, after = paid(gains, rules), paid(grown, rules)
    assert after[gains[at].model] >= before[gains[at].model]
    own = [each.model for each in gains if unit == "account" and each.account == gains[at].account is not None]
    assert sum(after[model] for model in own) > sum(before[model] for model in own) - len(gains)  # but for rounding
    others = [each.model for each in gains if each.model not in (*own, gains[at].model)]
    assert [after[model] for model in others] == [before[model] for model in others]


@given(rounds, units)
def test_adjusted__a_threshold_above_all_payouts_is_no_tax(gains: list[Gain], unit: PayoutUnit) -> None:
    total = sum(each.payout for each in gains)
    assert paid(gains, by(tax(Decimal(total).scaleb(-18), unit))) == {each.model: each.payout for each in gains}


@given(rounds, thresholds, units, st.randoms(use_true_random=False))
def test_adjusted__does_not_depend_on_the_order_of_the_gains(
    gains: list[Gain], threshold: Decimal, unit: PayoutUnit, shuffler: object
) -> None:
    rules = by(tax(threshold, unit), UNIQUE)
    shuffled = list(gains)
    shuffler.shuffle(shuffled)
    assert paid(shuffled, rules) == paid(gains, rules)


@given(rounds, thresholds)
def test_adjusted__a_model_without_an_account_is_one_of_its_own(gains: list[Gain], threshold: Decimal) -> None:
    alone = [replace(each, account=None) for each in gains]
    assert paid(alone, by(tax(threshold, "account"))) == paid(alone, by(tax(threshold)))


def test_adjusted__conformity_tax_looks_at_the_score_that_it_names() -> None:
    gains = [Gain("a", None, 100 * NMR, 0, {"cwmm": ONE, "cwmm_max": 0, "tc": ONE // 2})]
    for score, expected in ((None, 10), ("cwmm", 10), ("cwmm_max", 100), ("tc", 55), ("bmc", 100)):
        assert paid(gains, by(tax(10, score=score))) == {"a": expected * NMR}


def test_adjusted__the_threshold_is_in_the_currency() -> None:
    for decimals, payout in ((0, 100), (2, 10_000), (18, 100 * NMR)):
        assert adjusted([gain("a", payout, ONE)], by(tax(40)), decimals) == [payout * 2 // 5]
    assert adjusted([gain("a", 2, ONE)], by(tax("0.5")), 0) == [0]  # half an atom is left, and cut off


# Uniqueness, and chains ---------------------------------------------------------------------------------------------


@given(payouts, scores, roundings)
@example(7, ONE, "nearest")
@example(10, ONE * 95 // 100, "nearest")
def test_adjusted__uniqueness_takes_the_part_that_is_like_others(payout: int, score: int | None, rounding: str) -> None:
    exact = payout * (1 - share(score))
    expected = int(exact) if rounding == "toward_zero" else round(exact)
    found = paid([gain("a", payout, score, key="cwmm_max")], by(UNIQUE, rounding=rounding))["a"]
    assert found == expected
    assert 0 <= found <= payout


def test_adjusted__steps_are_taken_in_order_and_rounded_one_by_one() -> None:
    gains = [Gain("a", None, 100, 0, {"cwmm": ONE // 2, "cwmm_max": ONE // 10 * 3})]
    both = (tax(40), UNIQUE)
    assert adjusted(gains, by(*both), 0) == [49]  # 100 → 70 → 49
    assert adjusted(gains, by(*reversed(both)), 0) == [55]  # 100 → 70 → 55
    odd = [Gain("a", None, 11, 0, {"cwmm": ONE // 2, "cwmm_max": ONE // 2})]
    assert adjusted(odd, by(tax(0), UNIQUE), 0) == [2]  # 11 → 5 → 2, not 11 → 5.5 → 2.75


@given(rounds)
def test_adjusted__without_steps_changes_nothing(gains: list[Gain]) -> None:
    assert paid(gains, RULES) == {each.model: each.payout for each in gains}


# An operator's own function -----------------------------------------------------------------------------------------

_NUMBERS = itertools.count()
OWN = """
def payouts(gains):
    return [gain.payout * 2 if gain.account == "x" else 0 for gain in gains]

def fails(gains):
    raise KeyError("no such thing")

def too_few(gains):
    return []

def wrong(gains):
    import numpy
    return [{}] * len(gains)

def nothing(gains):
    return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module under a name that no other test imports."""

    def write(text: str) -> str:
        name = f"own_payouts_{next(_NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return write


def test_adjusted__an_own_function_pays_what_it_likes(own: Callable[[str], str]) -> None:
    gains = [gain("a", 5, account="x"), gain("b", 7)]
    step = PayoutStep(f"{own(OWN)}:payouts")
    assert paid(gains, by(step)) == {"a": 10, "b": 0}
    assert paid(gains, by(step, step)) == {"a": 20, "b": 0}


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        ("fails", "", "failed: KeyError: 'no such thing'"),
        ("nothing", "", "failed: TypeError: 'NoneType' object is not iterable"),
        ("too_few", "", "must return one payout a gain, 1, found 0"),
        ("wrong", "-1", "must return atoms as Python's int, ≥ 0, found -1 for model a"),
        ("wrong", "1.0", "must return atoms as Python's int, ≥ 0, found 1.0 for model a"),
        ("wrong", "True", "found True for model a"),
        ("wrong", "10**38", "must return at most 5e+37 atoms in all, found 1000"),
        ("wrong", "numpy.int64(1)", "must return atoms as Python's int"),
        ("missing", "", "has no function 'missing'"),
    ],
)
def test_adjusted__what_an_own_function_returns_is_checked(
    own: Callable[[str], str], function: str, value: str, message: str
) -> None:
    module = own(OWN.replace("{}", value or "0"))
    with pytest.raises(OperatorError) as caught:
        paid([gain("a", 5)], by(PayoutStep(f"{module}:{function}")))
    assert str(caught.value).startswith("rules.adjust: ")
    assert message in str(caught.value)


# The step itself ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"policy": "unique"}, r"adjust, unique: policy must be conformity_tax, uniqueness or.*did you mean 'uniqu"),
        ({"policy": "uniqueness", "score": "cwm"}, r"score must be one of .*found 'cwm' \(did you mean 'cwmm'\?\)"),
        ({"policy": "uniqueness", "threshold": Decimal(1)}, "threshold and unit belong to conformity_tax"),
        ({"policy": "a:b", "unit": "account"}, "threshold and unit belong to conformity_tax"),
        ({"policy": "conformity_tax"}, "threshold must be a number ≥ 0 in the currency, found None"),
        ({"policy": "conformity_tax", "threshold": Decimal(-1)}, "threshold must be a number ≥ 0.*found -1"),
        ({"policy": "conformity_tax", "threshold": Decimal("nan")}, "threshold must be a number ≥ 0.*found NaN"),
        ({"policy": "conformity_tax", "threshold": Decimal(1), "unit": "team"}, "unit must be one of model, account"),
    ],
)
def test_payout_step__refuses_what_it_cannot_do(fields: Mapping[str, object], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        PayoutStep(**fields)


def test_rules__show_the_scores_that_steps_look_at_beside_those_paid_on() -> None:
    rules = by(tax(1, score="tc"), UNIQUE, PayoutStep("b:c", score="bmc"), PayoutStep("b:c"))
    assert rules.paid_scores == ("corr",)
    assert rules.adjust_scores == ("cwmm_max", "bmc", "tc")
    assert rules.shown_scores == ("corr", "cwmm_max", "bmc", "tc")
    assert rules.own_functions == ("b:c",)
    assert rules.pays_true_contribution
    assert rules.multipliers({}) == {"corr": 1}
    assert not by(UNIQUE).pays_true_contribution
    assert RULES.shown_scores == RULES.paid_scores


@pytest.mark.parametrize("threshold", ["0.5", "0", "-1", "1.01", "nan", "inf"])
def test_rules__refuse_to_net_what_is_hardly_alike(threshold: str) -> None:
    with pytest.raises(OperatorError, match=r"net_opposites must be above 0\.5, at most 1"):
        by(net_opposites=Decimal(threshold))
