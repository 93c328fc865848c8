"""The rig itself: what it starts can be killed and restarted, and nothing outlives the tests. Needs no service."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.services.service import ROOT, RigError, Spec, clean_environment, free_ports, listens, service

HELD = """
import sys, time
from pathlib import Path
from tests.services.service import Spec, service
with service(Spec("held", ["sh", "-c", sys.argv[2]], Path(sys.argv[1]), lambda spec: True)):
    print("up", flush=True)
    time.sleep(600)
"""


def unique_seconds() -> str:
    """Seconds to sleep that no other process of this machine sleeps."""
    return f"600.{uuid.uuid4().int % 10**12:012d}"


def sleeping(seconds: str) -> list[psutil.Process]:
    """The processes that sleep so long: found by what they are, not by whom they belong to."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-1:] == [seconds] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def soon(reached: Callable[[], bool], limit_s: float = 20.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def sleeper(folder: Path, **changes: object) -> Spec:
    return Spec("sleeper", ["sleep", "600"], folder, lambda _: True, **changes)


def test_service__leaves_nothing_when_the_test_process_is_killed(tmp_path: Path) -> None:
    seconds = unique_seconds()
    daemon = f"setsid sleep {seconds} & setsid sleep {seconds} & exec sleep {seconds}"
    command = [sys.executable, "-c", HELD, str(tmp_path), daemon]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert soon(lambda: len(sleeping(seconds)) == 3)
        process.kill()
    assert soon(lambda: not sleeping(seconds))


def test_service__leaves_nothing_of_itself_when_its_warden_is_killed(tmp_path: Path) -> None:
    seconds = unique_seconds()
    with service(Spec("orphan", ["sleep", seconds], tmp_path, lambda _: True)):
        (sleeper,) = sleeping(seconds)
        os.kill(sleeper.ppid(), signal.SIGKILL)
        assert soon(lambda: not sleeping(seconds))


def test_service__a_supervised_one_comes_back_when_it_is_killed_and_stays_down_when_it_is_stopped(
    tmp_path: Path,
) -> None:
    with service(sleeper(tmp_path, restart_s=0.1)) as running:
        first = running.pid
        running.kill()
        running.wait()
        assert running.pid not in (0, first)
        running.stop()
        time.sleep(0.5)
        assert running.pid == 0
        running.start()
        assert psutil.pid_exists(running.pid)


def test_service__another_one_stays_dead_until_it_is_started(tmp_path: Path) -> None:
    with service(sleeper(tmp_path)) as running:
        running.kill()
        time.sleep(0.5)
        assert running.pid == 0
        running.start()
        first = running.pid
        running.restart()
        assert running.pid not in (0, first)


def test_service__what_a_killed_one_leaves_is_killed_before_it_starts_again(tmp_path: Path) -> None:
    seconds = unique_seconds()
    command = ["sh", "-c", f"setsid sleep {seconds} & exec sleep {seconds}"]
    with service(Spec("pair", command, tmp_path, lambda _: True, restart_s=0.1)) as running:
        assert soon(lambda: len(sleeping(seconds)) == 2)
        before = {process.pid for process in sleeping(seconds)}
        running.kill()
        assert soon(lambda: len(sleeping(seconds)) == 2 and not before & {each.pid for each in sleeping(seconds)})


def test_service__one_that_ends_is_named_with_its_last_line(tmp_path: Path) -> None:
    spec = Spec("broken", ["sh", "-c", "echo the reason; exit 3"], tmp_path, lambda _: False)
    with pytest.raises(RigError, match=r"^broken ended: the reason$"), service(spec):
        pass


def test_service__one_that_does_not_answer_is_named_and_gone(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    seconds = unique_seconds()
    spec = Spec("mute", ["sleep", seconds], tmp_path, lambda _: listens(port), limit_s=0.5)
    with pytest.raises(RigError, match=r"^mute did not answer within 0\.5 s$"), service(spec):
        pass
    assert not sleeping(seconds)


def test_service__removes_what_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "data-1").mkdir()
    (tmp_path / "data-1" / "file").touch()
    (tmp_path / "data-2").touch()
    with service(sleeper(tmp_path, remove=[str(tmp_path / "data-*")])):
        assert (tmp_path / "data-2").exists()
    assert not list(tmp_path.glob("data-*"))


def test_clean_environment__points_to_no_service_of_this_person(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "AWS_ENDPOINT", "DASK_CONFIG", "STAKEWEIGHT_GPU", "https_proxy", "PGHOST"):
        monkeypatch.setenv(name, "elsewhere")
    assert "elsewhere" not in clean_environment().values()
