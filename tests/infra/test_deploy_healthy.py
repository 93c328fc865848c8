"""infra/healthy.py: who answers, how long it waits, and that a container whose part hangs is ended, for real.

A namespace of processes stands for the container: in it a shell is the first process and waits for its child, as the
init of Docker does.
"""

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import healthy
from infra.healthy import PARTS, Part, answers_in_time, end_container, main, part_of
from tests.infra.deploy_files import tool
from tests.services.service import free_ports

CONTAINER = [
    "unshare",
    "--user",
    "--map-user=10001",
    "--map-group=10001",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
]
SCRIPT = r"""
"$DASK" scheduler --host 127.0.0.1 --port 0 --dashboard-address "127.0.0.1:$PORT" >/dev/null 2>&1 &
scheduler=$!
"$PYTHON" "$CHECK" 60; echo "running $?"
kill -STOP $scheduler
"$PYTHON" "$CHECK" 1; echo "stopped $?"
wait $scheduler; echo "scheduler $?"
"""
CHECK = """
import os, sys
from infra import healthy
healthy.PARTS["dask-scheduler"] = healthy.Part(f"http://127.0.0.1:{os.environ['PORT']}/health", float(sys.argv[1]))
sys.exit(healthy.main(["--end", "--part", "dask-scheduler"]))
"""


@pytest.fixture
def server() -> Iterator[str]:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Health) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_healthy__says_by_its_exit_code_whether_one_address_answers(server: str) -> None:
    assert main([f"{server}/health"]) == 0
    assert main([f"{server}/ill", f"{server}/health"]) == 0
    assert main([f"{server}/ill"]) == 1
    assert main(["http://127.0.0.1:1/health"]) == 1
    assert main(["nonsense"]) == 1


def test_healthy__asks_no_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert main([f"{server}/health"]) == 0


def test_healthy__waits_for_a_part_that_is_starting_and_no_longer_than_it_may_be_silent(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(healthy, "PAUSE_S", 0.01)
    later = iter([False, False, True])
    monkeypatch.setattr(healthy, "answers", lambda url: next(later))
    assert answers_in_time(Part("url", 60.0))
    monkeypatch.undo()
    monkeypatch.setattr(healthy, "PAUSE_S", 0.01)
    monkeypatch.setitem(PARTS, "dask-worker", Part(f"{server}/ill", 0.05))
    begun = time.monotonic()
    assert main(["--part", "dask-worker"]) == 1
    assert time.monotonic() - begun >= 0.05
    assert f"dask-worker: no answer from {server}/ill" in capsys.readouterr().err


def test_part_of__a_unit_of_systemd_has_a_port_of_its_own() -> None:
    assert part_of("dask-worker@007").url == "http://127.0.0.1:18007/health"
    assert part_of("dask-worker@007").patience_s == part_of("dask-worker").patience_s == 600


@pytest.mark.parametrize("name", ["dask", "dask-worker@cpu-1", "dask-worker@1", "dask-scheduler@001", ""])
def test_part_of__refuses_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="must be one of prefect-server"):
        part_of(name)


@pytest.mark.parametrize("arguments", [["--end"], ["--part", "dask"], ["--part", "dask-worker", "http://127.0.0.1"]])
def test_healthy__a_wrong_call_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


@pytest.mark.parametrize(("user", "first"), [(0, 0), (1000, 0), (1000, 1001)])
def test_end_container__kills_nobody_on_a_machine_that_others_use(
    user: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(healthy, "_owner_of_init", lambda: first)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("it killed"))
    with pytest.raises(PermissionError, match="no container"):
        end_container()


def test_end_container__kills_all_but_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "getuid", lambda: 10001)
    monkeypatch.setattr(healthy, "_owner_of_init", lambda: 10001)
    monkeypatch.setattr(os, "kill", lambda *call: killed.append(call))
    end_container()
    assert killed == [(-1, signal.SIGKILL)]


def _has_namespaces() -> bool:
    try:
        return subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _has_namespaces(), reason="no namespaces of processes for ordinary users here")
def test_healthy__a_scheduler_that_was_stopped_is_ended_so_that_its_container_starts_again(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    check = tmp_path / "check.py"
    check.write_text(CHECK, encoding="utf-8")
    environment = {
        **os.environ,
        "DASK": tool("dask"),
        "PYTHON": sys.executable,
        "CHECK": str(check),
        "PORT": str(port),
        "PYTHONPATH": str(Path(healthy.__file__).parents[1]),
    }
    command = [*CONTAINER, "sh", "-c", SCRIPT]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines() == ["running 0", "stopped 1", f"scheduler {128 + signal.SIGKILL}"], result.stderr
