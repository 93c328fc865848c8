"""The tournament file: read exactly, or refused with the key, what was found and the nearest known word."""

import hashlib
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scoring.portfolio.problem import PortfolioTerms
from scoring.rounds import ScoreOptions, TrueContributionOptions
from scoring.rulebook import builtin
from scoring.weight_policies import WeightStep
from tasks.store import open_store
from tasks.tournament import Tournament, read_tournament
from tests.tasks.fixtures import TOURNAMENT, assert_refused, without, write_round

RULES = TOURNAMENT[TOURNAMENT.index("[[rules]]") :]
HEADER = TOURNAMENT[: TOURNAMENT.index("[[rules]]")]
BAD_TOURNAMENTS = {
    "not_toml": (TOURNAMENT.replace("decimals = 18", "decimals 18"), "must be TOML", "line 3"),
    "not_utf8": (TOURNAMENT.encode() + b"# \xff", "must be UTF-8", "0xff"),
    "unknown_key": (TOURNAMENT.replace("decimals", "decimal"), "unknown key decimal (did you mean 'decimals'?)"),
    "unknown_scores_key": (TOURNAMENT + "[scores]\nbag = 3\n", "unknown key scores.bag (did you mean 'bags'?)"),
    "unknown_weights_key": (TOURNAMENT + "[weights]\npolcy = 3\n", "key weights.polcy (did you mean 'policy'?)"),
    "unknown_rules_key": (TOURNAMENT.replace("clip", "clp"), "tournament.toml", "'clp' (did you mean 'clip'?)"),
    "unknown_policy": (
        TOURNAMENT + '[weights]\npolicy = "cap"\n',
        'weights.policy must be one of "stake", "equal", "log", "power", "cap_model", "cap_account", "cap_family", ',
        'found "cap"',
    ),
    "weights_no_table": (
        HEADER + "weights = 3\n" + RULES,
        "weights must be a table [weights] or a list of tables",
        "3",
    ),
    "weights_without_number": (
        TOURNAMENT + '[weights]\npolicy = "cap_model"\n',
        "weights: cap_model needs cap, a number above 0, found None",
    ),
    "weights_with_another_number": (
        TOURNAMENT + '[weights]\npolicy = "power"\nexponent = "0.5"\ncap = "0.1"\n',
        "weights.cap means nothing with the policy power; leave it out",
    ),
    "weights_large_cap": (
        TOURNAMENT + '[[weights]]\npolicy = "cap_account"\ncap = 5\n',
        "weights: cap of cap_account must be at most 1, found 5",
    ),
    "weights_without_threshold": (
        TOURNAMENT + '[[weights]]\npolicy = "cap_family"\ncap = "0.1"\n',
        "weights: cap_family needs threshold, a number above 0, found None",
    ),
    "weights_low_threshold": (
        TOURNAMENT + '[[weights]]\npolicy = "cap_family"\ncap = "0.1"\nthreshold = "0.5"\n',
        "weights: threshold of cap_family must be above 0.5, found 0.5",
    ),
    "weights_example_of_another": (
        TOURNAMENT + '[weights]\npolicy = "reputation"\nexample = "bench"\n',
        "weights.example means nothing with the policy reputation; leave it out",
    ),
    "weights_number_of_own": (
        TOURNAMENT + '[weights]\npolicy = "mine:weights"\ncap = 1\n',
        "weights.cap means nothing with the policy mine:weights; leave it out",
    ),
    "weights_limit_too_late": (
        TOURNAMENT + '[[weights]]\npolicy = "equal"\n[[weights]]\npolicy = "limit_stake"\nlimit = 1\nminimum = 0\n',
        "weights: limit_stake is in currency and must stand before equal, found after it",
    ),
    "weights_limit_out_of_reach": (
        TOURNAMENT + '[weights]\npolicy = "limit_stake"\nlimit = "1e999999"\nminimum = 0\n',
        'weights.limit must be an amount of the currency above 0, from 1E-20 to 1E+20, found "1e999999"',
    ),
    "weights_no_limit_at_all": (
        TOURNAMENT + '[weights]\npolicy = "limit_stake"\nlimit = 0\nminimum = 0\n',
        "weights.limit must be an amount of the currency above 0, from 1E-20 to 1E+20, found 0",
    ),
    "weights_minimum_out_of_reach": (
        TOURNAMENT + '[weights]\npolicy = "limit_stake"\nlimit = 1\nminimum = "1e999999999"\n',
        "weights: minimum of limit_stake must be at most 100000000000000000000, found 1E+999999999",
    ),
    "no_name": (without(TOURNAMENT, "name"), "name must be a string that is not empty, but it is missing"),
    "empty_name": (TOURNAMENT.replace('"tiny"', '""'), 'name must be a string that is not empty, found ""'),
    "no_currency": (without(TOURNAMENT, "currency"), "currency must be a string"),
    "no_decimals": (without(TOURNAMENT, "decimals"), "decimals must be a whole number from 0 to 18"),
    "many_decimals": (TOURNAMENT.replace("18", "19"), "decimals must be a whole number from 0 to 18, found 19"),
    "true_decimals": (TOURNAMENT.replace("18", "true"), "decimals must be a whole number"),
    "no_rules": (HEADER, 'must have either rulebook = "numerai" or [[rules]], found neither'),
    "two_rules": (HEADER + 'rulebook = "numerai"\n' + RULES, "or [[rules]], found both"),
    "unknown_book": (HEADER + 'rulebook = "numeria"\n', "numeria"),
    "rules_no_list": (HEADER + "rules = 3\n", "rules must be a list of tables [[rules]], found 3"),
    "portfolio_no_table": (HEADER + "portfolio = 3\n" + RULES, "portfolio must be a table [portfolio], found 3"),
    "zero_bags": (TOURNAMENT + "[scores]\nbags = 0\n", "scores.bags must be a whole number from 1"),
    "large_fraction": (
        TOURNAMENT + '[scores]\nbag_fraction = "67"\n',
        "scores.bag_fraction must be a share",
        'found "67"',
    ),
    "word_fraction": (TOURNAMENT + '[scores]\nbag_fraction = "many"\n', "scores.bag_fraction must be a share"),
    "nan_fraction": (TOURNAMENT + "[scores]\nbag_fraction = nan\n", "scores.bag_fraction must be a share"),
    "unknown_unit": (TOURNAMENT + '[scores]\nbag_unit = "user"\n', 'must be one of "model", "account", found "user"'),
    "unknown_portfolio_key": (
        TOURNAMENT + "[portfolio]\nleverge = 1\n",
        "unknown key portfolio.leverge (did you mean 'leverage'?)",
    ),
    "negative_cap": (TOURNAMENT + "[portfolio]\ncap = -1\n", "portfolio.cap must be a number above 0, found -1"),
    "word_risk": (
        TOURNAMENT + '[portfolio]\nrisk_aversion = "low"\n',
        "portfolio.risk_aversion must be a number",
        'found "low"',
    ),
    "zero_risk": (
        TOURNAMENT + "[portfolio]\nrisk_aversion = 0\n",
        'portfolio.risk_aversion must be a number above 0 or "auto", found 0',
    ),
    "unknown_neutral": (
        TOURNAMENT + '[portfolio]\nneutral = ["industry"]\n',
        'portfolio.neutral must be a list of some of "market", "country", "sector"',
    ),
    "all_dropped": (TOURNAMENT + "[true_contribution]\ndropout = 1\n", "dropout must be in 0 ≤ dropout < 1, found 1"),
    "unknown_scaling": (
        TOURNAMENT + '[true_contribution]\nscaling = "rank"\n',
        'true_contribution.scaling must be one of "raw", "normalised", "z_score", found "rank"',
    ),
    "word_flag": (TOURNAMENT + '[scores]\npairwise = "no"\n', "scores.pairwise must be true or false"),
}


def tournament_of(directory: Path, text: str | bytes) -> Tournament:
    return read_tournament(open_store(write_round(directory, tournament=text)))


def test_read_tournament__reads_its_own_rules(tmp_path: Path) -> None:
    tournament = tournament_of(tmp_path, TOURNAMENT)
    assert (tournament.name, tournament.currency, tournament.decimals) == ("tiny", "NMR", 18)
    assert tournament.rulebook.at(7).payout == {"corr": Decimal("0.5"), "mmc": Decimal(2)}
    assert tournament.scores == ScoreOptions()
    assert tournament.hash == hashlib.sha256(TOURNAMENT.encode()).hexdigest()


def test_read_tournament__takes_the_built_in_rulebook(tmp_path: Path) -> None:
    assert tournament_of(tmp_path, HEADER + 'rulebook = "numerai"\n').rulebook == builtin("numerai")


def test_read_tournament__an_override_replaces_the_file(tmp_path: Path) -> None:
    store = open_store(write_round(tmp_path))
    (tmp_path / "other.toml").write_text(TOURNAMENT.replace("tiny", "other"))
    assert read_tournament(store, tmp_path / "other.toml").name == "other"


@pytest.mark.parametrize("fraction", ["0.5", '"0.5"'])
def test_read_tournament__reads_score_options_exactly(tmp_path: Path, fraction: str) -> None:
    options = f'[scores]\nbags = 5\nbag_fraction = {fraction}\nbag_unit = "account"\npairwise = false\n'
    scores = tournament_of(tmp_path, TOURNAMENT + options).scores
    assert scores == replace(ScoreOptions(), bags=5, bag_fraction=Decimal("0.5"), bag_unit="account", pairwise=False)


def test_read_tournament__reads_the_portfolio_and_its_bags(tmp_path: Path) -> None:
    text = TOURNAMENT + (
        '[weights]\npolicy = "stake"\n[portfolio]\nrisk_aversion = 2\ncap = 4.5\nexposure_bound = "none"\n'
        'neutral = ["sector", "market"]\n[true_contribution]\nbags = 40\ndropout = "0.25"\nscaling = "z_score"\n'
    )
    found = tournament_of(tmp_path, text)
    assert found.portfolio == PortfolioTerms(2.0, cap=4.5, exposure_bound=None, neutral=("market", "sector"))
    assert found.true_contribution == TrueContributionOptions(bags=40, dropout=Decimal("0.25"), scaling="z_score")


DEFAULTS: dict[str, Any] = {
    "scores": ScoreOptions(),
    "portfolio": PortfolioTerms(),
    "true_contribution": TrueContributionOptions(),
}
OTHER_OPTIONS = {
    "scores": (
        "bags = 3",
        'bag_fraction = "0.5"',
        'bag_unit = "account"',
        "target_buckets = false",
        "pairwise = false",
    ),
    "portfolio": (
        "risk_aversion = 7.5",
        "leverage = 2.5",
        "cap = 7.5",
        "exposure_bound = 0.7",
        "feature_bound = 0.7",
        "feature_penalty = 0.7",
        "turnover_cost = 0.7",
        'neutral = ["market"]',
        'solver = "module:function"',
    ),
    "true_contribution": (
        "bags = 3",
        'dropout = "0.25"',
        "chunk = 3",
        'scaling = "raw"',
        'spread = "0.02"',
        'flagged_share = "0.5"',
    ),
}


@pytest.mark.parametrize(("table", "line"), [(table, line) for table, lines in OTHER_OPTIONS.items() for line in lines])
def test_read_tournament__takes_every_option_from_the_file(tmp_path: Path, table: str, line: str) -> None:
    name = line.partition(" ")[0]
    found = tournament_of(tmp_path, f"{TOURNAMENT}[{table}]\n{line}\n")
    options, default = getattr(found, table), DEFAULTS[table]
    changed = [each.name for each in fields(default) if getattr(options, each.name) != getattr(default, each.name)]
    assert changed == [name]


def test_read_tournament__no_option_is_left_out_of_these_tests() -> None:
    for table, default in DEFAULTS.items():
        assert {line.partition(" ")[0] for line in OTHER_OPTIONS[table]} == {each.name for each in fields(default)}


def test_read_tournament__reads_weights_in_their_order_and_exactly(tmp_path: Path) -> None:
    assert tournament_of(tmp_path / "a", TOURNAMENT).weights == ()
    assert tournament_of(tmp_path / "b", TOURNAMENT + '[weights]\npolicy = "stake"\n').weights == (WeightStep("stake"),)
    steps = """
[[weights]]
policy = "log"
scale = "2.5"
[[weights]]
policy = "power"
exponent = 0.1
[[weights]]
policy = "cap_account"
cap = "0.05"
[[weights]]
policy = "cap_family"
cap = "0.1"
threshold = "0.95"
[[weights]]
policy = "minimum_example_correlation"
minimum = "-0.25"
example = "bench_one"
[[weights]]
policy = "my_rules:weights"
"""
    assert tournament_of(tmp_path / "c", TOURNAMENT + steps).weights == (
        WeightStep("log", Decimal("2.5") * 10**18),
        WeightStep("power", Decimal("0.1")),
        WeightStep("cap_account", Decimal("0.05")),
        WeightStep("cap_family", Decimal("0.1"), threshold=Decimal("0.95")),
        WeightStep("minimum_example_correlation", minimum=Decimal("-0.25"), example="bench_one"),
        WeightStep("my_rules:weights"),
    )
    long = "12345678901.123456789012345678"  # more digits than decimal's default context keeps
    limit = f'[weights]\npolicy = "limit_stake"\nlimit = "{long}"\nminimum = "0.01"\n'
    assert tournament_of(tmp_path / "d", TOURNAMENT + limit).weights == (
        WeightStep("limit_stake", Decimal(long.replace(".", "")), minimum=Decimal("0.01")),
    )


def test_terms_of_portfolio__only_where_they_are_asked_for_or_paid_on(tmp_path: Path) -> None:
    assert tournament_of(tmp_path / "a", TOURNAMENT).terms_of_portfolio(7) is None
    asked = tournament_of(tmp_path / "b", TOURNAMENT + "[portfolio]\n")
    paid = tournament_of(tmp_path / "c", TOURNAMENT.replace("mmc =", "tc ="))
    assert asked.terms_of_portfolio(7) == paid.terms_of_portfolio(7) == PortfolioTerms()


def test_terms_of_portfolio__also_where_payouts_are_adjusted_by_true_contribution(tmp_path: Path) -> None:
    chosen = TOURNAMENT.replace('payout = { corr = "0.5", mmc = "2.0" }', 'multipliers = "model"')
    taxed = chosen + 'adjust = [{ policy = "uniqueness", score = "tc" }]\n'
    assert tournament_of(tmp_path / "a", chosen).terms_of_portfolio(7) is None
    assert tournament_of(tmp_path / "b", taxed).terms_of_portfolio(7) == PortfolioTerms()


@pytest.mark.parametrize("case", BAD_TOURNAMENTS.values(), ids=BAD_TOURNAMENTS.keys())
def test_read_tournament__refuses(tmp_path: Path, case: tuple[str, ...]) -> None:
    text, *fragments = case
    assert_refused(lambda: tournament_of(tmp_path, text), "tournament.toml: ", *fragments)


def test_read_tournament__missing_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert_refused(lambda: read_tournament(store), "tournament.toml: there is no such file; a tournament needs one")
    missing = tmp_path / "missing.toml"
    assert_refused(lambda: read_tournament(store, missing), "missing.toml: cannot be read: No such file")
