"""A published round agrees with itself, and whatever is changed in it is caught and named."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError, StorageError
from tasks.findings import SHOWN, Findings, few, merge
from tasks.publish import Manifest, publish
from tasks.store import open_store
from tasks.verify import VerifyRequest, verify_published
from tests.tasks import published_round
from tests.tasks.published_round import (
    LATE,
    NUMBER,
    REFUSED,
    SCORED,
    copy,
    edit_manifest,
    manifest_file,
    table_file,
    tamper,
    with_cell,
)

ATOM = Decimal("0.000000000000000001")
Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_round.publish(tmp_path_factory.mktemp("round"))[1]


@pytest.fixture
def out(published: Path, tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    return copy(published, tmp_path)


def verified(out: Path) -> Findings:
    return verify_published(VerifyRequest(str(out), NUMBER)).findings


def assert_named(findings: Findings, *fragments: str) -> None:
    """One of the problems holds every fragment."""
    assert any(all(part in line for part in fragments) for line in findings.problems), findings.problems


def test_verify_published__a_round_as_published_has_no_problem(published: Path) -> None:
    found = verified(published)
    assert found.problems == ()
    assert found.ok
    for table in ("scores", "meta_model", "bags", "ledger", "rejects"):
        assert any(line.startswith(f"{table}/round=7/1-") for line in found.checked)
    assert any("--data" in note for note in found.notes)


# A file that was touched: its digest says so, and what was changed in it is still named -----------------------------

TOUCHED: dict[str, tuple[str, Change, str]] = {
    "score": ("scores", with_cell("mmc", SCORED, 0.5), f"mmc of {SCORED}"),
    "score_not_paid": ("scores", with_cell("bmc", SCORED, 0.5), "bmc_percentile of"),
    "score_finer_than_published": ("scores", with_cell("bmc", SCORED, 0.1 + 1e-14), f"bmc of {SCORED}"),
    "score_nan": ("scores", with_cell("bmc", SCORED, float("nan")), f"bmc of {SCORED}"),
    "score_for_a_refused_model": ("scores", with_cell("corr", REFUSED, 0.1), f"corr of {REFUSED}"),
    "percentile": ("scores", with_cell("fnc_percentile", SCORED, 0.99), f"fnc_percentile of {SCORED}"),
    "account": ("scores", with_cell("account", SCORED, "thief"), f"account of {SCORED}"),
    "tc_without_true_contribution": ("scores", with_cell("tc_raw", SCORED, 0.1), "tc_raw"),
    "payout": ("ledger", with_cell("payout", SCORED, lambda paid: paid + ATOM), f"model {SCORED}: payout"),
    "paid_score": ("ledger", with_cell("corr", SCORED, Decimal("0.3")), f"model {SCORED}: raw_rate"),
    "score_that_is_not_paid": ("ledger", with_cell("bmc", SCORED, Decimal("0.3")), f"bmc of {SCORED}"),
    "multiplier": ("ledger", with_cell("mmc_multiplier", SCORED, Decimal(3)), f"model {SCORED}: multipliers"),
    "stake": ("ledger", with_cell("at_risk", SCORED, Decimal(1)), f"model {SCORED}: at_risk"),
    "late_stake_at_risk": ("ledger", with_cell("at_risk", LATE, Decimal(5)), f"model {LATE}: at_risk"),
    "no_stake": ("ledger", with_cell("stake_before", SCORED, None), f"({SCORED}): stake_before must not be null"),
    "reason": ("ledger", with_cell("reason", REFUSED, "unreadable"), f"code of {REFUSED}"),
    "digest_of_a_refused_model": ("ledger", with_cell("submission_digest", REFUSED, "0" * 64), "a digest"),
    "rejects": ("rejects", with_cell("model", REFUSED, "model_x"), "model: stated model_x"),
    "price": ("meta_model", with_cell("mmc_price", "stock_03", 0.01, by="id"), "mmc_price of stock_03"),
    "price_by_one_bit": (
        "meta_model",
        with_cell("bmc_price", "stock_03", lambda price: price * (1 + 2**-52), by="id"),
        "bmc_price of stock_03",
    ),
    "target": ("meta_model", with_cell("target", "stock_03", 0.3, by="id"), "mmc_price of"),
    "meta_model_null": ("meta_model", with_cell("meta_model", "stock_03", None, by="id"), "must not be null"),
    "id": ("meta_model", with_cell("id", "stock_03", "stock_99", by="id"), "ids must be sorted"),
    "seed": ("bags", with_cell("seed", 3, 1, by="bag"), "seed: stated 1"),
    "bag": ("bags", with_cell("bag", 3, 4, by="bag"), "bags of mmc_bagged"),
}


@pytest.mark.parametrize("case", TOUCHED)
@pytest.mark.parametrize("restate", [False, True], ids=["same_name", "restated"])
def test_verify_published__a_changed_table_is_caught_and_the_change_named(out: Path, case: str, restate: bool) -> None:
    name, change, named = TOUCHED[case]
    tamper(out, name, change, restate=restate)
    found = verified(out)
    assert_named(found, named)
    if restate:
        assert not any("SHA-256" in line for line in found.problems)
    else:
        assert_named(found, f"{name}/round=7/1-", "SHA-256: stated")


def test_verify_published__a_row_that_is_gone_is_named(out: Path) -> None:
    tamper(out, "scores", lambda table: table.slice(1), restate=True)
    found = verified(out)
    assert_named(found, "scores/round=7", "rows: stated 6, found 5")
    assert_named(found, "scores/round=7", "model", "the ledger has")


@pytest.mark.parametrize("name", ["scores", "ledger", "meta_model", "bags", "rejects"])
def test_verify_published__a_truncated_file_is_named_and_the_rest_is_still_checked(out: Path, name: str) -> None:
    path = table_file(out, name)
    path.write_bytes(path.read_bytes()[:-9])
    found = verified(out)
    assert_named(found, path.name, "SHA-256")
    assert_named(found, path.name, "bytes")
    assert_named(found, path.name, "a parquet table")
    assert all(path.name in line for line in found.problems)
    assert any(path.name in note and "not checked" in note for note in found.notes)


def test_verify_published__a_missing_file_is_named(out: Path) -> None:
    table_file(out, "ledger").unlink()
    assert_named(verified(out), "ledger/round=7/1-", "no such file")


def test_verify_published__a_column_of_another_type_is_named(out: Path) -> None:
    tamper(out, "bags", lambda table: table.set_column(1, "bag", table.column("bag").cast(pa.int64())), restate=True)
    assert_named(verified(out), "bags/round=7", "column bag: stated int32 not null, found int64")


def test_verify_published__a_stray_is_told_and_is_no_problem(out: Path) -> None:
    stray = out / "ledger/round=7/1-ffffffffffffffff.parquet"
    stray.write_bytes(b"of a run that died")
    found = verified(out)
    assert found.ok
    assert any(stray.name in note for note in found.notes)


# The manifest ------------------------------------------------------------------------------------------------------

EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "total_paid": (lambda content: content["totals"].update(payout="1.5"), "totals.payout: stated 1.5"),
    "total_at_risk": (lambda content: content["totals"].update(at_risk="1"), "totals.at_risk: stated 1"),
    "statuses": (lambda content: content["statuses"].update(late=4), "statuses.late: stated 4, the ledger gives 1"),
    "no_totals": (lambda content: content.pop("totals"), "totals: stated None"),
    "rules_id": (lambda content: content.update(rules_id="other:R1"), "rules_id: stated other:R1"),
    "clip": (lambda content: content["rules"].update(clip="0.0001"), "clipped_rate must be"),
    "multiplier": (lambda content: content["rules"]["payout"].update(corr="9"), "multipliers must be"),
    "threshold": (lambda content: content["rules"].update(stake_threshold="10"), "factor must be"),
    "digest": (lambda content: content["outputs"]["bags"].update(sha256="0" * 64), "SHA-256: stated 000"),
    "rows": (lambda content: content["outputs"]["bags"].update(rows=3), "rows: stated 3"),
    "path": (lambda content: content["outputs"]["bags"].update(path="../x.parquet"), "path of bags"),
    "table": (lambda content: content["outputs"].pop("bags"), "no table bags"),
    "supersedes": (lambda content: content.update(supersedes=4), "supersedes: stated 4"),
    "buckets": (lambda content: content["scores"].update(target_buckets=False), "mmc_price of"),
}


@pytest.mark.parametrize("case", EDITS)
def test_verify_published__an_edited_manifest_is_caught(out: Path, case: str) -> None:
    change, named = EDITS[case]
    edit_manifest(out, change)
    assert_named(verified(out), named)


@pytest.mark.parametrize("fact", ["rules", "decimals", "seed", "scores", "target_mean"])
def test_verify_published__a_manifest_that_lacks_a_fact_is_damaged(out: Path, fact: str) -> None:
    edit_manifest(out, lambda content: content.pop(fact))
    with pytest.raises(StorageError, match=f"must be a manifest: it lacks '{fact}'"):
        verified(out)


def test_verify_published__checks_every_earlier_revision_too(out: Path) -> None:
    store = open_store(out)
    first = {name: pq.ParquetFile(table_file(out, name)).read() for name in ("scores", "bags", "meta_model", "rejects")}
    ledger = pq.ParquetFile(table_file(out, "ledger")).read()
    content = json.loads(manifest_file(out).read_bytes())
    known = {key: content.pop(key) for key in ("round", "revision", "supersedes", "identity", "inputs", "outputs")}
    content.pop("format")
    second = ledger.set_column(
        ledger.schema.get_field_index("revision"), ledger.schema.field("revision"), pa.array([2] * 8, pa.int32())
    )
    draft = Manifest(NUMBER, 2, 1, "other", content, known["inputs"], {})
    publish(store, draft, {**first, "ledger": second})
    assert verified(out).problems == ()
    tamper(out, "scores", with_cell("mmc", SCORED, 0.5), restate=False)
    assert_named(verified(out), "scores/round=7/1-", f"mmc_percentile of {SCORED}")
    manifest_file(out, 1).unlink()
    assert_named(verified(out), "manifests/round=7/1.json", "superseded by revision 2, found no such file")


def test_verify_published__no_such_round_is_the_operators_mistake(published: Path) -> None:
    with pytest.raises(OperatorError, match="round 8 is not published; the nearest are 7"):
        verify_published(VerifyRequest(str(published), 8))


# Findings ----------------------------------------------------------------------------------------------------------


def test_merge__keeps_order_tells_a_line_once_and_escapes_it() -> None:
    found = merge([Findings(("a",), ("x\x1b[2J",)), Findings(("b", "a"), (), ("n",))])
    assert found == Findings(("a", "b"), ("x\\x1b[2J",), ("n",))


def test_few__counts_what_it_does_not_tell() -> None:
    lines = [f"line {at}" for at in range(SHOWN + 3)]
    assert few(lines[:SHOWN]) == tuple(lines[:SHOWN])
    assert few(lines)[-1] == f"line {SHOWN - 1} (and 3 more like this)"
