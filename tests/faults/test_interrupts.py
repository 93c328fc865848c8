"""Ctrl-C twice within a second, at several moments of a run: exit code 130, nothing half, no process left."""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.dask_faults import environment, happened
from tests.faults.hooked import SETTLES
from tests.faults.processes import Run, command, ended, interrupt, is_stopped, wait_until
from tests.faults.published import check_nothing_half, check_published
from tests.faults.staged import ROUNDS

pytestmark = pytest.mark.faults

NUMBER = ROUNDS[0]
BETWEEN_S = 0.4
LIMIT_S = 60.0
INTERRUPTED = 130


def interrupt_twice(run: Run) -> None:
    interrupt(run)
    time.sleep(BETWEEN_S)
    interrupt(run)


@pytest.mark.parametrize("moment", ["the API starts", "workers start", "ingest_block", "pull_back", "score"])
def test_resolve__interrupted_twice_ends_and_leaves_nothing_half(
    staged: str, first_files: Mapping[str, bytes], prefect_home: Path, tmp_path: Path, moment: str
) -> None:
    fault, out = tmp_path / "fault", tmp_path / "out"
    for folder in (fault, out):
        folder.mkdir()
    options = ["resolve", "--data", staged, "--out", str(out), "--round", str(NUMBER), "--workers", "2"]
    variables = {"PREFECT_HOME": str(prefect_home)}
    run = command(options, tmp_path / "run", variables | environment(moment, fault, "none"))

    def reached() -> bool:
        commands = [" ".join(process.cmdline()) for process in run.descendants()]
        api, workers = (any(name in each for each in commands) for name in ("uvicorn", "spawn_main"))
        return {"the API starts": api, "workers start": workers}.get(moment, happened(fault))

    try:
        wait_until(lambda: run.process.poll() is not None or reached(), moment)
        assert run.process.poll() is None, "the run ended before the moment came"
        interrupt_twice(run)
    except BaseException:
        run.kill()
        raise
    check_interrupted_and_resumed(run, options, variables, first_files)


@pytest.mark.parametrize("moment", [SETTLES, "manifests/"])
def test_resolve__interrupted_twice_while_it_settles_or_publishes_leaves_nothing_half(
    staged: str, first_files: Mapping[str, bytes], api: Mapping[str, str], tmp_path: Path, moment: str
) -> None:
    """The process is held at the moment; the first Ctrl-C waits for it there, the second one comes while it ends."""
    options = ["resolve", "--data", staged, "--out", str(tmp_path / "out"), "--round", str(NUMBER), "--workers", "1"]
    run = command(options, tmp_path / "run", {**api, "FAULT_STOP": moment}, "tests.faults.hooked")
    try:
        wait_until(lambda: run.process.poll() is not None or is_stopped(run.process.pid), moment)
        interrupt(run)
        os.kill(run.process.pid, signal.SIGCONT)
        time.sleep(BETWEEN_S)
        interrupt(run)
    except BaseException:
        run.kill()
        raise
    check_interrupted_and_resumed(run, options, api, first_files)


def check_interrupted_and_resumed(
    run: Run, options: list[str], variables: Mapping[str, str], expected: Mapping[str, bytes]
) -> None:
    out = Path(options[options.index("--out") + 1])
    end = ended(run, LIMIT_S)
    assert end.code == INTERRUPTED, end.err
    assert "interrupted; run the same command again" in end.message
    assert check_nothing_half(out) == set()
    again = ended(command([*options, "--json"], run.folder.parent / "again", variables))
    assert again.code == 0, again.err
    assert json.loads(again.out)["published"]
    check_published(str(out), expected)
