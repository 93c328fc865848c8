"""An experiment's file says what it means or is refused on one line that names file and key."""

from dataclasses import replace
from pathlib import Path

import pytest

from scoring.lab.attacks import ATTACKS
from scoring.lab.statistics import Resampling
from scoring.synthetic import SyntheticSpec
from tasks.lab.exhibits import EXHIBITS
from tasks.lab.experiment_file import AttackPlan, ExperimentFile, mechanisms_of, read_experiment
from tasks.lab.laboratory import open_laboratory
from tasks.lab.mechanism import Mechanism
from tests.tasks import fixtures
from tests.tasks.fixtures import assert_refused
from tests.tasks.lab.history import mechanism

TOP = 'title = "A tax"\ndata = "here"\n'
VARIANTS = """\
[[variants]]
name = "taxed"
rules = { adjust = [{ policy = "conformity_tax", threshold = "50" }] }
[[variants]]
name = "smaller"
leave_out_largest = 2
"""


def read(folder: Path, text: str, data: str | None = None) -> ExperimentFile:
    path = folder / "tax.toml"
    path.write_text(text)
    return read_experiment(path, ("split", "copy"), ("stability", "influence"), data)


def test_read_experiment__what_is_left_out_has_a_default(tmp_path: Path) -> None:
    found = read(tmp_path, TOP)
    assert (found.name, found.title, found.question, found.content) == ("tax", "A tax", "", TOP.encode())
    assert found.sources.data == str(tmp_path / "here")
    assert (found.sources.synthetic, found.sources.tournament, found.sources.published) == (None, None, None)
    assert (found.sources.rounds, found.standings, found.attacks, found.exhibits) == (None, "mmc", None, ())
    assert found.resampling == Resampling(seed=1)
    assert found.variants == ()


def test_read_experiment__everything(tmp_path: Path) -> None:
    text = """\
title = "t"
question = "q?"
data = "s3://bucket/tournament"
tournament = "other.toml"
published = "../out"
rounds = "101-130"
seed = 18446744073709551615
standings = "bmc"
bootstrap = { samples = 100, block = 1 }
exhibits = ["influence"]
[baseline]
portfolio = {}
[attacks]
names = ["copy", "copy"]
against = ["taxed", "baseline"]
"""
    found = read(tmp_path, text + VARIANTS)
    assert found.sources.data == "s3://bucket/tournament"
    assert found.sources.tournament == tmp_path / "other.toml"
    assert (found.sources.published, found.sources.rounds) == (str(tmp_path / "../out"), (101, 130))
    assert found.resampling == Resampling(block=1, samples=100, seed=2**64 - 1)
    assert (found.question, found.standings, found.exhibits) == ("q?", "bmc", ("influence",))
    assert found.attacks == AttackPlan(("copy",), ("taxed", "baseline"))  # twice would count every round twice
    assert [each.text("name") for each in found.variants] == ["taxed", "smaller"]


def test_read_experiment__one_round_is_a_number_or_a_text(tmp_path: Path) -> None:
    for written in ("7", '"7"', '"7-7"'):
        assert read(tmp_path, f"{TOP}rounds = {written}\n").sources.rounds == (7, 7)


def test_read_experiment__by_default_all_attacks_on_all_where_nobody_has_left(tmp_path: Path) -> None:
    assert read(tmp_path, TOP + "[attacks]\n" + VARIANTS).attacks == AttackPlan(
        ("split", "copy"), ("baseline", "taxed")
    )


def test_read_experiment__synthetic(tmp_path: Path) -> None:
    shares = "unstaked_share = 0\nskip_share = 0.25\nlate_share = 0.0\n"
    found = read(tmp_path, f'title = "t"\n[synthetic]\nrounds = 2\nmodels = 9\nstocks = 20\nseed = 0\n{shares}')
    assert found.sources.data is None
    assert found.sources.synthetic == SyntheticSpec(
        rounds=2, models=9, stocks=20, seed=0, unstaked_share=0.0, skip_share=0.25, late_share=0.0
    )
    made = read(tmp_path, 'title = "t"\n[synthetic]\nrounds = 2\nmodels = 9\nstocks = 20\nseed = 0\n', data="/else")
    assert (made.sources.data, made.sources.synthetic) == ("/else", None)


SYNTHETIC = "[synthetic]\nrounds = 2\nmodels = 9\nstocks = 20\n"
WRONG = {
    "not toml": ("title = ", ("tax.toml: must be TOML",)),
    "no title": ('data = "here"\n', ("tax.toml: title must be", "missing")),
    "no data": ('title = "t"\n', ("tax.toml: needs data", "[synthetic]", "found neither")),
    "both": (f"{TOP}{SYNTHETIC}seed = 1\n", ("tax.toml: needs data", "[synthetic]", "found both")),
    "a misspelt key": (f"{TOP}exibits = []\n", ("tax.toml: unknown key exibits", "did you mean 'exhibits'")),
    "a misspelt table": (f"{TOP}[atacks]\n", ("tax.toml: unknown key atacks", "did you mean 'attacks'")),
    "no name": (f"{TOP}[[variants]]\nscores = {{}}\n", ("tax.toml: variants.name must be a string", "missing")),
    "an empty name": (f'{TOP}[[variants]]\nname = " "\n', ("tax.toml: variants.name must be a string",)),
    "a name twice": (
        f"{TOP}{VARIANTS}[[variants]]\nname = 'taxed'\n",
        ("tax.toml: ", "a name of its", "'taxed' twice"),
    ),
    "a baseline": (f'{TOP}[[variants]]\nname = "baseline"\n', ("tax.toml: ", "'baseline' twice")),
    "baseline 3": (f"{TOP}baseline = 3\n", ("tax.toml: baseline must be a table",)),
    "variants 3": (f"{TOP}variants = 3\n", ("tax.toml: variants must be a table",)),
    "data 3": ('title = "t"\ndata = 3\n', ("tax.toml: data must be a string",)),
    "rounds": (f'{TOP}rounds = "9-3"\n', ("tax.toml: rounds", "'9-3'")),
    "rounds as a list": (f"{TOP}rounds = [1, 2]\n", ("tax.toml: rounds",)),
    "seed": (f"{TOP}seed = -1\n", ("tax.toml: seed must be a whole number",)),
    "standings": (f'{TOP}standings = "mcc"\n', ("tax.toml: standings must be one of", '"mcc"')),
    "bootstrap": (f"{TOP}bootstrap = {{ sample = 3 }}\n", ("tax.toml: unknown key bootstrap.sample",)),
    "samples": (f"{TOP}bootstrap.samples = 99\n", ("tax.toml: bootstrap.samples must be",)),
    "block": (f"{TOP}bootstrap.block = 0\n", ("tax.toml: bootstrap.block must be",)),
    "attack": (f'{TOP}[attacks]\nnames = ["splt"]\n', ("tax.toml: attacks.names", "'splt'", "did you mean 'split'")),
    "attacks": (f'{TOP}attacks = ["split"]\n', ("tax.toml: attacks must be a table",)),
    "an attack alone": (f'{TOP}[attacks]\nnames = "split"\n', ("tax.toml: attacks.names must be a list",)),
    "attack keys": (f"{TOP}[attacks]\nname = []\n", ("tax.toml: unknown key attacks.name",)),
    "against": (f'{TOP}[attacks]\nagainst = ["taxt"]\n{VARIANTS}', ("tax.toml: attacks.against", "'taxt'", "'taxed'")),
    "exhibit": (f'{TOP}exhibits = ["influenc"]\n', ("tax.toml: exhibits", "'influenc'", "'influence'")),
    "exhibit 3": (f"{TOP}exhibits = [3]\n", ("tax.toml: exhibits", "there is no 3")),
    "synthetic lacks": (f'title = "t"\n{SYNTHETIC}', ("tax.toml: [synthetic] needs seed",)),
    "synthetic key": (f'title = "t"\n{SYNTHETIC}seeds = 1\n', ("tax.toml: unknown key synthetic.seeds",)),
    "synthetic few": (f'title = "t"\n{SYNTHETIC}seed = 1\nfeatures = 1\n', ("tax.toml: [synthetic]", "features")),
    "synthetic share": (f'title = "t"\n{SYNTHETIC}seed = 1\nlate_share = 1\n', ("tax.toml: [synthetic]", "late_share")),
    "synthetic word": (f'title = "t"\n{SYNTHETIC}seed = 1\nlate_share = "few"\n', ("tax.toml: synthetic.late_share",)),
    "synthetic half": (f'title = "t"\n{SYNTHETIC}seed = 1.5\n', ("tax.toml: synthetic.seed must be a whole",)),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_read_experiment__what_is_wrong_is_one_line_with_file_and_key(
    tmp_path: Path, case: tuple[str, tuple[str, ...]]
) -> None:
    assert_refused(lambda: read(tmp_path, case[0]), *case[1])


def test_read_experiment__a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert_refused(lambda: read_experiment(path, (), ()), f"{path}: cannot be read")


# Its mechanisms -----------------------------------------------------------------------------------------------------


def mechanisms(folder: Path, text: str, tournament: str = fixtures.TOURNAMENT) -> tuple[Mechanism, ...]:
    fixtures.write_round(folder / "here", tournament=tournament)
    return mechanisms_of(read(folder, TOP + text), str(folder / "here"))


def same(found: Mechanism, expected: Mechanism) -> bool:
    return replace(found.tournament, hash="") == replace(expected.tournament, hash="")


def test_mechanisms_of__a_variant_stands_on_the_baseline(tmp_path: Path) -> None:
    """Tables are merged key by key; weights, and what multipliers are, are replaced as a whole."""
    text = """\
[baseline]
weights = { policy = "cap_model", cap = "0.5" }
[baseline.rules]
payout = { bmc = "1" }
clip = "0.5"
[baseline.scores]
bags = 3
[[variants]]
name = "a"
[[variants]]
name = "b"
weights = { policy = "equal" }
rules = { multipliers = "model", choices = [{ tc = "any" }] }
scores = { pairwise = false }
[[variants]]
name = "c"
rules = { payout = { mmc = "2" }, clip = "0.1" }
"""
    baseline, *found = mechanisms(tmp_path, text)
    data = tmp_path / "here"
    cap, three = 'weights = [{ policy = "cap_model", cap = "0.5" }]\n', "scores.bags = 3\n"
    assert [each.name for each in (baseline, *found)] == ["baseline", "a", "b", "c"]
    assert same(baseline, mechanism(data, f'rules.clip = "0.5"\nrules.payout = {{ bmc = "1" }}\n{cap}{three}'))
    assert same(found[0], baseline)
    chosen = 'rules = { clip = "0.5", multipliers = "model", choices = [{ tc = "any" }] }\n'
    equal = 'weights = [{ policy = "equal" }]\nscores = { bags = 3, pairwise = false }\n'
    assert same(found[1], mechanism(data, chosen + equal))
    assert same(found[2], mechanism(data, f'rules.clip = "0.1"\nrules.payout = {{ mmc = "2" }}\n{cap}{three}'))


def test_mechanisms_of__another_file_may_stand_in_for_the_tournaments(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(fixtures.TOURNAMENT.replace('"0.05"', '"0.5"'))
    (found,) = mechanisms(tmp_path, 'tournament = "other.toml"\n')
    assert str(found.tournament.rulebook.at(7).clip) == "0.5"
    (tmp_path / "other.toml").unlink()
    assert_refused(lambda: mechanisms(tmp_path, 'tournament = "other.toml"\n'), "other.toml: cannot be read")


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("[baseline]\nbags = 3\n", ("tax.toml: unknown key baseline.bags",)),
        ("[baseline]\nleave_out_largest = 3\n", ("tax.toml: baseline.leave_out_largest",)),
        ('[baseline.rules]\nclip = "7"\n', ("tax.toml: baseline: [[rules]] row 1", "clip")),
        ('[[variants]]\nname = "a"\nrule = {}\n', ("tax.toml: unknown key variants.a.rule", "rules")),
        ('[[variants]]\nname = "a"\nrules = 3\n', ("tax.toml: variants.a.rules must be a table",)),
        ('[baseline]\nrules = 3\n[[variants]]\nname = "a"\nrules = {}\n', ("tax.toml: baseline.rules must be",)),
        ('[[variants]]\nname = "a"\nrules = { clip = 7 }\n', ("tax.toml: variants.a: [[rules]] row 1", "clip")),
        ('[[variants]]\nname = "a"\nscores = { bags = 0 }\n', ("tax.toml: variants.a.scores.bags",)),
    ],
)
def test_mechanisms_of__what_is_wrong_is_one_line_with_file_and_key(
    tmp_path: Path, text: str, fragments: tuple[str, ...]
) -> None:
    assert_refused(lambda: mechanisms(tmp_path, text), *fragments)


@pytest.mark.parametrize(
    ("tournament", "fragments"),
    [
        (fixtures.TOURNAMENT.replace("18", "19"), ("tournament.toml: decimals",)),
        (fixtures.TOURNAMENT.replace('"0.05"', '"5"'), ("tournament.toml: [[rules]] row 1", "clip")),
        ('name = "t"\ncurrency = "N"\ndecimals = 1\nrulebook = "numeria"\n', ("tournament.toml: ", "'numerai'")),
        ('name = "t"\ncurrency = "N"\ndecimals = 1\n', ("tournament.toml: ", "found neither")),
        ('name = "t"\ncurrency = "N"\ndecimals = 1\nrules = 3\n', ("tournament.toml: rules must be",)),
    ],
)
def test_mechanisms_of__what_the_tournament_says_wrongly_is_its_own_fault(
    tmp_path: Path, tournament: str, fragments: tuple[str, ...]
) -> None:
    baseline = "[baseline.rules]\nclip = '0.5'\n"
    assert_refused(lambda: mechanisms(tmp_path, baseline, tournament), *fragments)


# What an experiment rests on besides --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ("here", "rounds that have resolved, found none")),
        ('rounds = "8-9"\n', ("here", "found none from 8 to 9")),
        ('exhibits = ["score_stablity"]\n', ("tax.toml: exhibits", "score_stability")),
        ('exhibits = ["leave_out"]\n', ("tax.toml: the exhibit 'leave_out' needs variants named",)),
        ('[attacks]\nnames = ["split_model"]\n', ("tax.toml: attacks.names", "'split_models'")),
    ],
)
def test_open_laboratory__stops_before_any_work(tmp_path: Path, text: str, fragments: tuple[str, ...]) -> None:
    fixtures.write_round(tmp_path / "here", targets=None)
    (tmp_path / "tax.toml").write_text(TOP + text)
    assert_refused(lambda: open_laboratory(tmp_path / "tax.toml", tmp_path / "out"), *fragments)


def test_open_laboratory__no_such_data(tmp_path: Path) -> None:
    (tmp_path / "tax.toml").write_text(TOP)
    assert_refused(lambda: open_laboratory(tmp_path / "tax.toml", tmp_path / "out"), "here")


def test_names__are_those_that_the_docs_of_the_lab_speak_of() -> None:
    assert {"split_models", "throttle_pair", "leave_ids_out"} <= set(ATTACKS)
    assert {"score_stability", "leave_out"} <= set(EXHIBITS)
