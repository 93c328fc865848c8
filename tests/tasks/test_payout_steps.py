"""Rounds whose rules withhold payouts or net opposites: settled, published, verified, recomputed by a participant."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.render import print_resolution
from scoring.errors import ConflictError, OperatorError
from scoring.families import Families
from scoring.ledger import Terms
from scoring.rules import PayoutStep, Rules
from scoring.stakes import Stake, Stakes
from tasks.conclude import Resolution
from tasks.findings import Findings, merge
from tasks.ingest import Receipt
from tasks.plan import RoundRequest, plan_round
from tasks.read_back import read_stated
from tasks.settle import settle
from tasks.verify import VerifyRequest, own_files, verify_published
from tasks.verify_data import compare_runs
from tests.flows.in_process import resolve_in_process
from tests.operators_module import operators_module
from tests.tasks import published_round
from tests.tasks.fixtures import TOURNAMENT, assert_refused, csv_bytes, money, submission, with_column, write_round
from tests.tasks.published_round import (
    NUMBER,
    SCORED,
    changed_submission,
    copy,
    edit_manifest,
    own_submission,
    table_file,
    tamper,
    with_cell,
)
from tests.tasks.verified import newest

PARTNER = "model_d"  # of the same account as SCORED, and at risk as it is
MODULE = "payouts_of_the_house"
SOURCE = "def payouts(gains):\n    return [gain.payout + 7 for gain in gains]\n"
ATOM = Decimal("0.000000000000000001")

BY_ACCOUNT = '{ policy = "conformity_tax", threshold = "100", unit = "account" }'


def tournament(*steps: str, more: str = "") -> str:
    """A tournament that pays both models at risk, with steps."""
    paid = TOURNAMENT.replace('payout = { corr = "0.5", mmc = "2.0" }', 'payout = { corr = "-0.5" }')
    return f"{paid}adjust = [{', '.join(steps)}]\n{more}"


def ledger(out: Path) -> dict[str | None, dict[str, object]]:
    rows = pq.ParquetFile(table_file(out, "ledger")).read().to_pylist()
    return {row["model"]: row for row in rows if row["entry"] == "model"}


def own(out: Path, file: Path) -> Findings:
    return verify_published(VerifyRequest(str(out), NUMBER, own_files(SCORED, file, None))).findings


def named(findings: Findings) -> set[str]:
    lines = (line.partition(f"model {SCORED}: ")[2] for line in findings.problems)
    return {line.partition(":")[0] for line in lines if line}


def verified(data: Path, out: Path, again: Path) -> Findings:
    resolve_in_process(data, again, NUMBER)
    alone = verify_published(VerifyRequest(str(out), NUMBER, None, str(data))).findings
    return merge([alone, compare_runs(newest(out), newest(again))])


@pytest.fixture(scope="module")
def taxed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A round whose accounts are taxed, and then paid by how unique a model is."""
    return published_round.publish(
        tmp_path_factory.mktemp("taxed"), tournament(BY_ACCOUNT, '{ policy = "uniqueness" }')
    )


# Withheld -----------------------------------------------------------------------------------------------------------


def test_settle__withholds_what_the_rules_say_and_shows_why(taxed: tuple[Path, Path]) -> None:
    rows = ledger(taxed[1])
    gross = {model: Fraction(rows[model]["gross_payout"]) for model in (SCORED, PARTNER)}
    total = sum(gross.values())
    assert total > 100
    for model, earned in gross.items():
        row = rows[model]
        assert row["cwmm_multiplier"] is None
        assert row["cwmm_max_multiplier"] is None
        kept = earned - earned / total * (total - 100) * Fraction(row["cwmm"])
        kept = Fraction(int(kept * 10**18), 10**18)
        assert Fraction(row["payout"]) == Fraction(int(kept * (1 - Fraction(row["cwmm_max"])) * 10**18), 10**18)
        assert row["stake_after"] == row["stake_before"] + row["payout"]
        assert row["payout"] < row["gross_payout"]
    assert {row["netted"] for row in rows.values()} == {0}


def test_verify__agrees_with_a_round_that_withholds(taxed: tuple[Path, Path], tmp_path: Path) -> None:
    found = verified(*taxed, tmp_path / "again")
    assert found.problems == ()


def test_read_stated__gives_back_the_steps_and_the_netting(taxed: tuple[Path, Path], tmp_path: Path) -> None:
    out = copy(taxed[1], tmp_path)
    rules = read_stated(newest(out).manifest).terms.rules
    assert rules.adjust == (PayoutStep("conformity_tax", Decimal(100), "account"), PayoutStep("uniqueness"))
    assert rules.net_opposites is None
    edit_manifest(out, lambda content: content["rules"].update(net_opposites="0.95"))
    assert read_stated(newest(out).manifest).terms.rules.net_opposites == Decimal("0.95")
    edit_manifest(out, lambda content: [content["rules"].pop(key) for key in ("adjust", "net_opposites")])
    assert read_stated(newest(out).manifest).terms.rules == replace(rules, adjust=())  # as older manifests have it


@pytest.mark.parametrize(
    ("model", "column", "value", "message"),
    [
        (PARTNER, "payout", lambda paid: paid + ATOM, "payout must be"),
        (PARTNER, "gross_payout", lambda paid: paid + ATOM, "gross_payout − burn must be"),
        (PARTNER, "cwmm", Decimal("0.1"), "cwmm of model_d"),
        (PARTNER, "cwmm_max", None, "cwmm_max of model_d"),
        (PARTNER, "tc", Decimal("0.1"), "tc of model_d"),
        (PARTNER, "netted", Decimal(1), "netted must be 0 under"),
        (SCORED, "account", "account_0", "payout must be"),
    ],
)
def test_verify__names_whatever_is_changed(
    taxed: tuple[Path, Path], tmp_path: Path, model: str, column: str, value: object, message: str
) -> None:
    out = copy(taxed[1], tmp_path)
    tamper(out, "ledger", with_cell(column, model, value), restate=True)
    found = verify_published(VerifyRequest(str(out), NUMBER)).findings
    assert any(message in line for line in found.problems)


def test_print_resolution__tells_what_was_withheld_where_the_rules_withhold(
    taxed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = resolve_in_process(taxed[0], tmp_path / "out", NUMBER)
    print_resolution(found, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (withheld,) = [line[1] for line in lines if line[0] == "withheld"]
    rows = ledger(taxed[1]).values()
    assert Decimal(withheld) == sum(row["gross_payout"] - row["payout"] for row in rows)
    facts = json.loads(json.dumps(found.manifest.facts))
    assert facts["totals"]["gross_payout"] == f"{sum(row['gross_payout'] for row in rows):f}"
    facts["rules"] = {**facts["rules"], "adjust": [], "net_opposites": "0.95"}
    print_resolution(Resolution(replace(found.manifest, facts=facts), found.summary), as_json=False)
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert "withheld" not in shown
    assert shown[2:4] == ["at", "netted"]


# Recomputed by its owner --------------------------------------------------------------------------------------------


def test_verify_submission__recomputes_a_payout_from_the_published_rows_of_its_account(
    taxed: tuple[Path, Path], tmp_path: Path
) -> None:
    found = own(taxed[1], own_submission(tmp_path))
    assert found.problems == ()
    paid = ledger(taxed[1])[SCORED]["payout"]
    assert any(line.startswith(f"model {SCORED}: payout {paid:f},") for line in found.checked)
    assert f"model {SCORED}: the other payouts of its account (1) were taken as published" in found.notes


@pytest.mark.parametrize(("column", "also"), [("gross_payout", True), ("payout", False), ("account", True)])
def test_verify_submission__a_change_to_another_model_of_the_account_counts_where_the_rule_sums(
    taxed: tuple[Path, Path], tmp_path: Path, column: str, also: bool
) -> None:
    out = copy(taxed[1], tmp_path)
    value = "account_9" if column == "account" else Decimal(3)
    tamper(out, "ledger", with_cell(column, PARTNER, value), restate=True)
    assert ("payout" in named(own(out, own_submission(tmp_path)))) == also


def test_verify_submission__a_score_that_a_step_looks_at_must_be_there(
    taxed: tuple[Path, Path], tmp_path: Path
) -> None:
    out = copy(taxed[1], tmp_path)
    tamper(out, "ledger", with_cell("cwmm", SCORED, None), restate=True)
    assert "cwmm" in named(own(out, own_submission(tmp_path)))


def test_verify_submission__takes_what_is_netted_as_published(taxed: tuple[Path, Path], tmp_path: Path) -> None:
    out = copy(taxed[1], tmp_path)
    edit_manifest(out, lambda content: content["rules"].update(net_opposites="0.95"))
    found = own(out, own_submission(tmp_path))
    assert found.problems == ()
    assert any("what opposite submissions net in the payout factor was taken as" in note for note in found.notes)
    assert any("netted was taken as published" in note for note in found.notes)


@pytest.mark.parametrize("column", ["payout", "gross_payout"])
def test_verify_submission__a_changed_amount_is_named(taxed: tuple[Path, Path], tmp_path: Path, column: str) -> None:
    out = copy(taxed[1], tmp_path)
    tamper(out, "ledger", with_cell(column, SCORED, lambda paid: paid - ATOM), restate=True)
    assert named(own(out, own_submission(tmp_path))) - {"payout must be"} >= {column}


def test_verify_submission__a_changed_prediction_changes_the_tax(taxed: tuple[Path, Path], tmp_path: Path) -> None:
    found = named(own(taxed[1], changed_submission(tmp_path)))
    assert found >= {"cwmm", "gross_payout", "payout", "stake_after"}


# An operator's own function -----------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an operator's module in the working directory, which is forgotten afterwards."""
    return operators_module(tmp_path, monkeypatch, MODULE, SOURCE)


def test_settle__pays_by_an_operators_own_function_and_verifies(house: Path, tmp_path: Path) -> None:
    data, out = published_round.publish(tmp_path, tournament(f'{{ policy = "{MODULE}:payouts", score = "cwmm" }}'))
    for row in ledger(out).values():
        assert row["payout"] - row["gross_payout"] == (7 * ATOM if row["gross_payout"] else 0)
    assert ledger(out)[SCORED]["cwmm"] is not None
    whole = verified(data, out, tmp_path / "again")
    assert whole.problems == ()
    assert any(f"payout was taken as published, {MODULE}:payouts made it" in note for note in whole.notes)
    found = own(out, own_submission(tmp_path))
    assert found.problems == ()
    assert any(line.startswith(f"model {SCORED}: gross payout ") for line in found.checked)
    assert f"model {SCORED}: what {MODULE}:payouts made of its payout was not recomputed" in found.notes
    house.write_text(SOURCE.replace("7", "8"))
    with pytest.raises(ConflictError, match=f"with other inputs: the module of {MODULE}:payouts"):
        plan_round(RoundRequest(str(data), str(out), NUMBER), datetime.now(UTC))


@pytest.mark.parametrize(
    ("steps", "more", "fragments"),
    [
        ('{ policy = "sys:exit" }', "", ["rules.adjust", "the module 'sys' of 'sys:exit' must be a file"]),
        (f'{{ policy = "{MODULE}:payout" }}', "", ["rules.adjust", "has no function 'payout'", "'payouts'"]),
        ('{ policy = "uniqueness" }', "[scores]\npairwise = false\n", ["cwmm_max", "scores.pairwise = true"]),
        ('{ policy = "uniqueness", score = "tc" }', "", ["rounds/7/factor_covariance.parquet"]),
    ],
    ids=["no_file", "misspelt", "not_compared", "no_risk_model"],
)
def test_plan_round__what_a_step_needs_must_be_there_before_any_work(
    taxed: tuple[Path, Path], house: Path, tmp_path: Path, steps: str, more: str, fragments: list[str]
) -> None:
    terms = tmp_path / "other.toml"
    terms.write_text(tournament(steps, more=more))
    data = tmp_path / "data"
    data.symlink_to(copy(taxed[0], tmp_path), target_is_directory=True)
    (data / f"rounds/{NUMBER}/factor_covariance.parquet").unlink()
    request = RoundRequest(str(data), str(tmp_path / "nothing"), NUMBER, terms)
    assert_refused(lambda: plan_round(request, datetime.now(UTC)), *fragments)


# Netted -------------------------------------------------------------------------------------------------------------

AT_RISK = {"m1": 10, "m2": 4, "m3": 3, "m4": 20, "m5": 8, "m6": 0}
RULES = Rules("r:R1", 1, {"corr": Decimal(1)}, Decimal(1), stake_threshold=Decimal(12), net_opposites=Decimal("0.9"))
FAMILIES = Families(
    Decimal("0.90"), {"m1": (0, 1), "m2": (0, -1), "m3": (0, -1), "m4": (1, 1), "m5": (0, -1), "m6": (0, 1)}
)


def receipt(model: str) -> Receipt:
    return Receipt(model, f"{model}.csv", {}, "d" * 64, None)


def test_settle__nets_what_opposites_have_at_risk_and_nobody_else() -> None:
    stakes = Stakes(tuple(Stake(model, None, atoms, late=model == "m5") for model, atoms in AT_RISK.items()))
    receipts = [receipt(model) for model in AT_RISK]
    found = settle(stakes, receipts, {}, Terms(RULES, 0, 1), FAMILIES)
    rows = {row.model: row for row in found.rows if row.model}
    assert {model: row.netted for model, row in rows.items()} == {
        "m1": 7,
        "m2": 4,
        "m3": 3,
        "m4": 0,
        "m5": 0,
        "m6": 0,  # late, and without a stake: not at risk, so nothing that could be netted
    }
    assert rows["m1"].factor == 12 * 10**18 // 23
    plain = settle(stakes, receipts, {}, Terms(replace(RULES, net_opposites=None), 0, 1), FAMILIES)
    assert {row.netted for row in plain.rows} == {0}
    assert plain.rows[0].factor == 12 * 10**18 // 37


@pytest.mark.parametrize("families", [None, replace(FAMILIES, threshold=Decimal("0.8"))], ids=["none", "others"])
def test_settle__does_not_go_on_without_the_families_that_the_rules_net(families: Families | None) -> None:
    with pytest.raises(ValueError, match=r"families at 0\.9 must be known"):
        settle(Stakes((Stake("m1", None, 5),)), [receipt("m1")], {}, Terms(RULES, 0, 1), families)


def test_plan_round__a_misspelt_step_is_refused_with_its_row(taxed: tuple[Path, Path], tmp_path: Path) -> None:
    terms = tmp_path / "other.toml"
    terms.write_text(tournament('{ policy = "uniquenes" }'))
    with pytest.raises(OperatorError, match=r"\[\[rules\]\] row 1: adjust, uniquenes: policy must be.*did you mean"):
        plan_round(RoundRequest(str(taxed[0]), str(tmp_path / "out"), NUMBER, terms), datetime.now(UTC))


def test_resolve__a_pair_of_opposites_leaves_the_payout_factor_alone(tmp_path: Path) -> None:
    mirrored = submission(1)
    mirrored = with_column(mirrored, "prediction", [1 - each for each in mirrored["prediction"].to_pylist()])
    models = ["model_b", "model_c", "model_d"]
    stakes = pa.table({"model": models, "account": ["x", "y", "z"], "stake": money("50", "100", "50")})
    tables = {"submissions": {"model_d.csv": csv_bytes(mirrored)}, "stakes": stakes}
    plain = TOURNAMENT.replace('"72000"', '"100"')
    factors = {}
    for name, text in {"plain": plain, "netted": f'{plain}net_opposites = "0.95"\n'}.items():
        data = write_round(tmp_path / name, NUMBER, tournament=text, **tables)
        resolve_in_process(data, tmp_path / f"{name}_out", NUMBER)
        factors[name] = {
            model: (row["netted"], row["factor"]) for model, row in ledger(tmp_path / f"{name}_out").items()
        }
        assert verified(data, tmp_path / f"{name}_out", tmp_path / f"{name}_again").problems == ()
    pair = ("model_b", "model_d")
    assert factors["plain"] == dict.fromkeys(("model_a", "model_b", "model_c", "model_d"), (0, Decimal("0.5")))
    assert factors["netted"] == {
        model: (50 if model in pair else 0, Decimal(1)) for model in ("model_a", "model_b", "model_c", "model_d")
    }
