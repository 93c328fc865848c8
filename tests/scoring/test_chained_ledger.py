"""The ledger of chained stakes: at risk is the balance at the close, a burn is at most the balance that is left."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.audit import problems
from scoring.errors import OperatorError
from scoring.ledger import Ledger, LedgerRow, SubmissionState, Terms, settle_round
from scoring.rules import Rules
from scoring.stakes import Stake, Stakes

NMR = 10**18
RULES = Rules("test:R1", 1, {"corr": Decimal(1)}, clip=Decimal("0.5"), stake_threshold=Decimal(1000))
SNAPSHOT = Terms(RULES, decimals=18, revision=1)
CHAINED = replace(SNAPSHOT, chained=True)
VALID = SubmissionState(digest="d" * 64)
HALF = 5 * 10**11


def chained(model: str, at_close: int, before: int, **fields) -> Stake:
    return Stake(model, None, at_close * NMR, balance=before * NMR, **fields)


def settled(*stakes: Stake, terms: Terms = CHAINED, **corr: int | None) -> Ledger:
    """Settles; a score of each model that is named, a submission of each stake."""
    scores = {model: {"corr": value} for model, value in corr.items()}
    return settle_round(Stakes(stakes), {stake.model: VALID for stake in stakes}, scores, terms)


def row(ledger: Ledger, model: str) -> LedgerRow:
    return next(each for each in ledger.rows if each.model == model)


def amounts(found: LedgerRow) -> tuple[float, ...]:
    """Before, at risk, payout, burn, after in NMR."""
    fields = (found.stake_before, found.at_risk, found.payout, found.burn, found.stake_after)
    return tuple(each / NMR for each in fields)


def changed(ledger: Ledger, model: str, **fields) -> Ledger:
    return Ledger(tuple(replace(each, **fields) if each.model == model else each for each in ledger.rows))


def restated(ledger: Ledger, model: str, **fields) -> Ledger:
    """A change of one row, and the counter-entries that a liar would change with it."""
    rows = changed(ledger, model, **fields).rows
    sums = {"treasury": {"payout": 0, "gross_payout": 0}, "burn": {"burn": 0}}
    for each in rows:
        if each.entry == "model":
            sums["treasury"]["payout"] += each.payout
            sums["treasury"]["gross_payout"] += each.gross_payout
            sums["burn"]["burn"] += each.burn
    return Ledger(tuple(replace(each, **sums.get(each.entry, {})) for each in rows))


@pytest.mark.parametrize(
    ("at_close", "before", "corr", "expected"),
    [
        (100, 100, HALF // 5, (100, 100, 10, 0, 110)),
        (100, 150, HALF // 5, (150, 100, 10, 0, 160)),  # a deposit after the close is not paid on
        (100, 30, HALF // 5, (30, 100, 10, 0, 40)),  # a withdrawal after the close was at risk all the same
        (100, 150, -HALF // 5, (150, 100, 0, 10, 140)),
        (100, 30, -HALF // 5, (30, 100, 0, 10, 20)),
        (100, 30, -HALF, (30, 100, 0, 30, 0)),  # 50 would burn, 30 are left
        (100, 50, -HALF, (50, 100, 0, 50, 0)),
        (100, 0, -HALF, (0, 100, 0, 0, 0)),
        (100, 0, HALF, (0, 100, 50, 0, 50)),
    ],
)
def test_settle_round__pays_on_the_balance_at_the_close_and_burns_what_is_left(at_close, before, corr, expected):
    ledger = settled(chained("a", at_close, before), a=corr)
    assert amounts(row(ledger, "a")) == expected
    assert problems(ledger, CHAINED) == []


def test_settle_round__the_counter_entries_hold_what_was_really_burned():
    stakes = chained("a", 100, 30), chained("b", 100, 200), chained("c", 100, 90)
    ledger = settled(*stakes, a=-HALF, b=-HALF, c=HALF)
    treasury, burn = ledger.rows[-2:]
    assert (treasury.payout, burn.burn) == (50 * NMR, (30 + 50) * NMR)
    assert problems(ledger, CHAINED) == []


def test_settle_round__the_payout_factor_counts_what_was_at_risk_and_not_what_is_left():
    ledger = settled(chained("a", 1500, 10), chained("b", 500, 9000), a=0, b=0)
    assert {each.factor for each in ledger.rows} == {10**18 // 2}


@pytest.mark.parametrize(("late", "status"), [(True, "late"), (False, "unstaked")])
def test_settle_round__a_balance_that_was_not_at_risk_stands_before_and_after(late, status):
    ledger = settled(chained("a", 100 if late else 0, 70, late=late), chained("b", 1, 1), a=HALF, b=0)
    found = row(ledger, "a")
    assert (found.status, *amounts(found)) == (status, 70, 0, 0, 0, 70)
    assert problems(ledger, CHAINED) == []


def test_settle_round__an_unscored_balance_stays_at_risk():
    ledger = settled(chained("a", 100, 40), chained("b", 1, 1), b=0)
    assert (row(ledger, "a").status, *amounts(row(ledger, "a"))) == ("unscored", 40, 100, 0, 0, 40)
    assert problems(ledger, CHAINED) == []


@settings(max_examples=150, deadline=None)
@given(
    stakes=st.lists(
        st.tuples(st.integers(0, 10**25), st.integers(0, 10**25), st.booleans(), st.integers(-(10**12), 10**12)),
        min_size=1,
        max_size=6,
    ),
    clip=st.decimals("0.01", 1, places=2),
    rounding=st.sampled_from(["toward_zero", "nearest"]),
    order=st.sampled_from(["factor_first", "clip_first"]),
)
def test_settle_round__no_atom_is_lost_and_the_audit_agrees(stakes, clip, rounding, order):
    terms = replace(CHAINED, rules=replace(RULES, clip=clip, rounding=rounding, order=order))
    rows = [
        Stake(f"m{at}", None, close, late=late, balance=before) for at, (close, before, late, _) in enumerate(stakes)
    ]
    ledger = settled(*rows, terms=terms, **{f"m{at}": corr for at, (*_, corr) in enumerate(stakes)})
    *models, treasury, burn = ledger.rows
    for found, (_, before, *_) in zip(models, stakes, strict=True):
        assert found.stake_before == before
        assert 0 <= found.burn <= min(before, found.at_risk)
        assert found.stake_after == before + found.payout - found.burn >= 0
    assert treasury.payout == sum(found.payout for found in models)
    assert burn.burn == sum(found.burn for found in models)
    assert problems(ledger, terms) == []


def test_problems__finds_a_burn_above_the_balance():
    ledger = settled(chained("a", 100, 30), a=-HALF)
    found = problems(restated(ledger, "a", burn=50 * NMR, stake_after=-20 * NMR), CHAINED)
    assert any("burn must be at most stake_before = 30000000000000000000" in each for each in found)
    assert any("payout − burn must be [-30000000000000000000]" in each for each in found)


@pytest.mark.parametrize("burn", [29, 0])
def test_problems__finds_a_burn_that_is_capped_too_low(burn):
    ledger = settled(chained("a", 100, 30), a=-HALF)
    lied = restated(ledger, "a", burn=burn * NMR, stake_after=(30 - burn) * NMR)
    assert any("payout − burn must be" in each for each in problems(lied, CHAINED))


def test_problems__finds_a_payout_on_the_balance_before_settlement():
    ledger = settled(chained("a", 100, 150), a=HALF)
    lied = restated(ledger, "a", gross_payout=75 * NMR, payout=75 * NMR, stake_after=225 * NMR)
    assert problems(lied, CHAINED) == [
        "model a: gross_payout − burn must be [50000000000000000000] atoms, found 75" + 18 * "0"
    ]


def test_problems__finds_something_at_risk_that_must_not_be_and_the_other_way_round():
    ledger = settled(chained("a", 100, 70, late=True), chained("b", 1, 1), b=0)
    assert any("at_risk must be above 0" in each for each in problems(changed(ledger, "a", at_risk=NMR), CHAINED))
    assert any("at_risk must be above 0" in each for each in problems(changed(ledger, "b", at_risk=0), CHAINED))


def test_problems__a_snapshot_must_still_put_the_whole_stake_at_risk():
    ledger = settled(chained("a", 100, 150), a=HALF)
    assert any("at_risk must be 150" in each for each in problems(ledger, SNAPSHOT))
    plain = settled(Stake("a", None, 100 * NMR), a=-HALF, terms=SNAPSHOT)
    assert amounts(row(plain, "a")) == (100, 100, 0, 50, 50)
    assert problems(plain, SNAPSHOT) == problems(plain) == []


CHOOSING = replace(CHAINED, rules=replace(RULES, payout=None, choices=({"corr": (Decimal(1),)},)))


def test_settle_round__a_choice_that_is_not_on_offer_is_refused_where_it_was_at_risk():
    with pytest.raises(OperatorError, match="model a"):
        settled(chained("a", 5, 5, multipliers={"corr": Decimal(7)}), a=0, terms=CHOOSING)


def test_problems__a_choice_that_is_not_on_offer_does_not_matter_where_nothing_was_at_risk():
    """A deposit after the close: the balance is there when the round settles, and was never at risk in it."""
    off, on = {"corr": Decimal(7)}, {"corr": Decimal(1)}
    stakes = chained("a", 0, 5, multipliers=off), chained("b", 5, 5, multipliers=on)
    ledger = settled(*stakes, a=0, b=0, terms=CHOOSING)
    assert problems(ledger, CHOOSING) == []


def test_stake__before_is_the_balance_where_there_is_one():
    assert Stake("a", None, 5).before == 5
    assert Stake("a", None, 5, balance=0).before == 0
