"""Bad input, end to end: a bad file costs its own model the round and nobody else a bit; an operator gets one line."""

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.resolve import resolve
from flows.session import Session
from scoring.errors import NotDueError, OperatorError
from tasks.contract import encode
from tests.tasks.fixtures import (
    BENCHMARKS,
    ROUND,
    STOCKS,
    TOURNAMENT,
    File,
    csv_bytes,
    round_tables,
    stock_ids,
    submission,
    with_column,
    with_value,
    write_round,
)
from tests.tasks.test_submission import CODES, parquet_bytes

NUMBER = 7
GOOD = {f"good_{at:02d}": submission(at) for at in range(12)}
LATE = "late_one"
COMMAND = "from flows.cli import main; main()"
INTERRUPT = "import tasks.plan, signal; tasks.plan.plan_round = lambda *_: signal.raise_signal(signal.SIGINT); "
ROOT = Path(__file__).parents[2]
FIXTURE_FILES = dict.fromkeys(["model_a.parquet", "model_b.parquet", "model_c.parquet", "model_d.csv"])


WHOLE = parquet_bytes(submission(50))
TWICE = submission(50).append_column("prediction", submission(51).column("prediction"))
MANY = pa.table({"id": stock_ids() * 3, "prediction": np.linspace(0, 1, 3 * STOCKS)})

BAD_FILES: dict[str, tuple[str, dict[str, bytes | pa.Table]]] = {
    "bad_column": ("missing_column", {".parquet": submission(50).rename_columns(["id", "predicton"])}),
    "bad_column_csv": ("missing_column", {".csv": b"stock_00,0.5\n"}),
    "bad_constant": ("constant", {".parquet": with_column(submission(50), "prediction", [0.5] * STOCKS)}),
    "bad_empty": ("empty_file", {".parquet": b""}),
    "bad_empty_csv": ("empty_file", {".csv": b"\n"}),
    "bad_extension": ("unknown_file_type", {".xlsx": WHOLE}),
    "bad_high": ("out_of_range", {".parquet": with_value(submission(50), "prediction", 3, 1.5)}),
    "bad_id_missing": ("missing_id", {".csv": csv_bytes(submission(50).slice(1))}),
    "bad_id_null": ("null_id", {".parquet": with_value(submission(50), "id", 2, None)}),
    "bad_id_twice": ("duplicate_id", {".parquet": with_value(submission(50), "id", 2, stock_ids()[5])}),
    "bad_id_unknown": ("unknown_id", {".csv": csv_bytes(with_value(submission(50), "id", 2, "other"))}),
    "bad_inf": ("not_finite", {".parquet": with_value(submission(50), "prediction", 3, math.inf)}),
    "bad_junk_csv": ("unreadable", {".csv": b"\xff\xfe\x00junk\n"}),
    "bad_large": ("too_large", {".csv": csv_bytes(submission(50)).ljust(1_000_001, b"\n")}),
    "bad_low": ("out_of_range", {".csv": csv_bytes(with_value(submission(50), "prediction", 3, -0.5))}),
    "bad_minus_inf": ("not_finite", {".csv": csv_bytes(with_value(submission(50), "prediction", 3, -math.inf))}),
    "bad_nan": ("not_finite", {".parquet": with_value(submission(50), "prediction", 3, math.nan)}),
    "bad_null": ("not_finite", {".parquet": with_value(submission(50), "prediction", 3, None)}),
    "bad_rows": ("too_many_rows", {".parquet": MANY}),
    "bad_text_csv": ("wrong_type", {".csv": csv_bytes(submission(50)).replace(b",0.", b",zero point ")}),
    "bad_truncated": ("unreadable", {".parquet": WHOLE[: len(WHOLE) // 2]}),
    "bad_two_columns": ("duplicate_column", {".parquet": TWICE}),
    "bad_two_files": ("two_files", {".parquet": submission(50), ".csv": csv_bytes(submission(50))}),
    "bad_type": ("wrong_type", {".parquet": with_column(submission(50), "prediction", list(range(STOCKS)))}),
    "bad_unpacked": ("unreadable", {".parquet": csv_bytes(submission(50))}),
}
EVERY_CODE = CODES | {"two_files", "unknown_file_type"}
BAD_STAKE = Decimal("50.000000000000000001")


def stakes_table(models: dict[str, Decimal]) -> pa.Table:
    late = datetime(2026, 1, 5, 13, 0, 0, 1, tzinfo=UTC)
    return pa.table(
        {
            "model": list(models),
            "account": [f"account_{len(model)}" for model in models],
            "stake": pa.array(list(models.values()), pa.decimal128(38, 18)),
            "submitted_at": pa.array(
                [late if model.startswith("late") else None for model in models], pa.timestamp("us", tz="UTC")
            ),
        }
    )


def clean_round() -> tuple[dict[str, File], dict[str, Decimal]]:
    """Submissions and stakes of twelve good models, a late one, and one whose file bears another model's name."""
    files: dict[str, File] = {f"{model}.parquet": table for model, table in GOOD.items()}
    files |= {f"{LATE}.csv": csv_bytes(submission(30)), "renamd.parquet": submission(31)}
    stakes = {model: Decimal(10_000 + 7 * at).scaleb(-1) for at, model in enumerate(GOOD)}
    return files, stakes | {LATE: Decimal(5)}


def spoiled_round() -> tuple[dict[str, File], dict[str, Decimal]]:
    """The same, and a bad file of every kind with a stake, and stakes without a file."""
    files, stakes = clean_round()
    for model, (_, contents) in BAD_FILES.items():
        files |= {f"{model}{suffix}": content for suffix, content in contents.items()}
    files |= {"bad_no_stake.csv": b"", "bad_zero_stake.csv": b"", "late_bad.csv": b""}
    stakes |= dict.fromkeys(BAD_FILES, BAD_STAKE)
    stakes |= {"bad_zero_stake": Decimal(0), "late_bad": BAD_STAKE, "orphan": BAD_STAKE, "renamed": BAD_STAKE}
    return files, dict(sorted(stakes.items(), reverse=True))


@dataclass(frozen=True)
class Published:
    """A resolved round: where it lies and what its manifest says."""

    data: Path
    out: Path
    manifest: dict[str, Any]

    def bytes_of(self, name: str) -> bytes:
        return (self.out / self.manifest["outputs"][name]["path"]).read_bytes()

    def table(self, name: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self.bytes_of(name)))

    def rows(self, name: str) -> dict[str, dict[str, Any]]:
        return {row["model"]: row for row in self.table(name).to_pylist()}


def resolved(root: Path, files: dict[str, File], stakes: dict[str, Decimal]) -> Published:
    data = write_round(root / "data", NUMBER, stakes=stakes_table(stakes), submissions=FIXTURE_FILES | files)
    resolve(str(data), str(root / "out"), NUMBER)
    return Published(data, root / "out", json.loads((root / f"out/manifests/round={NUMBER}/1.json").read_bytes()))


@pytest.fixture(scope="module")
def clean(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return resolved(tmp_path_factory.mktemp("clean"), *clean_round())


@pytest.fixture(scope="module")
def spoiled(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return resolved(tmp_path_factory.mktemp("spoiled"), *spoiled_round())


# ---------------------------------------------------------------------------------------------- participants


def test_bad_files__cover_every_rule_code() -> None:
    assert {code for code, _ in BAD_FILES.values()} == EVERY_CODE


def test_resolve__every_bad_file_is_in_the_rejects_with_its_code(spoiled: Published) -> None:
    rejects = spoiled.rows("rejects")
    expected = {model: code for model, (code, _) in BAD_FILES.items()}
    expected |= dict.fromkeys(("bad_no_stake", "bad_zero_stake", "late_bad"), "empty_file")
    assert {model: row["code"] for model, row in rejects.items()} == expected
    assert list(rejects) == sorted(rejects)
    for model, row in rejects.items():
        assert row["file"].startswith(f"rounds/{NUMBER}/submissions/{model}.")
        assert (spoiled.data / row["file"]).is_file()
        assert row["message"].isprintable()
    assert rejects["bad_high"]["rows"] == [3]
    assert rejects["bad_id_twice"]["rows"] == [2, 5]
    assert "in row 3" in rejects["bad_high"]["message"]


@pytest.mark.parametrize("model", BAD_FILES)
def test_resolve__a_bad_file_costs_its_model_the_round_and_no_money(spoiled: Published, model: str) -> None:
    row = spoiled.rows("ledger")[model]
    assert (row["status"], row["reason"]) == ("invalid", BAD_FILES[model][0])
    assert (row["stake_before"], row["stake_after"]) == (BAD_STAKE, BAD_STAKE)
    assert (row["at_risk"], row["payout"], row["burn"]) == (0, 0, 0)
    assert row["submission_digest"] is None
    scores = spoiled.rows("scores")[model]
    assert {key: value for key, value in scores.items() if value is not None} == {
        "model": model,
        "account": row["account"],
    }


def test_resolve__every_model_has_a_ledger_row_that_says_what_became_of_it(spoiled: Published) -> None:
    ledger = {model: (row["status"], row["reason"]) for model, row in spoiled.rows("ledger").items() if model}
    expected: dict[str, tuple[str, str | None]] = dict.fromkeys(GOOD, ("scored", None))
    expected |= {model: ("invalid", code) for model, (code, _) in BAD_FILES.items()}
    expected |= {
        LATE: ("late", "after_close"),
        "late_bad": ("late", "after_close"),
        "orphan": ("missing", "no_submission"),
        "renamed": ("missing", "no_submission"),
        "renamd": ("unstaked", "no_stake_row"),
        "bad_no_stake": ("unstaked", "no_stake_row"),
        "bad_zero_stake": ("unstaked", "empty_file"),
    }
    assert ledger == expected
    assert list(ledger) == sorted(ledger)


def test_resolve__idle_stakes_come_back_whole(spoiled: Published) -> None:
    for row in spoiled.rows("ledger").values():
        if row["entry"] == "model" and row["status"] != "scored":
            assert row["stake_after"] == row["stake_before"]
            assert (row["at_risk"], row["payout"], row["burn"]) == (0, 0, 0)


def rows_of(table: pa.Table, models: list[str]) -> bytes:
    """The published form of these models' rows."""
    kept = pa.compute.is_in(table.column("model"), pa.array(models))
    return encode(table.filter(kept))


@pytest.mark.parametrize("name", ["scores", "ledger"])
def test_resolve__bad_files_do_not_move_a_bit_of_the_others_rows(
    clean: Published, spoiled: Published, name: str
) -> None:
    others = [*GOOD, LATE, "renamd"]
    assert rows_of(clean.table(name), others) == rows_of(spoiled.table(name), others)
    good = clean.table(name).filter(pa.compute.is_in(clean.table(name).column("model"), pa.array(list(GOOD))))
    assert good.num_rows == len(GOOD)
    assert good.column("corr").null_count == good.column("mmc").null_count == 0


@pytest.mark.parametrize("name", ["meta_model", "bags"])
def test_resolve__bad_files_do_not_move_a_bit_of_the_meta_models(
    clean: Published, spoiled: Published, name: str
) -> None:
    assert clean.manifest["outputs"][name] == spoiled.manifest["outputs"][name]
    assert clean.bytes_of(name) == spoiled.bytes_of(name)


def test_resolve__the_manifest_names_every_bad_file_too(spoiled: Published) -> None:
    folder = f"rounds/{NUMBER}/submissions/"
    named = {path: sha for path, sha in spoiled.manifest["inputs"].items() if path.startswith(folder)}
    files = {path.relative_to(spoiled.data).as_posix(): path for path in (spoiled.data / folder).iterdir()}
    assert named == {path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in files.items()}


def test_resolve__ids_that_are_not_utf_8_stop_nobody_else(session: Session, tmp_path: Path) -> None:
    plain = parquet_bytes(submission(50), compression="none", store_schema=False)
    files, stakes = clean_round()
    files["bad_text.parquet"] = plain.replace(b"stock_07", b"stock\xff\xfe7")
    found = resolved(tmp_path, files, stakes | {"bad_text": BAD_STAKE})
    assert found.rows("rejects").keys() == {"bad_text"}
    assert found.rows("ledger")["bad_text"]["status"] == "invalid"


def test_resolve__nobody_valid_is_nothing_to_pay(session: Session, tmp_path: Path) -> None:
    with pytest.raises(NotDueError, match="nothing to pay: no model has both a stake and a valid submission"):
        resolved(tmp_path, {"a.csv": b"", "b.parquet": submission(1)}, {"a": Decimal(1), "c": Decimal(1)})
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# ---------------------------------------------------------------------------------------------- the wide table


def wide_table(columns: dict[str, Any]) -> bytes:
    return parquet_bytes(pa.table({"id": stock_ids(), **columns}), compression="none", store_schema=False)


WIDE = {model: table.column("prediction") for model, table in GOOD.items()}


def test_resolve__bad_columns_of_a_wide_table_harm_nobody_either(
    session: Session, clean: Published, tmp_path: Path
) -> None:
    _, stakes = clean_round()
    others = {LATE: submission(30).column("prediction"), "renamd": submission(31).column("prediction")}
    bad = {
        "bad_constant": ([0.5] * STOCKS, "constant"),
        "bad_nan": ([math.nan] + [0.5] * (STOCKS - 1), "not_finite"),
        "bad_some": ([None, *np.linspace(0, 1, STOCKS - 1)], "missing_id"),
        "bad_type": (list(range(STOCKS)), "wrong_type"),
    }
    table = wide_table(
        WIDE | others | {model: column for model, (column, _) in bad.items()} | {"none": [None] * STOCKS}
    )
    found = resolved(tmp_path, {"../submissions.parquet": table}, stakes | dict.fromkeys([*bad, "none"], BAD_STAKE))
    for name in ("scores", "ledger"):
        models = [*GOOD, LATE, "renamd"]
        assert rows_of(found.table(name), models) == rows_of(clean.table(name), models)
    assert found.manifest["outputs"]["meta_model"] == clean.manifest["outputs"]["meta_model"]
    assert {model: row["code"] for model, row in found.rows("rejects").items()} == {
        model: code for model, (_, code) in bad.items()
    }
    ledger = found.rows("ledger")
    assert {model: ledger[model]["reason"] for model in bad} == {model: code for model, (_, code) in bad.items()}
    assert (ledger["none"]["status"], ledger["none"]["reason"]) == ("missing", "no_submission")


WIDE_FAULTS = {
    "other_ids": wide_table(WIDE).replace(b"stock_07", b"stock_99"),
    "ids_not_utf_8": wide_table(WIDE).replace(b"stock_07", b"stock\xff\xfe7"),
    "spoilt_page": wide_table(WIDE)[:4] + b"\xff" * 60 + wide_table(WIDE)[64:],
}


@pytest.mark.parametrize("fault", WIDE_FAULTS)
def test_resolve__a_bad_wide_table_stops_the_operator_with_one_line(
    session: Session, tmp_path: Path, fault: str
) -> None:
    _, stakes = clean_round()
    with pytest.raises(OperatorError, match=r"rounds/7/submissions\.parquet") as caught:
        resolved(tmp_path, {"../submissions.parquet": WIDE_FAULTS[fault]}, stakes)
    assert "\n" not in str(caught.value)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("files", "fragment"),
    [
        ({"../benchmarks/bench_one.parquet": b"junk"}, "bench_one.parquet: unreadable"),
        ({"../benchmarks/bench_one.parquet": None}, "bench_one lacks one"),
        ({"../benchmarks/extra.parquet": submission(3)}, "extra lacks one"),
        ({f"../benchmarks/{name}.parquet": None for name in BENCHMARKS}, "lacks one"),
    ],
    ids=["junk", "missing", "without_stake", "none_at_all"],
)
def test_resolve__a_bad_benchmark_stops_the_operator_with_one_line(
    session: Session, tmp_path: Path, files: dict[str, File], fragment: str
) -> None:
    good, stakes = clean_round()
    with pytest.raises(OperatorError, match=fragment) as caught:
        resolved(tmp_path, good | files, stakes)
    assert "\n" not in str(caught.value)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# ---------------------------------------------------------------------------------------------- the command line


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**{k: v for k, v in os.environ.items() if k != "PREFECT_LOGGING_LEVEL"}, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_cli(
    data: Path, out: Path, *options: str, python: tuple[str, ...] = (), number: int = NUMBER, **environment: str
) -> subprocess.CompletedProcess[str]:
    arguments = ["resolve", "--data", str(data), "--out", str(out), "--round", str(number), *options]
    return run_python(*python, "-c", COMMAND, *arguments, **environment)


def assert_one_line(ended: subprocess.CompletedProcess[str], exit_code: int, *fragments: str) -> None:
    """Nothing on standard output, one clear line on standard error."""
    assert "Traceback" not in ended.stderr
    assert ended.returncode == exit_code, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("stakeweight: ")
    for fragment in fragments:
        assert fragment in line


STAKES = round_tables()["stakes"]
OTHER_IDS = [f"stock_{at:02d}" for at in range(50, 50 + STOCKS)]
CLI_FAULTS: dict[str, tuple[dict[str, Any], int, tuple[str, ...]]] = {
    "unknown_toml_key": (
        {"tournament": TOURNAMENT.replace("decimals", "decimal")},
        2,
        ("tournament.toml: unknown key decimal (did you mean 'decimals'?)",),
    ),
    "unknown_round_key": (
        {"round": ROUND.format(number=NUMBER).replace("horizon", "horizn")},
        2,
        ("rounds/7/round.toml: unknown key horizn (did you mean 'horizon'?)",),
    ),
    "float_stakes": (
        {"stakes": with_column(STAKES, "stake", [1.0, 2.0, 3.0, 4.0])},
        2,
        ("rounds/7/stakes.parquet: column stake must hold decimal128(38, 18)", "found double"),
    ),
    "targets_of_another_round": (
        {"targets": with_column(round_tables()["targets"], "id", OTHER_IDS)},
        2,
        ("rounds/7/targets.parquet", "found 0 common ids", "are these the targets of another round?"),
    ),
    "no_targets": ({"targets": None}, 3, ("round 7: not due, rounds/7/targets.parquet is missing",)),
    "no_stake": (
        {"stakes": with_column(STAKES, "stake", pa.array([Decimal(0)] * 4, pa.decimal128(38, 18)))},
        3,
        ("round 7: nothing to pay, all stakes are zero",),
    ),
}


@pytest.mark.parametrize("fault", CLI_FAULTS)
def test_cli__bad_operator_input_is_one_line_and_its_exit_code(tmp_path: Path, fault: str) -> None:
    files, exit_code, fragments = CLI_FAULTS[fault]
    write_round(tmp_path / "data", NUMBER, **files)
    assert_one_line(run_cli(tmp_path / "data", tmp_path / "out"), exit_code, *fragments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("python", [(), ("-O",)], ids=["plain", "without_assertions"])
def test_cli__a_missing_round_names_the_nearest(tmp_path: Path, python: tuple[str, ...]) -> None:
    for number in (7, 8, 30):
        write_round(tmp_path / "data", number)
    ended = run_cli(tmp_path / "data", tmp_path / "out", number=9, python=python)
    assert_one_line(ended, 2, "there is no round 9; the nearest rounds are 7, 8, 30")


def test_cli__a_misspelt_variable_is_named(tmp_path: Path) -> None:
    write_round(tmp_path / "data")
    ended = run_cli(tmp_path / "data", tmp_path / "out", STAKEWEIGHT_WORKRES="2")
    assert_one_line(ended, 2, "STAKEWEIGHT_WORKRES (did you mean STAKEWEIGHT_WORKERS?)")


def test_cli__an_output_that_is_a_file_is_the_stores_failure(tmp_path: Path) -> None:
    write_round(tmp_path / "data")
    (tmp_path / "out").touch()
    assert_one_line(run_cli(tmp_path / "data", tmp_path / "out"), 5, "out: the directory cannot be made")


def test_cli__a_changed_submission_is_a_conflict_that_names_it(session: Session, tmp_path: Path) -> None:
    data = write_round(tmp_path / "data")
    resolve(str(data), str(tmp_path / "out"), NUMBER)
    write_round(data, submissions={"model_b.parquet": submission(77)})
    ended = run_cli(data, tmp_path / "out")
    assert_one_line(ended, 4, "already published as revision 1 with other inputs: rounds/7/submissions/model_b.parquet")
    published = sorted((tmp_path / "out").rglob("*.json"))
    assert [path.name for path in published] == ["1.json"]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("resolve", "--revize"), "--revize"),
        (("resolve", "--round", "x", "--data", ".", "--out", "."), "--round"),
        (("resolve", "--data", "."), "Missing"),
        (("reslove",), "resolve"),
    ],
    ids=["unknown_option", "no_number", "missing_option", "unknown_command"],
)
def test_cli__wrong_usage_is_no_traceback(arguments: tuple[str, ...], fragment: str) -> None:
    ended = run_python("-c", COMMAND, *arguments)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2
    assert fragment in ended.stderr


def test_cli__ctrl_c_is_one_line_and_exit_code_130(tmp_path: Path) -> None:
    arguments = ("resolve", "--data", ".", "--out", str(tmp_path), "--round", "7")
    ended = run_python(
        "-c", f"{INTERRUPT}signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND}", *arguments
    )
    assert_one_line(ended, 130, "interrupted")


def test_cli__a_failure_on_a_worker_is_one_line_too(session: Session, tmp_path: Path) -> None:
    files = {f"../benchmarks/{BENCHMARKS[0]}.parquet": b"junk"}
    write_round(tmp_path / "data", submissions=files)
    ended = run_cli(tmp_path / "data", tmp_path / "out", "--workers", "1")
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("stakeweight: ")]
    assert told == [ended.stderr.splitlines()[-1]]
    assert "bench_one.parquet: unreadable: the file must be parquet" in told[0]
    assert "bags" not in ended.stderr  # told before anything was scored


def test_cli__without_assertions_the_same_files_are_published(spoiled: Published, tmp_path: Path) -> None:
    ended = run_cli(spoiled.data, tmp_path / "out", "--workers", "1", python=("-O",))
    assert ended.returncode == 0, ended.stderr
    names = {path.relative_to(spoiled.out).as_posix() for path in spoiled.out.rglob("*") if path.is_file()}
    assert {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    } == names
