"""What the lab pays is what the weekly run publishes: column by column, to the atom, whatever is changed."""

import math
import shutil
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError
from scoring.lab.plays import Play
from scoring.stakes import Stake
from scoring.weight_policies import Standings
from tasks.lab.attack_case import attack_case
from tasks.lab.case import RoundCase, staged
from tasks.lab.evaluate import Known, Outcome, evaluate, reproduces
from tasks.lab.mechanism import Mechanism
from tests.reference import naive
from tests.tasks import fixtures
from tests.tasks.fixtures import assert_refused
from tests.tasks.lab.history import (
    FIRST,
    LAST,
    RULES,
    SPEC,
    as_evaluated,
    as_stated,
    case_of,
    mechanism,
    resolve,
    submissions,
    table,
    units,
    with_play,
)

SOLVED = "[true_contribution]\nbags = 6\nchunk = 3\nflagged_share = 1\n"
VARIANTS = {  # as a variant writes it, and as tournament.toml does
    "power": (
        'weights = [{ policy = "power", exponent = "0.5" }]',
        "",
        '[[weights]]\npolicy = "power"\nexponent = "0.5"\n',
    ),
    "equal, capped by account": (
        'weights = [{ policy = "equal" }, { policy = "cap_account", cap = "0.2" }]',
        "",
        '[[weights]]\npolicy = "equal"\n[[weights]]\npolicy = "cap_account"\ncap = "0.2"\n',
    ),
    "families": (
        'weights = { policy = "cap_family", cap = "0.3", threshold = "0.6" }',
        "",
        '[weights]\npolicy = "cap_family"\ncap = "0.3"\nthreshold = "0.6"\n',
    ),
    "near a benchmark model": (
        'weights = [{ policy = "minimum_example_correlation", minimum = "0.3", example = "bench_example" }]',
        "",
        '[weights]\npolicy = "minimum_example_correlation"\nminimum = "0.3"\nexample = "bench_example"\n',
    ),
    "conformity tax": (
        'rules = { adjust = [{ policy = "conformity_tax", threshold = "0.01", unit = "account" }] }',
        'adjust = [{ policy = "conformity_tax", threshold = "0.01", unit = "account" }]\n',
        "",
    ),
    "uniqueness": ('rules = { adjust = [{ policy = "uniqueness" }] }', 'adjust = [{ policy = "uniqueness" }]\n', ""),
    "unbuckled": ("scores.target_buckets = false", "", "[scores]\ntarget_buckets = false\n"),
}
NETTED = 'rules.net_opposites = "0.95"'
PAYOUTS = {  # the same, where the multipliers change
    "bmc": ('rules.payout = { corr = "1", bmc = "0.5" }', 'corr = "1", bmc = "0.5"', ""),
    "fnc and pairs": ('rules.payout = { fnc = "1", cwmm_mean = "-0.5" }', 'fnc = "1", cwmm_mean = "-0.5"', ""),
    "bags of accounts": (
        'rules.payout = { mmc_bagged = "2" }\nscores = { bag_unit = "account", bags = 7 }',
        'mmc_bagged = "2"',
        '[scores]\nbag_unit = "account"\nbags = 7\n',
    ),
    "tc": (f'rules.payout = {{ tc = "1" }}\n{SOLVED}', 'tc = "1"', SOLVED),
    "tc_raw of another portfolio": (
        f'rules.payout = {{ tc_raw = "1", corr = "1" }}\n[portfolio]\nrisk_aversion = 3\n{SOLVED}',
        'tc_raw = "1", corr = "1"',
        f"[portfolio]\nrisk_aversion = 3\n{SOLVED}",
    ),
}


def tournament_with(in_rules: str, below: str, payout: str | None = None) -> str:
    rules = RULES if payout is None else RULES.replace('corr = "0.5", mmc = "2.0"', payout)
    return f'name = "synthetic-{SPEC.seed}"\ncurrency = "NMR"\ndecimals = 18\n{rules}{in_rules}{below}'


def evaluated(case: RoundCase, variant: Mechanism, **more: Any) -> Outcome:
    found = evaluate(case, case.scene, variant, **more)
    assert found is not None
    return found


@pytest.mark.parametrize("number", SPEC.round_numbers)
def test_evaluate__the_baseline_is_what_is_published(data: Path, out: Path, number: int) -> None:
    case = case_of(data, number, published=out)
    for extent in ("whole", "measured", "money"):
        outcome = evaluated(case, mechanism(data), extent=extent)
        assert as_evaluated(outcome.ledger) == as_stated(table(out, "ledger", number))
        assert reproduces(case, outcome) is True


def test_history__has_what_the_comparison_is_for(out: Path) -> None:
    rows = [row for number in SPEC.round_numbers for row in table(out, "ledger", number)]
    assert {"scored", "late", "missing", "unstaked"} <= {row["status"] for row in rows}
    assert all(row["factor"] < 1 for row in rows)
    assert any(row["burn"] for row in rows)


CHANGED = {**{name: (*texts, None) for name, texts in VARIANTS.items()}}
CHANGED |= {name: (change, "", below, payout) for name, (change, payout, below) in PAYOUTS.items()}


@pytest.mark.parametrize("name", CHANGED)
def test_evaluate__a_variant_is_what_the_weekly_run_publishes_with_the_change_in_its_file(
    data: Path, out: Path, tmp_path: Path, name: str
) -> None:
    change, in_rules, below, payout = CHANGED[name]
    file = tmp_path / "tournament.toml"
    file.write_text(tournament_with(in_rules, below, payout))
    variant, number = mechanism(data, change), FIRST + 1
    published = table(resolve(data, tmp_path / "out", number, file), "ledger", number)
    case = case_of(data, number, variant, portfolio=True)
    assert as_stated(published) != as_stated(table(out, "ledger", number))
    for extent in ("whole", "money", "measured"):
        assert as_evaluated(evaluated(case, variant, extent=extent).ledger) == as_stated(published), extent


def test_evaluate__a_file_that_only_a_variant_looks_at_is_read(tmp_path: Path) -> None:
    """The baseline has no use for examples, standings and the portfolio before; the variants live on them."""
    standings = pa.table({"model": ["model_b"], "account": pa.nulls(1, pa.string()), "standing": [Decimal("0.5")]})
    held = pa.table({"id": fixtures.stock_ids(), "weight": [0.03 * (-1) ** at for at in range(fixtures.STOCKS)]})
    stakes = fixtures.with_column(fixtures.round_tables()["stakes"], "stake", fixtures.money("90", "70", "50", "30"))
    data = fixtures.write_round(tmp_path / "data", stakes=stakes, standings=standings, previous_portfolio=held)
    text = fixtures.TOURNAMENT
    for at, (change, below) in enumerate(
        [
            ('weights = [{ policy = "minimum_example_correlation", minimum = "-0.1" }]',) * 2,
            ('weights = [{ policy = "equal" }, { policy = "reputation" }]',) * 2,
            (f'rules.payout = {{ tc = "1" }}\n[portfolio]\nturnover_cost = "3"\n{SOLVED}',) * 2,
        ]
    ):
        written = text.replace('corr = "0.5", mmc = "2.0"', 'tc = "1"') if "tc" in change else text
        own = below.replace('rules.payout = { tc = "1" }\n', "")
        file = tmp_path / f"{at}.toml"
        file.write_text(own + "\n" + written if own.startswith("weights") else written + own)
        published = table(resolve(data, tmp_path / f"out-{at}", 7, file), "ledger", 7)
        variant = mechanism(data, change)
        outcome = evaluated(case_of(data, 7, variant, portfolio=True), variant)
        assert as_evaluated(outcome.ledger) == as_stated(published), change


def test_evaluate__opposites_are_netted_as_in_the_weekly_run(data: Path, tmp_path: Path) -> None:
    """Nobody here is anybody's opposite, so somebody hands in the mirror image of the largest staker."""
    case, variant = case_of(data, FIRST), mechanism(data, NETTED)
    largest = max(case.scene.stakes.rows, key=lambda row: row.atoms)
    mirror = 1 - np.array([p for _, p in sorted(submissions(data, FIRST)[largest.model].items())])
    play = Play(uploads={"mirror": mirror}, stakes=(Stake("mirror", "somebody", largest.atoms // 3),))
    copy = with_play(data, tmp_path / "data", FIRST, play)
    file = tmp_path / "tournament.toml"
    file.write_text(tournament_with('net_opposites = "0.95"\n', ""))
    published = as_stated(table(resolve(copy, tmp_path / "out", FIRST, file), "ledger", FIRST))
    assert {row["model"]: row["netted"] for row in published if row["netted"]} == {
        "mirror": largest.atoms // 3,
        largest.model: largest.atoms // 3,
    }
    outcome = evaluate(case, staged(case, play), variant, extent="money")
    assert outcome is not None
    assert as_evaluated(outcome.ledger) == published


ALTERED: dict[str, object] = {
    "payout": Decimal("1e-18"),
    "account": "somebody",
    "status": "late",
    "factor": Decimal("0.5"),
    "corr": None,
    "rules_id": "other:R1",
}


@pytest.mark.parametrize("column", [*ALTERED, "revision"])
def test_reproduces__not_where_one_cell_of_the_published_ledger_is_another(
    data: Path, out: Path, tmp_path: Path, column: str
) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    (path,) = (copy / f"ledger/round={FIRST}").iterdir()
    read = pq.ParquetFile(path).read()
    rows = read.to_pylist()
    row = next(row for row in rows if row["status"] == "scored")
    row[column] = row["payout"] + ALTERED["payout"] if column == "payout" else ALTERED.get(column, 2)
    pq.write_table(pa.Table.from_pylist(rows, schema=read.schema), path)
    case = case_of(data, FIRST, published=copy)
    assert reproduces(case, evaluated(case, mechanism(data))) is (column == "revision")


def test_reproduces__nothing_to_compare_with_is_neither(data: Path, out: Path, tmp_path: Path) -> None:
    case = case_of(data, FIRST)
    outcome = evaluated(case, mechanism(data))
    assert reproduces(case, outcome) is None
    shutil.copytree(out / "ledger", tmp_path / "ledger")
    assert reproduces(replace(case, published=str(tmp_path)), outcome) is None


def test_reproduces__chained_stakes_too(chained_history: tuple[Path, Path]) -> None:
    data, out = chained_history
    for number in (1, 5, 8):
        case = case_of(data, number, published=out)
        assert reproduces(case, evaluated(case, mechanism(data))) is True


def test_evaluate__the_data_may_be_gone_once_the_round_is_open(data: Path, out: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    variants = [mechanism(copy, change) for change, *_ in VARIANTS.values()]
    case = case_of(copy, LAST, *variants, published=out)
    there = case_of(data, LAST, *variants)
    shutil.rmtree(copy)
    assert reproduces(case, evaluated(case, mechanism(data))) is True
    for variant in variants:
        assert as_evaluated(evaluated(case, variant).ledger) == as_evaluated(evaluated(there, variant).ledger)
    assert attack_case(case, variants[:1], ("throttle_pair", "split_models", "leave_ids_out"), Known())


def test_evaluate__a_threshold_at_risk_is_a_factor_of_one_until_somebody_comes(data: Path, out: Path) -> None:
    variant, case = mechanism(data, 'rules.stake_threshold = "at_risk"'), case_of(data, FIRST)
    published = as_stated(table(out, "ledger", FIRST))
    at_risk = sum(row["at_risk"] for row in published)
    for known in (Known(at_risk_atoms=at_risk), Known()):
        ledger = evaluated(case, variant, known=known).ledger
        assert {row.factor for row in ledger.rows} == {10**18}
    largest = max(case.scene.stakes.rows, key=lambda row: row.atoms)
    assert largest.model in case.scene.ranks.models
    grown = staged(case, Play(stakes=(replace(largest, atoms=largest.atoms + at_risk),)))
    attacked = evaluate(case, grown, variant, Known(at_risk_atoms=at_risk))
    assert attacked is not None
    assert {row.factor for row in attacked.ledger.rows} == {5 * 10**17}


def test_evaluate__nothing_at_risk_is_no_outcome(data: Path) -> None:
    case = case_of(data, FIRST)
    everybody = frozenset(row.model for row in case.scene.stakes.rows)
    staked = frozenset(row.model for row in case.scene.stakes.rows if row.atoms)
    for gone in (everybody | set(case.ranks.models), staked):
        for change in ("", VARIANTS["families"][0], NETTED):
            assert evaluate(case, staged(case, Play(withdrawn=gone)), mechanism(data, change)) is None


def test_evaluate__weights_and_meta_model_by_hand(data: Path, out: Path) -> None:
    case = case_of(data, FIRST)
    outcome = evaluated(case, mechanism(data))
    at_risk = {row["model"]: units(row["at_risk"], 18) or 0 for row in table(out, "ledger", FIRST) if row["model"]}
    total = sum(at_risk.values())
    handed_in = submissions(data, FIRST)
    assert set(outcome.weights) == set(handed_in)
    for model, weight in outcome.weights.items():
        assert weight == pytest.approx(float(Fraction(at_risk[model], total)), rel=1e-14, abs=0)
    assert math.fsum(outcome.weights.values()) == pytest.approx(1, abs=1e-15)
    expected = naive.weighted(handed_in, {model: float(atoms) for model, atoms in at_risk.items() if atoms})
    assert outcome.meta_model.tolist() == pytest.approx([expected[stock] for stock in sorted(expected)], abs=1e-14)
    read = pq.read_table(data / f"rounds/{FIRST}/targets.parquet").to_pydict()
    corr = naive.corr({"meta": expected}, dict(zip(read["id"], read["target"], strict=True)))["meta"]
    assert outcome.meta_model_corr == pytest.approx(corr, abs=1e-12)


def test_evaluate__portfolio_return_is_that_of_the_published_portfolio(data: Path, tmp_path: Path) -> None:
    variant = mechanism(data, f"[portfolio]\n{SOLVED}")
    case = case_of(data, FIRST, variant, portfolio=True)
    file = tmp_path / "tournament.toml"
    file.write_text(tournament_with("", f"[portfolio]\n{SOLVED}"))
    rows = table(resolve(data, tmp_path / "out", FIRST, file), "meta_model", FIRST)
    expected = math.fsum(row["portfolio"] * (row["return"] or 0.0) for row in rows)
    whole, measured, money = (evaluated(case, variant, extent=each) for each in ("whole", "measured", "money"))
    assert whole.portfolio_return == pytest.approx(expected, abs=1e-12)
    assert measured.portfolio_return == whole.portfolio_return
    assert np.isnan(money.portfolio_return)
    assert any(found.get("tc") is not None for found in measured.units.values())
    assert all(found.get("tc") is None for found in whole.units.values())
    assert np.isnan(evaluated(case, mechanism(data)).portfolio_return)


def test_evaluate__by_standings_that_follow_from_the_past(data: Path) -> None:
    variant = mechanism(data, 'weights = [{ policy = "equal" }, { policy = "reputation" }]')
    case = case_of(data, FIRST, variant)
    first, second = [row.model for row in case.scene.stakes.rows if row.atoms and row.model in case.ranks.models][:2]
    known = Known(Standings({first: 3 * 10**9, second: 10**9}, {}))
    weights = {model: weight for model, weight in evaluated(case, variant, known=known).weights.items() if weight}
    assert weights == {first: 0.75, second: 0.25}
    with pytest.raises(OperatorError, match="round 11, variant: weights: reputation needs standings, found none"):
        evaluate(case, case.scene, variant)


def test_evaluate__a_policy_that_leaves_nobody_says_in_which_round_and_whose_it_is(data: Path) -> None:
    steps = 'weights = [{ policy = "minimum_example_correlation", minimum = 1, example = "bench_example" }]'
    variant = mechanism(data, steps, name="near")
    case = case_of(data, FIRST, variant)
    assert_refused(lambda: evaluate(case, case.scene, variant), "round 11, near: ", "leaves no model with a stake")
