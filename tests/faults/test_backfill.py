"""A backfill whose driver is killed in each stage of its rounds: the same command goes on and gives the same bytes."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.dask_faults import environment, happened, hit
from tests.faults.processes import command, ended, interrupt, is_gone, is_stopped, wait_until
from tests.faults.published import check_nothing_half, check_published
from tests.faults.staged import ROUNDS, STAGES

pytestmark = pytest.mark.faults


def options(data: str, out: Path) -> list[str]:
    return ["backfill", "--data", data, "--out", str(out), "--workers", "2"]


@pytest.mark.parametrize("stage", STAGES)
def test_backfill__goes_on_where_its_driver_was_killed(
    staged: str, staged_files: Mapping[str, bytes], api: Mapping[str, str], tmp_path: Path, stage: str
) -> None:
    fault, out = tmp_path / "fault", tmp_path / "out"
    for folder in (fault, out):
        folder.mkdir()
    run = command(options(staged, out), tmp_path / "run", {**api, **environment(stage, fault, "driver")})
    assert ended(run).code == -signal.SIGKILL
    assert hit(fault) == [run.process.pid]
    check_nothing_half(out)
    again = ended(command([*options(staged, out), "--json"], tmp_path / "again", api))
    assert again.code == 0, again.err
    check_published(str(out), staged_files)


@pytest.mark.parametrize("published", [0, 1], ids=["first_round", "second_round"])
def test_backfill__killed_right_before_a_manifest_leaves_earlier_rounds_as_they_are(
    staged: str, staged_files: Mapping[str, bytes], api: Mapping[str, str], tmp_path: Path, published: int
) -> None:
    """All other files of the round are there by then, and later rounds are scored on their workers."""
    out = tmp_path / "out"
    out.mkdir()
    stop = {"FAULT_STOP": f"manifests/round={ROUNDS[published]}/"}
    run = command(options(staged, out), tmp_path / "run", {**api, **stop}, "tests.faults.hooked")
    try:
        wait_until(lambda: run.process.poll() is not None or is_stopped(run.process.pid), "a round is published")
    finally:
        run.process.kill()
    assert ended(run).code == -signal.SIGKILL
    assert check_nothing_half(out) == set(ROUNDS[:published])
    settled = [out / f"manifests/round={number}/1.json" for number in ROUNDS[:published]]
    before = [path.stat() for path in settled]
    again = ended(command(options(staged, out), tmp_path / "again", api))
    assert again.code == 0, again.err
    assert [path.stat() for path in settled] == before
    check_published(str(out), staged_files)


@pytest.mark.parametrize("stage", ["ingest_block", "score"])
def test_backfill__interrupted_twice_ends_and_goes_on(
    staged: str, staged_files: Mapping[str, bytes], prefect_home: Path, tmp_path: Path, stage: str
) -> None:
    fault, out = tmp_path / "fault", tmp_path / "out"
    for folder in (fault, out):
        folder.mkdir()
    home = {"PREFECT_HOME": str(prefect_home)}
    run = command(options(staged, out), tmp_path / "run", home | environment(stage, fault, "none"))
    try:
        wait_until(lambda: run.process.poll() is not None or happened(fault), stage)
        interrupt(run)
        time.sleep(0.4)
        interrupt(run)
    except BaseException:
        run.kill()
        raise
    end = ended(run, 60.0)
    assert end.code == 130, end.err
    assert end.message
    check_nothing_half(out)
    assert ended(command(options(staged, out), tmp_path / "again", home)).code == 0
    check_published(str(out), staged_files)


@pytest.mark.parametrize(("stage", "victim"), [("pull_back", "worker"), ("pull_back", "workers"), ("score", "workers")])
def test_backfill__gives_the_same_bytes_when_workers_die(
    staged: str, staged_files: Mapping[str, bytes], api: Mapping[str, str], tmp_path: Path, stage: str, victim: str
) -> None:
    fault, out = tmp_path / "fault", tmp_path / "out"
    for folder in (fault, out):
        folder.mkdir()
    run = command(options(staged, out), tmp_path / "run", {**api, **environment(stage, fault, victim)})
    end = ended(run)
    assert end.code == 0, end.err
    assert len(hit(fault)) == (1 if victim == "worker" else 2)
    assert all(is_gone(pid) for pid in hit(fault))
    check_published(str(out), staged_files)
