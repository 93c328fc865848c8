"""The audit of what rules withhold and net: it finds nothing in an honest ledger, and whatever is changed in it."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.audit import problems
from scoring.ledger import Ledger, LedgerRow, SubmissionState, Terms, at_risk_of, settle_round
from scoring.payouts import FACTOR_ONE
from scoring.rules import PayoutStep, Rules
from scoring.stakes import Stake, Stakes

NMR = 10**18
ONE = 10**12
VALID = SubmissionState(digest="d" * 64)
PLAIN = Rules("test:R1", 1, {"corr": Decimal(1)}, clip=Decimal(1), stake_threshold=Decimal(400))
TAXED = replace(PLAIN, adjust=(PayoutStep("conformity_tax", Decimal(10), "account"),))
NETTED = replace(PLAIN, net_opposites=Decimal("0.95"))


def terms(rules: Rules) -> Terms:
    return Terms(rules, decimals=18, revision=1)


def settled(rules: Rules, netted: dict[str, int] | None = None, **corr: float) -> Ledger:
    """A stake of 100 NMR a model, `x_…` in the account x; half alike with the meta model."""
    stakes = Stakes(
        tuple(Stake(name, "x" if name.startswith("x_") else None, 100 * NMR) for name in sorted(corr)),
    )
    scores = {name: {"corr": int(value * ONE), "cwmm": ONE // 2} for name, value in corr.items()}
    return settle_round(stakes, dict.fromkeys(corr, VALID), scores, terms(rules), netted)


def rows(ledger: Ledger) -> dict[str, LedgerRow]:
    return {row.model: row for row in ledger.rows if row.model is not None}


def restated(ledger: Ledger, model: str, **fields: object) -> Ledger:
    """A change of one row, and of the counter-entries that a liar would change with it."""
    changed = [replace(row, **fields) if row.model == model else row for row in ledger.rows]
    sums = {
        name: sum(getattr(row, name) for row in changed if row.entry == "model")
        for name in ("gross_payout", "payout", "burn")
    }
    totals = {"treasury": {**sums, "burn": 0}, "burn": {"burn": sums["burn"]}}
    return Ledger(tuple(replace(row, **totals.get(row.entry, {})) for row in changed))


# What is withheld ---------------------------------------------------------------------------------------------------


def test_settle_round__withholds_by_account_and_never_touches_a_loss() -> None:
    ledger = settled(TAXED, alone=0.2, loses=-0.4, x_a=0.1, x_b=0.3, x_loses=-0.3)
    found = {
        model: (row.gross_payout // NMR, Fraction(row.payout, NMR), row.burn // NMR)
        for model, row in rows(ledger).items()
    }
    # factor 0.8; the account x earned 8 + 24 = 32, so 22 of 32 of each payout is taxed at a half
    assert found == {
        "alone": (16, 13, 0),
        "loses": (0, 0, 32),
        "x_a": (8, Fraction("5.25"), 0),
        "x_b": (24, Fraction("15.75"), 0),
        "x_loses": (0, 0, 24),
    }
    assert ledger.rows[-2].gross_payout == 48 * NMR
    assert ledger.rows[-2].payout == 34 * NMR
    assert rows(ledger)["x_a"].stake_after == 100 * NMR + 525 * NMR // 100
    assert rows(ledger)["x_a"].scores == {"corr": ONE // 10, "cwmm": ONE // 2}
    assert rows(ledger)["x_a"].multipliers == {"corr": Decimal(1)}
    assert problems(ledger, terms(TAXED)) == problems(ledger) == []


@pytest.mark.parametrize(
    "change",
    [
        {"payout": 8 * NMR, "stake_after": 108 * NMR},
        {"payout": 525 * NMR // 100 + 1, "stake_after": 100 * NMR + 525 * NMR // 100 + 1},
        {"scores": {"corr": ONE // 10, "cwmm": 0}},
        {"scores": {"corr": ONE // 10}},
        {"account": None},
    ],
    ids=["untaxed", "atom", "score", "no_score", "account"],
)
def test_problems__finds_another_tax_than_the_rules(change: dict[str, object]) -> None:
    lied = restated(settled(TAXED, x_a=0.1, x_b=0.3), "x_a", **change)
    assert any(line.startswith("model x_a: payout must be ") for line in problems(lied, terms(TAXED)))


def test_problems__finds_a_withheld_payout_where_nothing_may_be_withheld() -> None:
    found = problems(settled(TAXED, a=0.2), terms(PLAIN))
    assert [line for line in found if "payout must be" in line] == [
        f"model a: payout must be {20 * NMR} atoms of {20 * NMR}, found {15 * NMR}"
    ]


def test_problems__finds_a_bonus_for_a_loss() -> None:
    for rules in (PLAIN, replace(PLAIN, adjust=(PayoutStep("no_such_module:payouts"),))):
        lied = restated(settled(PLAIN, a=-0.2), "a", payout=1, stake_after=80 * NMR + 1)
        assert "model a: payout must be 0 where gross_payout is, found 1" in problems(lied, terms(rules))


def test_problems__takes_what_an_own_function_paid_but_nothing_else() -> None:
    own = terms(replace(PLAIN, adjust=(PayoutStep("no_such_module:payouts"),)))
    ledger = settled(PLAIN, a=0.2, b=-0.1)
    for payout in (0, 7, 500 * NMR):
        assert problems(restated(ledger, "a", payout=payout, stake_after=100 * NMR + payout), own) == []
    assert problems(restated(ledger, "a", payout=-1, stake_after=100 * NMR - 1), own)
    assert problems(restated(ledger, "a", gross_payout=1), own)
    assert problems(restated(ledger, "b", burn=1, stake_after=100 * NMR - 1), own)


# What is netted -----------------------------------------------------------------------------------------------------


def test_settle_round__leaves_netted_stakes_out_of_the_factor_and_in_everything_else() -> None:
    pair = {"a": 100 * NMR, "b": 100 * NMR}
    corr = {"a": 0.1, "b": -0.1, "c": 0.1, "d": 0.1, "e": 0.1}
    plain, netted = settled(PLAIN, **corr), settled(NETTED, pair, **corr)
    assert {row.factor for row in plain.rows} == {FACTOR_ONE * 4 // 5}
    assert {row.factor for row in netted.rows} == {FACTOR_ONE}
    assert {model: (row.at_risk, row.netted, row.payout - row.burn) for model, row in rows(netted).items()} == {
        "a": (100 * NMR, 100 * NMR, 10 * NMR),
        "b": (100 * NMR, 100 * NMR, -10 * NMR),
        **dict.fromkeys("cde", (100 * NMR, 0, 10 * NMR)),
    }
    assert problems(netted, terms(NETTED)) == problems(netted) == []


@pytest.mark.parametrize(
    ("rules", "netted", "message"),
    [
        (PLAIN, {"a": NMR, "b": NMR}, "netted must be 0 under test:R1, which nets nothing, found 2"),
        (NETTED, {"a": NMR, "b": NMR - 1}, "netted must be the same on two sides"),
        (NETTED, {"a": 3 * NMR, "b": NMR}, "netted must be the same on two sides"),
        (NETTED, {"a": 101 * NMR, "b": 101 * NMR}, "model a: netted must be at most at_risk"),
        (NETTED, {"a": -NMR, "b": -NMR}, "netted must be 0 … 1e38 atoms"),
    ],
)
def test_problems__finds_what_cannot_be_netted(rules: Rules, netted: dict[str, int], message: str) -> None:
    found = problems(settled(rules, netted, a=0.1, b=-0.1, c=0.1, d=0, e=0), terms(rules))
    assert any(message in line for line in found)


def test_problems__finds_a_factor_that_counts_what_is_netted() -> None:
    ledger = settled(NETTED, **dict.fromkeys("abcde", 0.1))
    lied = Ledger(tuple(replace(row, netted=100 * NMR if row.model in ("a", "b") else 0) for row in ledger.rows))
    assert any("factor must be 1000000000000000000" in line for line in problems(lied, terms(NETTED)))


def test_at_risk_of__is_what_the_ledger_puts_at_risk() -> None:
    stakes = Stakes((Stake("a", None, 5), Stake("b", None, 6, late=True), Stake("c", None, 7), Stake("d", None, 0)))
    states = {"a": VALID, "b": VALID, "c": SubmissionState(rejection="constant"), "d": VALID, "stranger": VALID}
    assert at_risk_of(stakes, states) == {"a": 5}
    ledger = settle_round(stakes, states, {}, terms(PLAIN))
    assert {model: row.at_risk for model, row in rows(ledger).items() if row.at_risk} == {"a": 5}


# Any round ----------------------------------------------------------------------------------------------------------

units = st.none() | st.integers(-ONE, ONE)
models = st.lists(
    st.tuples(st.sampled_from(["x", "y", None]), st.integers(0, 10**24), units, units, units), min_size=1, max_size=8
)
steps = st.one_of(
    st.builds(
        PayoutStep,
        st.just("conformity_tax"),
        st.decimals(0, 10**5, places=18),
        st.sampled_from(["model", "account"]),
        st.sampled_from(["cwmm", "cwmm_max", "corr"]),
    ),
    st.builds(PayoutStep, st.just("uniqueness"), score=st.sampled_from(["cwmm", "cwmm_max"])),
)
rule_sets = st.builds(
    lambda adjust, rounding, threshold: replace(
        PLAIN, adjust=tuple(adjust), rounding=rounding, stake_threshold=threshold
    ),
    st.lists(steps, max_size=3),
    st.sampled_from(["toward_zero", "nearest"]),
    st.none() | st.decimals("0.01", 10**6, places=2),
)


def round_of(rows: list[tuple], rules: Rules) -> Ledger:
    stakes = Stakes(tuple(Stake(f"m{at}", account, atoms) for at, (account, atoms, *_) in enumerate(rows)))
    scores = {
        f"m{at}": {"corr": corr, "cwmm": cwmm, "cwmm_max": most} for at, (*_, corr, cwmm, most) in enumerate(rows)
    }
    return settle_round(stakes, dict.fromkeys(scores, VALID), scores, terms(rules))


@given(models, rule_sets)
def test_settle_round__passes_the_audit_whatever_is_withheld(rows: list[tuple], rules: Rules) -> None:
    ledger = round_of(rows, rules)
    assert problems(ledger, terms(rules)) == []
    assert problems(ledger) == []


@given(models, rule_sets)
def test_settle_round__steps_change_no_loss_and_nothing_but_payouts(found: list[tuple], rules: Rules) -> None:
    adjusted, plain = round_of(found, rules), round_of(found, replace(rules, adjust=()))
    for row, before in zip(adjusted.rows, plain.rows, strict=True):
        assert row.burn == before.burn
        assert row.payout <= before.payout == before.gross_payout == row.gross_payout
        kept = {"payout": row.payout, "stake_after": row.stake_after, "scores": row.scores}
        assert replace(before, **kept) == row
        assert {key: row.scores[key] for key in before.scores} == before.scores
    assert all(row.netted == 0 for row in plain.rows)
