"""The rulebook: reading, refusing, and the built-in history of Numerai."""

import pickle
import re
import tomllib
from decimal import Decimal

import pytest

from scoring.errors import OperatorError
from scoring.published import SCORE_KEYS
from scoring.rulebook import Rulebook, Rules, builtin, builtin_tables, parse_rules
from scoring.rules import PayoutStep

PLAIN = 'since_round = 101\npayout = { corr = "0.5", mmc = "2.0" }\nclip = "0.05"'
CHOSEN = 'since_round = 101\nmultipliers = "model"\nclip = "0.05"'


def parse(*rows: str) -> Rulebook:
    document = "".join(f"[[rules]]\n{row}\n" for row in rows)
    tables = tomllib.loads(document, parse_float=Decimal).get("rules", [])
    return parse_rules(tables, book="spring", origin="tournament.toml")


def only(row: str) -> Rules:
    return parse(row).rows[0]


def multipliers(**chosen: str) -> dict[str, Decimal]:
    return {key: Decimal(value) for key, value in chosen.items()}


def test_parse_rules__takes_the_documented_defaults():
    assert only(PLAIN) == Rules(
        rules_id="spring:R101",
        since_round=101,
        payout={"corr": Decimal("0.5"), "mmc": Decimal("2.0")},
        clip=Decimal("0.05"),
        choices=(),
        stake_threshold=None,
        order="factor_first",
        rounding="toward_zero",
        source="",
        adjust=(),
        net_opposites=None,
    )


def test_parse_rules__reads_every_key():
    rules = only(
        f'{PLAIN}\nstake_threshold = "72000"\norder = "clip_first"\nrounding = "nearest"\nsource = "the minutes"'
    )
    assert rules.stake_threshold == 72000
    assert (rules.order, rules.rounding, rules.source) == ("clip_first", "nearest", "the minutes")


def test_parse_rules__reads_the_steps_of_payouts_and_the_netting():
    rules = only(
        f'{PLAIN}\nnet_opposites = "0.95"\nadjust = ['
        '{ policy = "conformity_tax", threshold = "50", unit = "account" }, { policy = "uniqueness" }, '
        '{ policy = "uniqueness", score = "cwmm_mean" }, { policy = "my.rules:payouts" }]'
    )
    assert rules.net_opposites == Decimal("0.95")
    assert rules.adjust == (
        PayoutStep("conformity_tax", Decimal(50), "account", "cwmm"),
        PayoutStep("uniqueness", score="cwmm_max"),
        PayoutStep("uniqueness", score="cwmm_mean"),
        PayoutStep("my.rules:payouts"),
    )
    assert rules.own_functions == ("my.rules:payouts",)
    assert pickle.loads(pickle.dumps(rules)) == rules


def test_builtin_tables__are_what_the_built_in_rulebook_is_read_from():
    tables = builtin_tables("numerai")
    assert parse_rules(tables, book="numerai", origin="here") == builtin("numerai")
    with pytest.raises(OperatorError, match="built-in rulebook must be one of numerai, found 'numerei'"):
        builtin_tables("numerei")


@pytest.mark.parametrize(("written", "read"), [('"0.05"', "0.05"), ("0.05", "0.05"), ("1", "1"), ('"1"', "1")])
def test_parse_rules__reads_numbers_exactly_as_written(written, read):
    assert only(PLAIN.replace('"0.05"', written)).clip == Decimal(read)


def test_parse_rules__refuses_a_binary_float():
    table = {"since_round": 1, "payout": {"corr": "1"}, "clip": 0.05}
    with pytest.raises(OperatorError, match=r"clip: must be a plain decimal number, best in quotes.*found 0\.05"):
        parse_rules([table], book="spring", origin="tournament.toml")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{PLAIN}\nclp = 1", r"found 'clp' \(did you mean 'clip'\?\)"),
        (PLAIN.replace("since_round = 101\n", ""), "must have since_round"),
        ('payout = { corr = "1" }', "must have since_round and clip, found only payout"),
        (PLAIN.replace("101", '"101"'), "since_round must be a whole number, found '101'"),
        (PLAIN.replace("101", "true"), "since_round must be a whole number, found True"),
        (PLAIN.replace("101", "-1"), "since_round must be ≥ 0, found -1"),
        (PLAIN.replace('"0.05"', '"5"'), 'clip must be above 0, at most 1.*found 5; write 5 % as "0.05"'),
        (PLAIN.replace('"0.05"', '"0"'), "clip must be above 0"),
        (PLAIN.replace('"0.05"', "nan"), "clip must be above 0.*found NaN"),
        (PLAIN.replace('"0.05"', '"0.0000000000000000001"'), "with at most 18 decimals"),
        (PLAIN.replace('"0.05"', '"5 %"'), "clip: must be a plain decimal number.*found '5 %'"),
        (PLAIN.replace('"0.05"', "1e-999999999"), "clip: must lie between 1e-40 and 1e40, found 1E-999999999"),
        (PLAIN + "\nstake_threshold = 1e999999999", "stake_threshold: must lie between 1e-40 and 1e40"),
        (PLAIN.replace('"0.05"', "true"), "clip: must be a plain decimal number.*found True"),
        (PLAIN.replace("mmc", "mcm"), r"payout must name scores.*found 'mcm' \(did you mean 'mmc'\?\)"),
        (PLAIN.replace('"2.0"', '"0.0000001"'), "payout, mmc: a multiplier must be.*at most 6 decimals"),
        (PLAIN.replace('"2.0"', '"1001"'), "payout, mmc: a multiplier must be within ±1000.*found 1001"),
        (PLAIN.replace('"2.0"', "[2]"), r"payout, mmc: must be a plain decimal number.*found \[2\]"),
        ('since_round = 1\npayout = {}\nclip = "1"', "payout must name at least one score"),
        ('since_round = 1\npayout = "corr"\nclip = "1"', "payout must be a table of multipliers"),
        ('since_round = 1\nclip = "1"', "set by payout or chosen by the models"),
        (f'{PLAIN}\nmultipliers = "model"', "set by payout or chosen by the models"),
        (CHOSEN.replace('"model"', '"2"'), "multipliers must be \"model\", found '2'"),
        (f'{PLAIN}\nchoices = [{{ corr = "any" }}]', 'choices must stand beside multipliers = "model"'),
        (f"{CHOSEN}\nchoices = []", "choices must be a list of tables"),
        (f'{CHOSEN}\nchoices = ["corr"]', "choices must list tables.*found 'corr'"),
        (f'{CHOSEN}\nchoices = [{{ corr = "1" }}]', 'choices, corr: must be a list of multipliers or "any"'),
        (f"{CHOSEN}\nchoices = [{{ corr = [] }}]", "choices, corr: must be a list of multipliers"),
        (f'{CHOSEN}\nchoices = [{{ cor = ["1"] }}]', r"choices must name scores.*\(did you mean 'corr'\?\)"),
        (f'{CHOSEN}\nchoices = [{{ corr = ["0.0000001"] }}]', "choices, corr: a multiplier must be"),
        (f'{PLAIN}\nstake_threshold = "0"', "stake_threshold must be > 0, found 0; leave it out"),
        (f'{PLAIN}\norder = "clip"', r"order must be one of factor_first, clip_first, found 'clip'"),
        (f'{PLAIN}\nrounding = "up"', "rounding must be one of toward_zero, nearest, found 'up'"),
        (f"{PLAIN}\nsource = 5", "source must be a text in quotes, found 5"),
        (f'{PLAIN}\nnet_opposites = "0.5"', "net_opposites must be above 0.5, at most 1, found 0.5"),
        (f'{PLAIN}\nnet_opposites = "95 %"', "net_opposites: must be a plain decimal number.*found '95 %'"),
        (f'{PLAIN}\nadjust = "uniqueness"', "adjust must be a list of tables"),
        (f'{PLAIN}\nadjust = ["uniqueness"]', "adjust must list tables with a policy.*found 'uniqueness'"),
        (f'{PLAIN}\nadjust = [{{ threshold = "5" }}]', "adjust must list tables with a policy"),
        (
            f'{PLAIN}\nadjust = [{{ policy = "unique" }}]',
            r"adjust, unique: policy must be.*\(did you mean 'uniqueness'",
        ),
        (f'{PLAIN}\nadjust = [{{ policy = "uniqueness", scor = "tc" }}]', r"adjust: a key must be.*mean 'score'\?"),
        (f'{PLAIN}\nadjust = [{{ policy = "uniqueness", score = 5 }}]', "adjust, score must be a score's name"),
        (f'{PLAIN}\nadjust = [{{ policy = "conformity_tax" }}]', "conformity_tax: threshold must be a number ≥ 0"),
        (f'{PLAIN}\nadjust = [{{ policy = "conformity_tax", threshold = "x" }}]', "threshold: must be a plain decimal"),
        (
            f'{PLAIN}\nadjust = [{{ policy = "a:b", unit = "team" }}]',
            "adjust, a:b: unit must be one of model, account, found 'team'",
        ),
    ],
)
def test_parse_rules__refuses_in_one_line_that_names_file_row_and_key(row, message):
    with pytest.raises(OperatorError, match=rf"^tournament\.toml: \[\[rules\]\] row 1: .*{message}"):
        parse(row)


def test_parse_rules__returns_the_problems_of_all_rows():
    with pytest.raises(OperatorError) as caught:
        parse(PLAIN.replace('"0.05"', '"5"'), PLAIN, PLAIN.replace("mmc", "mcm"))
    assert re.findall(r"\[\[rules\]\] row \d", str(caught.value)) == ["[[rules]] row 1", "[[rules]] row 3"]


def test_parse_rules__refuses_two_rows_for_one_round():
    with pytest.raises(OperatorError, match=r"^tournament\.toml: since_round must ascend.*found 101 and then 101"):
        parse(PLAIN, PLAIN)


def test_parse_rules__refuses_a_book_without_rows():
    with pytest.raises(OperatorError, match=r"^tournament\.toml: must have at least one \[\[rules\]\] row"):
        parse()


def test_parse_rules__refuses_a_single_table():
    table = tomllib.loads(f"[rules]\n{PLAIN}")["rules"]
    with pytest.raises(OperatorError, match=r"must be a table under its own \[\[rules\]\], found 'since_round'"):
        parse_rules(table, book="spring", origin="tournament.toml")


def test_at__returns_the_newest_row_that_does_not_start_later():
    book = parse(PLAIN.replace("101", "200"), PLAIN)
    assert [book.at(number).since_round for number in (101, 199, 200, 10**6)] == [101, 101, 200, 200]


def test_at__refuses_a_round_before_the_oldest_row():
    with pytest.raises(OperatorError, match=r"rulebook spring.*round 100.*found none before round 101; add a"):
        parse(PLAIN).at(100)


def test_multipliers__are_the_rules_own_whatever_a_model_chose():
    rules = only(PLAIN)
    assert rules.multipliers(multipliers(tc="3")) == multipliers(corr="0.5", mmc="2")
    assert rules.refusal(multipliers(tc="3")) is None


def test_multipliers__are_the_models_choice_and_zero_elsewhere():
    rules = only(f'{CHOSEN}\nchoices = [{{ tc = "any", corr = ["0", "1"] }}]')
    assert list(rules.multipliers(multipliers(tc="3")).items()) == [("corr", Decimal(0)), ("tc", Decimal(3))]


@pytest.mark.parametrize(
    ("chosen", "accepted"),
    [
        (multipliers(corr="1"), True),
        (multipliers(corr="1.0", mmc="0"), True),
        (multipliers(mmc="2"), True),
        (multipliers(mmc="2", tc="0.123456"), True),
        (multipliers(), False),
        (multipliers(corr="1", mmc="2"), False),
        (multipliers(corr="0.5"), False),
        (multipliers(mmc="2", tc="-1"), False),
        (multipliers(mmc="2", tc="0.1234567"), False),
        (multipliers(mmc="2", tc="1001"), False),
        (multipliers(mmc="2", tc="NaN"), False),
        (multipliers(corr="1", fnc="1"), False),
    ],
)
def test_refusal__a_choice_must_fit_one_alternative(chosen, accepted):
    rules = only(f'{CHOSEN}\nchoices = [{{ corr = ["1"] }}, {{ mmc = ["2"], tc = "any" }}]')
    assert (rules.refusal(chosen) is None) == accepted


def test_refusal__says_what_is_on_offer_and_what_was_found():
    rules = only(f'{CHOSEN}\nchoices = [{{ corr = ["1"] }}, {{ mmc = ["2"], tc = "any" }}]')
    assert rules.refusal(multipliers(corr="3")) == (
        "multipliers must be on offer under spring:R101 (corr 1 or mmc 2, tc any), found corr 3"
    )


def test_refusal__without_choices_any_score_may_be_chosen():
    rules = only(CHOSEN)
    assert rules.paid_scores == SCORE_KEYS
    assert rules.refusal(multipliers(fnc="0.25", bmc="7")) is None
    assert rules.refusal(multipliers(fnc="-0.25")) is not None


def test_builtin__holds_every_known_rule_with_its_source():
    book = builtin()
    starts = [205, 212, 222, 225, 258, 311, 316, 390, 476, 485, 589, 650, 1172, 1343]
    assert [rules.since_round for rules in book.rows] == starts
    assert [rules.rules_id for rules in book.rows] == [f"numerai:R{start}" for start in starts]
    assert all(rules.source and rules.rounding == "nearest" for rules in book.rows)
    assert [rules.since_round for rules in book.rows if rules.order == "clip_first"] == [258, 311]


@pytest.mark.parametrize(
    ("number", "paid", "clip", "threshold"),
    [
        (211, ("corr_tie_broken",), "0.25", None),
        (250, ("corr_tie_broken", "mmc_bagged"), "0.25", None),
        (315, ("corr_tie_broken", "tc"), "0.25", 300_000),
        (475, ("corr_tie_broken", "tc"), "0.25", 360_000),
        (484, ("corr_tie_broken", "tc"), "0.05", 72_000),
        (600, ("corr", "tc"), "0.05", 72_000),
        (1171, ("corr", "mmc"), "0.05", 72_000),
        (1343, ("corr", "mmc"), "1", None),
    ],
)
def test_builtin__pays_each_era_on_its_scores(number, paid, clip, threshold):
    rules = builtin("numerai").at(number)
    assert rules.paid_scores == paid
    assert (rules.clip, rules.stake_threshold) == (Decimal(clip), threshold)


@pytest.mark.parametrize(
    ("number", "chosen", "accepted"),
    [
        (212, multipliers(corr_tie_broken="1"), True),
        (212, multipliers(mmc_bagged="2"), True),
        (212, multipliers(corr_tie_broken="1", mmc_bagged="2"), False),
        (222, multipliers(corr_tie_broken="1", mmc_bagged="1"), True),
        (222, multipliers(corr_tie_broken="1", mmc_bagged="0.5"), False),
        (225, multipliers(corr_tie_broken="1", mmc_bagged="0.5"), True),
        (225, multipliers(corr_tie_broken="1", mmc_bagged="3"), False),
        (311, multipliers(corr_tie_broken="0", tc="3"), True),
        (484, multipliers(corr="1"), False),
        (485, multipliers(corr="1", tc="3"), True),
        (589, multipliers(corr="2", tc="1"), True),
        (589, multipliers(corr="2", tc="2"), False),
    ],
)
def test_builtin__offers_each_era_its_multipliers(number, chosen, accepted):
    assert (builtin().at(number).refusal(chosen) is None) == accepted


def test_builtin__fixes_the_multipliers_since_mmc_came_back():
    book = builtin()
    assert [book.at(number).payout for number in (650, 1172, 1343)] == [
        multipliers(corr="0.5", mmc="2"),
        multipliers(corr="0.75", mmc="2.25"),
        multipliers(corr="3", mmc="15"),
    ]


def test_builtin__names_the_nearest_book():
    with pytest.raises(OperatorError, match=r"must be one of numerai, found 'numeray' \(did you mean 'numerai'\?\)"):
        builtin("numeray")


def test_rules__travel_between_processes():
    assert pickle.loads(pickle.dumps(builtin())) == builtin()
