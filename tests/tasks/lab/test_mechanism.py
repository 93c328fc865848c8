"""A variant changes what it says, in every row of the rules, and nothing else; what is wrong is said by name."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.rules import PayoutStep
from tasks.lab.mechanism import Mechanism
from tasks.store import open_store
from tasks.tournament import Tournament, read_tournament
from tests.tasks.fixtures import assert_refused
from tests.tasks.lab.history import mechanism

HEAD = 'name = "tiny"\ncurrency = "NMR"\ndecimals = 18\n'
TWO_ROWS = """\
[[rules]]
since_round = 1
payout = { corr = "0.5", mmc = "2.0" }
clip = "0.05"
stake_threshold = "72000"
order = "clip_first"
source = "first"

[[rules]]
since_round = 9
multipliers = "model"
choices = [{ corr = ["0", "1"] }, { mmc = "any" }]
clip = "0.25"
"""
REST = """\
[[weights]]
policy = "power"
exponent = "0.5"

[scores]
bags = 9
bag_unit = "account"
"""


def written(folder: Path, text: str = HEAD + TWO_ROWS + REST) -> Path:
    (folder / "tournament.toml").write_text(text)
    return folder


def own(folder: Path, text: str = HEAD + TWO_ROWS + REST) -> Tournament:
    """What the tournament's file says, as a live run reads it; its digest aside."""
    return replace(read_tournament(open_store(str(written(folder, text)))), hash="")


def read(folder: Path, changes: str, text: str = HEAD + TWO_ROWS + REST) -> Mechanism:
    return mechanism(written(folder, text), changes, name="x")


def test_mechanism_of__without_changes_is_the_tournament(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert replace(found.tournament, hash="") == own(tmp_path)
    assert (found.name, found.leave_out_largest, found.threshold_at_risk) == ("x", 0, False)


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ('rules.clip = "0.5"', ['clip = "0.05"', 'clip = "0.25"'], ['clip = "0.5"'] * 2),
        ("scores.bags = 3", ["bags = 9"], ["bags = 3"]),
        ("scores.pairwise = false", ["bags = 9"], ["bags = 9\npairwise = false"]),
        ('[[weights]]\npolicy = "equal"', [REST[: REST.index("[scores]")]], ['[[weights]]\npolicy = "equal"\n']),
        ("weights = []", [REST[: REST.index("[scores]")]], [""]),
        ("[portfolio]\nleverage = 2", ["[scores]"], ["[portfolio]\nleverage = 2\n[scores]"]),
        (
            'rules = { adjust = [{ policy = "uniqueness" }], net_opposites = "0.9" }',
            ['"first"\n', 'clip = "0.25"'],
            [
                '"first"\nadjust = [{ policy = "uniqueness" }]\nnet_opposites = "0.9"\n',
                'clip = "0.25"\nadjust = [{ policy = "uniqueness" }]\nnet_opposites = "0.9"\n',
            ],
        ),
        (
            'rules.payout = { bmc = "1" }',
            ['payout = { corr = "0.5", mmc = "2.0" }', 'multipliers = "model"', "choices ="],
            ['payout = { bmc = "1" }', 'payout = { bmc = "1" }', "# choices ="],
        ),
        (
            'rules = { multipliers = "model", choices = [{ tc = "any" }] }',
            ['payout = { corr = "0.5", mmc = "2.0" }', 'choices = [{ corr = ["0", "1"] }, { mmc = "any" }]'],
            ['multipliers = "model"\nchoices = [{ tc = "any" }]', 'choices = [{ tc = "any" }]'],
        ),
    ],
)
def test_mechanism_of__is_what_the_changed_file_says(
    tmp_path: Path, changes: str, old: list[str], new: list[str]
) -> None:
    """The change is made in the file's text, by hand, and the file read as ever."""
    text = HEAD + TWO_ROWS + REST
    for before, after in zip(old, new, strict=True):
        assert before in text
        text = text.replace(before, after, 1)
    found = read(tmp_path, changes)
    assert replace(found.tournament, hash="") == own(tmp_path, text)


def test_mechanism_of__a_built_in_rulebook_is_changed_row_by_row(tmp_path: Path) -> None:
    """Its rows are written out, so that the rules get the tournament's own name; nothing else is another."""
    text = HEAD + 'rulebook = "numerai"\n'
    plain = own(tmp_path, text).rulebook.rows
    found = read(tmp_path, 'rules.adjust = [{ policy = "uniqueness" }]', text).tournament.rulebook
    assert len(plain) > 5
    step = (PayoutStep("uniqueness", score="cwmm_max"),)
    assert found.rows == tuple(replace(row, adjust=step, rules_id=f"tiny:R{row.since_round}") for row in plain)
    unchanged = read(tmp_path, "scores.bags = 3", text).tournament.rulebook
    assert unchanged.rows == plain


def test_mechanism_of__another_change_is_another_digest(tmp_path: Path) -> None:
    changes = ["", "scores.bags = 3", "scores.bags = 4", 'rules.clip = "0.5"', "weights = []"]
    assert len({read(tmp_path, change).tournament.hash for change in changes}) == len(changes)
    assert read(tmp_path, "scores.bags = 3").tournament.hash == read(tmp_path, "scores.bags = 3").tournament.hash


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ("wieghts = []", ("experiment.toml: unknown key variants.x.wieghts", "weights")),
        ('name = "y"', ("unknown key variants.x.name",)),
        ('rulebook = "numerai"', ("unknown key variants.x.rulebook",)),
        ("rules.clipp = 1", ("experiment.toml: variants.x: [[rules]] row 1", "'clipp'", "clip")),
        ('rules.clip = "5"', ("experiment.toml: variants.x: [[rules]] row 1", "clip must be", "row 2")),
        ('rules.adjust = [{ policy = "conformity_tax" }]', ("variants.x: [[rules]] row 1", "threshold")),
        ('rules.adjust = [{ policy = "uniquenes" }]', ("variants.x: ", "did you mean 'uniqueness'")),
        ("rules = []", ("experiment.toml: variants.x.rules must be a table",)),
        ("scores = 3", ("experiment.toml: variants.x.scores must be a table",)),
        ("scores.bag_unit = 1", ("experiment.toml: variants.x.scores.bag_unit must be one of",)),
        ('weights = "power"', ("experiment.toml: variants.x.weights must be",)),
        ('weights = [{ policy = "powr" }]', ("experiment.toml: variants.x.weights.policy must be one of",)),
        ('weights = [{ policy = "power" }]', ("experiment.toml: variants.x", "power", "exponent")),
        (
            'weights = [{ policy = "equal" }, { policy = "limit_stake", limit = 1, minimum = 0 }]',
            ("experiment.toml: variants.x", "limit_stake is in currency"),
        ),
        ("portfolio.leverege = 2", ("unknown key variants.x.portfolio.leverege", "leverage")),
        ("leave_out_largest = -1", ("variants.x.leave_out_largest must be a whole number",)),
        ("leave_out_largest = true", ("variants.x.leave_out_largest must be a whole number",)),
        ('rules.stake_threshold = "at risk"', ("variants.x: [[rules]] row 1", "stake_threshold")),
        ("rules.since_round = 3", ("variants.x", "since_round must ascend")),
    ],
)
def test_mechanism_of__says_on_one_line_where_and_what_is_wrong(
    tmp_path: Path, changes: str, fragments: tuple[str, ...]
) -> None:
    assert_refused(lambda: read(tmp_path, changes), *fragments)


def test_rules_at__the_threshold_at_risk_is_exact_and_none_while_it_is_not_known(tmp_path: Path) -> None:
    found = read(tmp_path, 'rules.stake_threshold = "at_risk"')
    assert found.threshold_at_risk
    for number in (1, 8, 9, 100):
        assert found.rules_at(number, 0).stake_threshold is None
        assert found.rules_at(number, 10**24 + 1).stake_threshold == Decimal("1000000.000000000000000001")
    assert found.rules_at(8, 5).order == "clip_first"
    assert found.rules_at(9, 5).payout is None


@pytest.fixture(scope="module")
def at_risk(tmp_path_factory: pytest.TempPathFactory) -> Mechanism:
    return read(tmp_path_factory.mktemp("at-risk"), 'rules.stake_threshold = "at_risk"')


@given(atoms=st.integers(1, 10**38 - 1))
def test_rules_at__keeps_every_atom(at_risk: Mechanism, atoms: int) -> None:
    """More than the 28 digits that decimals keep unasked."""
    found = at_risk.rules_at(1, atoms).stake_threshold
    assert found is not None
    sign, digits, exponent = found.as_tuple()
    assert (sign, int("".join(map(str, digits))), exponent) == (0, atoms, -18)


def test_rules_at__a_threshold_of_its_own_stays(tmp_path: Path) -> None:
    found = read(tmp_path, 'rules.stake_threshold = "5"')
    assert not found.threshold_at_risk
    assert {found.rules_at(number, atoms).stake_threshold for number in (1, 9) for atoms in (0, 7)} == {Decimal(5)}
