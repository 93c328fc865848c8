"""The ledger: who is at risk, who is paid, and that not an atom is lost."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scoring.audit import problems
from scoring.errors import OperatorError
from scoring.ledger import Ledger, LedgerRow, SubmissionState, Terms, refuse_multipliers, settle_round
from scoring.payouts import FACTOR_ONE
from scoring.rules import Rules
from scoring.stakes import Stake, Stakes

NMR = 10**18
RULES = Rules(
    "test:R1",
    1,
    {"corr": Decimal("0.5"), "mmc": Decimal(2)},
    clip=Decimal("0.05"),
    stake_threshold=Decimal(400),
)
TERMS = Terms(RULES, decimals=18, revision=1)
VALID = SubmissionState(digest="d" * 64)
REFUSED = SubmissionState(rejection="missing_id")
GOOD = {"corr": 20_000_000_000, "mmc": 5_000_000_000}
BAD = {"corr": -20_000_000_000, "mmc": -5_000_000_000}


def stake(model: str, nmr: int, **fields) -> Stake:
    return Stake(model, account=f"account of {model}", atoms=nmr * NMR, **fields)


def by_model(ledger: Ledger) -> dict[str, LedgerRow]:
    return {row.model: row for row in ledger.rows if row.model is not None}


STAKES = Stakes(
    (
        stake("burns", 100),
        stake("earns", 100),
        stake("invalid", 1000),
        stake("late", 1000, late=True),
        stake("missing", 1000),
        stake("unscored", 300),
        stake("zero", 0),
        stake("zero_late", 0, late=True),
        stake("zero_missing", 0),
    )
)
SUBMISSIONS = {
    "burns": VALID,
    "earns": VALID,
    "invalid": REFUSED,
    "late": VALID,
    "stranger": VALID,
    "unscored": VALID,
    "zero": VALID,
    "zero_late": VALID,
}
SCORES = {
    "burns": BAD,
    "earns": GOOD,
    "late": GOOD,
    "stranger": GOOD,
    "unscored": {"corr": GOOD["corr"], "mmc": None},
    "zero": GOOD,
}


@pytest.fixture
def ledger() -> Ledger:
    return settle_round(STAKES, SUBMISSIONS, SCORES, TERMS)


def test_settle_round__gives_every_model_one_status_and_its_reason(ledger):
    assert {model: (row.status, row.reason) for model, row in by_model(ledger).items()} == {
        "burns": ("scored", None),
        "earns": ("scored", None),
        "invalid": ("invalid", "missing_id"),
        "late": ("late", "after_close"),
        "missing": ("missing", "no_submission"),
        "stranger": ("unstaked", "no_stake_row"),
        "unscored": ("unscored", "no_score"),
        "zero": ("unstaked", "zero_stake"),
        "zero_late": ("unstaked", "after_close"),
        "zero_missing": ("unstaked", "no_submission"),
    }


def test_settle_round__puts_only_stakes_with_a_valid_submission_on_time_at_risk(ledger):
    at_risk = {model: row.at_risk for model, row in by_model(ledger).items() if row.at_risk}
    assert at_risk == {"burns": 100 * NMR, "earns": 100 * NMR, "unscored": 300 * NMR}


def test_settle_round__keeps_an_unscored_stake_in_the_payout_factor(ledger):
    assert {row.factor for row in ledger.rows} == {FACTOR_ONE * 400 // 500}
    unscored = by_model(ledger)["unscored"]
    assert (unscored.payout, unscored.burn, unscored.raw_rate, unscored.clipped_rate) == (0, 0, None, None)


def test_settle_round__pays_and_burns_to_the_atom(ledger):
    # 0.8 · (0.5 · 0.02 + 2 · 0.005) = 1.6 % of 100 NMR
    earns, burns = by_model(ledger)["earns"], by_model(ledger)["burns"]
    assert (earns.payout, earns.burn, earns.stake_after) == (16 * NMR // 10, 0, 100 * NMR + 16 * NMR // 10)
    assert (burns.payout, burns.burn, burns.stake_after) == (0, 16 * NMR // 10, 100 * NMR - 16 * NMR // 10)
    assert (earns.raw_rate, earns.clipped_rate) == (20 * 10**15, 16 * 10**33)


def test_settle_round__ends_with_treasury_and_burn_account(ledger):
    treasury, burn = ledger.rows[-2:]
    assert (treasury.entry, treasury.model, treasury.payout, treasury.burn) == ("treasury", None, 16 * NMR // 10, 0)
    assert (burn.entry, burn.model, burn.payout, burn.burn) == ("burn", None, 0, 16 * NMR // 10)
    assert [row.model for row in ledger.rows[:-2]] == sorted(by_model(ledger))


def test_settle_round__writes_everything_a_reader_needs_to_recompute_a_row(ledger):
    row = by_model(ledger)["earns"]
    assert (row.account, row.submission_digest) == ("account of earns", "d" * 64)
    assert (row.scores, row.multipliers) == (GOOD, RULES.payout)
    assert (row.revision, row.rules_id) == (1, "test:R1")


def test_settle_round__nobody_without_a_stake_at_risk_moves_anybody_else(ledger):
    at_risk = {"burns", "earns", "unscored"}
    alone = settle_round(
        Stakes(tuple(row for row in STAKES.rows if row.model in at_risk)),
        dict.fromkeys(at_risk, VALID),
        SCORES,
        TERMS,
    )
    assert by_model(alone) == {model: row for model, row in by_model(ledger).items() if model in at_risk}


def test_settle_round__does_not_depend_on_the_order_of_its_inputs(ledger):
    backwards = settle_round(STAKES, dict(reversed(SUBMISSIONS.items())), dict(reversed(SCORES.items())), TERMS)
    assert backwards == ledger


def test_settle_round__of_nobody_is_a_ledger_of_two_zero_totals():
    empty = settle_round(Stakes(()), {}, {}, TERMS)
    assert [(row.entry, row.payout, row.burn) for row in empty.rows] == [("treasury", 0, 0), ("burn", 0, 0)]
    assert problems(empty, TERMS) == []


CHOSEN = Terms(
    replace(RULES, payout=None, choices=({"corr": (Decimal(1),), "tc": (Decimal(0), Decimal(2))},)),
    decimals=18,
    revision=1,
)


def test_settle_round__pays_each_model_by_its_own_multipliers():
    stakes = Stakes(
        (
            stake("both", 100, multipliers={"corr": Decimal(1), "tc": Decimal(2)}),
            stake("corr_only", 100, multipliers={"corr": Decimal(1)}),
        )
    )
    scores = {"both": {"corr": 10**10, "tc": 10**10}, "corr_only": {"corr": 10**10, "tc": None}}
    ledger = settle_round(stakes, {"both": VALID, "corr_only": VALID}, scores, CHOSEN)
    assert {model: row.payout for model, row in by_model(ledger).items()} == {"both": 3 * NMR, "corr_only": NMR}
    assert by_model(ledger)["corr_only"].multipliers == {"corr": Decimal(1), "tc": Decimal(0)}
    assert problems(ledger, CHOSEN) == []


def test_settle_round__refuses_multipliers_that_are_not_on_offer_all_at_once():
    stakes = Stakes(
        (
            stake("a", 1, multipliers={"corr": Decimal(2)}),
            stake("b", 1, multipliers={"corr": Decimal(1)}),
            stake("c", 1, multipliers={"corr": Decimal(1), "fnc": Decimal(1)}),
            stake("unstaked", 0),
        )
    )
    with pytest.raises(OperatorError) as caught:
        settle_round(stakes, {}, {}, CHOSEN)
    assert str(caught.value).split("; ") == [
        "stakes: model a: multipliers must be on offer under test:R1 (corr 1, tc 0|2), found corr 2",
        "model c: multipliers must be on offer under test:R1 (corr 1, tc 0|2), found corr 1, fnc 1",
    ]


def test_refuse_multipliers__names_the_first_few_models_and_counts_the_others() -> None:
    wrong = Stakes(tuple(stake(f"m{number}", 1, multipliers={"fnc": Decimal(1)}) for number in range(9)))
    with pytest.raises(OperatorError, match=r"model m4: [^;]*; and 4 models more$"):
        refuse_multipliers(wrong, CHOSEN.rules)


rounds = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.tuples(
        st.integers(0, 10**30),
        st.booleans(),
        st.sampled_from([VALID, VALID, VALID, REFUSED, SubmissionState()]),
        st.fixed_dictionaries({key: st.none() | st.integers(-(10**12), 10**12) for key in RULES.paid_scores}),
    ),
    max_size=8,
)
terms = st.builds(
    lambda rounding, order, threshold: Terms(
        replace(RULES, rounding=rounding, order=order, stake_threshold=threshold), decimals=18, revision=1
    ),
    st.sampled_from(["toward_zero", "nearest"]),
    st.sampled_from(["factor_first", "clip_first"]),
    st.none() | st.decimals("0.01", 10**13, places=2),
)


@given(rounds, terms)
def test_settle_round__creates_no_money_but_the_treasurys_and_passes_the_audit(models, terms):
    stakes = Stakes(
        tuple(Stake(model, None, atoms, late=late) for model, (atoms, late, _, _) in sorted(models.items()))
    )
    submissions = {model: submission for model, (_, _, submission, _) in models.items()}
    ledger = settle_round(stakes, submissions, {model: scores for model, (*_, scores) in models.items()}, terms)
    *rows, treasury, burn = ledger.rows
    before, after = sum(row.stake_before for row in rows), sum(row.stake_after for row in rows)
    assert after - before == treasury.payout - burn.burn
    assert problems(ledger) == []
    assert problems(ledger, terms) == []


class Tournament(RuleBasedStateMachine):
    """Stakes that compound over rounds: what the models hold is what came in and what the ledgers say."""

    def __init__(self) -> None:
        super().__init__()
        self.stakes = {"a": 5 * NMR, "b": NMR, "c": 7}
        self.expected = sum(self.stakes.values())

    @rule(model=st.sampled_from("abc"), atoms=st.integers(0, 10**30))
    def deposit(self, model, atoms):
        self.stakes[model] += atoms
        self.expected += atoms

    @rule(
        scores=st.fixed_dictionaries(
            {model: st.fixed_dictionaries({"corr": st.integers(-(10**12), 10**12)}) for model in "abc"}
        ),
        clip=st.decimals("0.01", 1, places=2),
    )
    def play(self, scores, clip):
        terms = Terms(replace(RULES, payout={"corr": Decimal(15)}, clip=clip), decimals=18, revision=1)
        stakes = Stakes(tuple(Stake(model, None, atoms) for model, atoms in self.stakes.items()))
        ledger = settle_round(stakes, dict.fromkeys("abc", VALID), scores, terms)
        assert problems(ledger, terms) == []
        self.stakes = {model: row.stake_after for model, row in by_model(ledger).items()}
        self.expected += ledger.rows[-2].payout - ledger.rows[-1].burn

    @invariant()
    def holds_what_the_books_say(self):
        assert min(self.stakes.values()) >= 0
        assert sum(self.stakes.values()) == self.expected


TestTournament = Tournament.TestCase
TestTournament.settings = settings(max_examples=30, stateful_step_count=15)


def test_problems__finds_nothing_in_an_honest_ledger(ledger):
    assert problems(ledger) == []
    assert problems(ledger, TERMS) == []


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        ("earns", {"gross_payout": 17 * NMR // 10}, "gross_payout − burn must be"),
        ("earns", {"payout": 17 * NMR // 10}, "stake_after must be stake_before"),
        ("earns", {"netted": 101 * NMR}, "netted must be at most at_risk"),
        ("earns", {"netted": 1}, "netted must be the same on two sides, found 1 in all"),
        ("earns", {"netted": 2}, "netted must be the same on two sides, found 2 in all, 2 of them in one row"),
        ("late", {"netted": 2}, "netted must be at most at_risk = 0"),
        ("burns", {"payout": 1}, "payout must be 0 where gross_payout is"),
        ("earns", {"stake_after": 100 * NMR}, "stake_after must be stake_before"),
        ("earns", {"burn": 1}, "one of payout and burn must be 0"),
        ("earns", {"raw_rate": 1}, "raw_rate must be"),
        ("earns", {"raw_rate": None}, "must have a raw and a clipped rate"),
        ("earns", {"clipped_rate": 16 * 10**33 + 1}, "clipped_rate must be"),
        ("earns", {"scores": {"corr": 1, "mmc": 1}}, "raw_rate must be"),
        ("earns", {"scores": {"corr": 1, "mmc": None}}, "status must be scored where no paid score is absent"),
        ("earns", {"multipliers": {"corr": Decimal(2)}}, "raw_rate must be"),
        ("earns", {"at_risk": 50 * NMR}, "at_risk must be 100000000000000000000 with status scored"),
        ("earns", {"factor": FACTOR_ONE}, "factor must be 800000000000000000"),
        ("earns", {"factor": -1}, "factor must be 0 … 1e18"),
        ("earns", {"revision": 2}, "revision must be 1, found 2"),
        ("earns", {"rules_id": "other:R1"}, "rules_id must be test:R1, found other:R1"),
        ("earns", {"status": "happy"}, "status must be a model's, found 'happy'"),
        ("earns", {"status": "unscored"}, "must have no rate and no payout with status unscored"),
        ("earns", {"submission_digest": None}, "submission_digest must be given with status scored"),
        ("earns", {"reason": "why"}, "reason must be given unless scored"),
        ("earns", {"model": "zz"}, "models must be named, sorted and unique"),
        ("earns", {"model": "burns"}, "models must be named, sorted and unique, found 'burns' after 'burns'"),
        ("earns", {"model": None}, "models must be named"),
        ("earns", {"entry": "burn"}, "rows must be models, then one treasury, then one burn"),
        ("burns", {"burn": 101 * NMR}, "burn must be at most at_risk"),
        ("burns", {"stake_before": 10**38}, "stake_before must be 0 … 1e38 atoms"),
        ("burns", {"stake_after": -1}, "stake_after must be 0 … 1e38 atoms, found -1"),
        ("late", {"at_risk": 1000 * NMR}, "at_risk must be 0 with status late"),
        ("late", {"payout": 1}, "must have no rate and no payout with status late"),
        ("late", {"status": "unstaked"}, "status must be unstaked where stake_before is 0"),
        ("unscored", {"status": "scored", "reason": None}, "must have a raw and a clipped rate"),
        (None, {"payout": 1}, "must be (0, 0, "),
        (None, {"stake_before": 1}, "must be (0, 0, "),
        (None, {"status": "scored"}, "must have no model and status total"),
    ],
)
def test_problems__finds_whatever_is_changed(ledger, model, change, message):
    rows = tuple(replace(row, **change) if row.model == model else row for row in ledger.rows)
    assert any(message in problem for problem in problems(Ledger(rows)))


def test_problems__finds_missing_and_shuffled_rows(ledger):
    assert problems(Ledger(()))
    assert problems(Ledger(ledger.rows[:-1]))
    assert problems(Ledger(ledger.rows[1:]))
    assert problems(Ledger(ledger.rows[::-1]))


def test_problems__returns_all_of_them(ledger):
    rows = tuple(replace(row, revision=2, stake_after=1) if row.model == "earns" else row for row in ledger.rows)
    found = problems(Ledger(rows))
    assert len(found) == 2
    assert found[0].startswith("earns: revision")
    assert found[1].startswith("model earns: stake_after")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": Decimal("0.01")}, "clipped_rate must be"),
        ({"stake_threshold": Decimal(500)}, "factor must be 1000000000000000000, found 800000000000000000"),
        ({"stake_threshold": None}, "factor must be 1000000000000000000, found 800000000000000000"),
        ({"payout": {"corr": Decimal(1)}}, "multipliers must be"),
        ({"payout": None, "choices": ({"corr": (Decimal(1),)},)}, "multipliers must be on offer"),
        ({"rules_id": "test:R2"}, "rules_id must be test:R2, found test:R1"),
    ],
)
def test_problems__finds_a_ledger_settled_by_other_rules(ledger, change, message):
    assert any(message in problem for problem in problems(ledger, replace(TERMS, rules=replace(RULES, **change))))


def test_problems__knows_the_order_of_clip_and_factor_and_the_rounding():
    stakes = Stakes((Stake("a", None, 10**21 + 19),))
    scores = {"a": {"corr": 3 * 10**11, "mmc": 0}}
    ledger = settle_round(stakes, {"a": VALID}, scores, TERMS)
    assert problems(ledger, TERMS) == []
    by_order = problems(ledger, replace(TERMS, rules=replace(RULES, order="clip_first")))
    assert any("clipped_rate must be" in problem for problem in by_order)
    by_rounding = problems(ledger, replace(TERMS, rules=replace(RULES, rounding="nearest")))
    assert by_rounding == [f"model a: gross_payout − burn must be [{5 * 10**19 + 1}] atoms, found {5 * 10**19}"]
