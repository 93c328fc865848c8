"""The command and its exit codes, and the verification that computes the round again."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.cli import main
from flows.resolve import resolve
from flows.session import Session
from flows.verify import verify
from infra.settings import read_settings
from tasks.findings import Findings
from tasks.verify import VerifyRequest
from tests.tasks import published_round
from tests.tasks.fixtures import TOURNAMENT, submission
from tests.tasks.published_round import (
    NUMBER,
    SCORED,
    copy,
    moved,
    own_submission,
    solving,
    table_file,
    tamper,
    with_cell,
)


@pytest.fixture(scope="module")
def round_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return published_round.publish(tmp_path_factory.mktemp("round"))


def run(capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch, *arguments: object) -> tuple[object, str, str]:
    """Runs the command; returns exit code, output and error output."""
    patch.setattr(sys, "argv", ["stakeweight", "verify", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def recomputed(data: Path, out: Path, tournament: Path | None = None) -> Findings:
    return verify(VerifyRequest(str(out), NUMBER, None, str(data), tournament), read_settings())


def spoiled(round_of: tuple[Path, Path], folder: Path) -> Path:
    """A copy of the data that may be spoiled."""
    return copy(round_of[0], folder / "data")


# The command -------------------------------------------------------------------------------------------------------


def test_verify__ends_with_0_where_everything_agrees(
    round_of: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ("--model", SCORED, "--submission", own_submission(tmp_path))
    code, printed, _ = run(capsys, monkeypatch, "--out", round_of[1], "--round", NUMBER, *own)
    assert code == 0
    assert printed.splitlines()[-1] == "everything agrees"
    assert any(line.startswith(f"checked  model {SCORED}: corr ") for line in printed.splitlines())


def test_verify__ends_with_4_and_names_the_change(
    round_of: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy(round_of[1], tmp_path)
    tamper(out, "scores", with_cell("mmc", SCORED, 0.5), restate=False)
    code, printed, _ = run(capsys, monkeypatch, "--out", out, "--round", NUMBER)
    assert code == 4
    assert any(line.startswith("problem  ") and f"mmc of {SCORED}" in line for line in printed.splitlines())
    code, printed, _ = run(capsys, monkeypatch, "--out", out, "--round", NUMBER, "--json")
    content: dict[str, Any] = json.loads(printed)
    assert code == 4
    assert content.keys() == {"ok", "checked", "problems", "notes"}
    assert content["ok"] is False
    assert any(f"mmc of {SCORED}" in line for line in content["problems"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--round", "8"], "round 8 is not published"),
        (["--round", "7", "--model", "model_b"], "--model and --submission"),
        (["--round", "7", "--model", "model_b", "--submission", "nothing.csv"], "nothing.csv: cannot be read"),
        (["--round", "7", "--data", "nowhere"], "must be a directory, found nothing"),
    ],
)
def test_verify__ends_with_2_and_one_line_where_the_operator_is_wrong(
    round_of: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    code, printed, error = run(capsys, monkeypatch, "--out", round_of[1], *arguments)
    assert (code, printed) == (2, "")
    assert error.count("\n") == 1
    assert message in error


def test_verify__ends_with_5_where_a_manifest_is_damaged(
    round_of: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy(round_of[1], tmp_path)
    published_round.manifest_file(out).write_bytes(b"{")
    assert run(capsys, monkeypatch, "--out", out, "--round", NUMBER)[0] == 5


# With the data -----------------------------------------------------------------------------------------------------


def test_verify__the_same_data_give_the_same_bytes(session: Session, round_of: tuple[Path, Path]) -> None:
    found = recomputed(*round_of)
    assert found.problems == ()
    assert sum("SHA-256 is that of the recomputed table" in line for line in found.checked) == 5


def test_verify__a_lie_that_agrees_with_itself_is_caught_by_the_data(
    session: Session, round_of: tuple[Path, Path], tmp_path: Path
) -> None:
    out = copy(round_of[1], tmp_path)
    tamper(out, "meta_model", with_cell("mmc_bagged_price", "stock_03", 0.5, by="id"), restate=True)
    found = recomputed(round_of[0], out)
    assert all("meta_model/round=7" in line for line in found.problems)
    assert any("mmc_bagged_price of stock_03: stated 0.5, recomputed" in line for line in found.problems)


def test_verify__names_the_input_that_changed_and_does_not_compute(round_of: tuple[Path, Path], tmp_path: Path) -> None:
    data = spoiled(round_of, tmp_path)
    pq.write_table(submission(77), data / f"rounds/{NUMBER}/submissions/model_b.parquet")
    (data / f"rounds/{NUMBER}/stakes.parquet").unlink()
    found = recomputed(data, round_of[1])  # outside a session: nothing is started
    assert len(found.problems) == 2
    assert any("rounds/7/stakes.parquet" in line and "no such file" in line for line in found.problems)
    assert any("submissions/model_b.parquet: SHA-256: stated" in line for line in found.problems)
    assert any("nothing was recomputed" in note for note in found.notes)


def test_verify__names_an_input_that_was_added(session: Session, round_of: tuple[Path, Path], tmp_path: Path) -> None:
    data = spoiled(round_of, tmp_path)
    pq.write_table(submission(77), data / f"rounds/{NUMBER}/submissions/model_f.parquet")
    found = recomputed(data, round_of[1])
    assert any("input rounds/7/submissions/model_f.parquet: stated none" in line for line in found.problems)
    assert any("ledger/round=7" in line and "status of model_f" in line for line in found.problems)


def test_verify__a_revision_by_other_rules_is_computed_by_its_own(
    session: Session, round_of: tuple[Path, Path], tmp_path: Path
) -> None:
    out, other = copy(round_of[1], tmp_path), tmp_path / "other.toml"
    other.write_text(TOURNAMENT.replace('mmc = "2.0"', 'mmc = "1.0"'))
    resolve(str(round_of[0]), str(out), NUMBER, str(other), revise=True)
    assert recomputed(round_of[0], out, other).problems == ()
    found = recomputed(round_of[0], out)
    assert any("rules.payout.mmc: stated 1.0, recomputed 2.0" in line for line in found.problems)
    assert any("ledger/round=7/2-" in line and "mmc_multiplier of" in line for line in found.problems)
    assert any("tournament_sha256" in note for note in found.notes)
    assert table_file(out, "ledger").exists()


# What another machine solved ---------------------------------------------------------------------------------------


def published_elsewhere(root: Path, by: float) -> tuple[Path, Path]:
    """A round that pays on True Contribution, whose solution is another machine's."""
    with solving(moved(by)):
        return published_round.publish(root, published_round.TRUE_CONTRIBUTION)


def test_verify__a_round_that_another_machine_solved_agrees_to_the_tolerance(session: Session, tmp_path: Path) -> None:
    found = recomputed(*published_elsewhere(tmp_path, 1e-12))
    assert found.problems == ()
    assert sum("SHA-256 is that of the recomputed table" in line for line in found.checked) == 5
    assert any("tc_price by 1e-12 of the largest entry" in line for line in found.checked)


def test_verify__a_solution_further_off_is_named(session: Session, tmp_path: Path) -> None:
    found = recomputed(*published_elsewhere(tmp_path, 1e-6))
    (line,) = [line for line in found.problems if "tc_price of stock_03: stated" in line]
    assert line.endswith("differs by 1e-06 of the largest entry, tolerance 1e-09")
    assert any("ledger/round=7" in line and "payout of" in line for line in found.problems)
