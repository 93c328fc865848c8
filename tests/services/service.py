"""One real service of a test: started on loopback, waited for with a limit, written to a log, gone with the test.

    with service(Spec("seaweedfs", command, folder, url, ready)) as running:
        running.kill()       # SIGKILL, as a crash would
        running.start()      # on the same port, with the same data
        running.wait()

The work of keeping and ending it is the warden's, a process of its own.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.prefect_api import QUIET_AND_OFFLINE
from tests.services.warden import STARTED

ROOT = Path(__file__).parents[2]
_LOOK_EVERY_S = 0.1
_OWN = ("PREFECT_", "DASK_", "AWS_", "STAKEWEIGHT_", "PG")
"""Variables by which the person's own services would get into the tests."""
_BELOW_OUTGOING = (15_000, 32_000)
"""Linux takes ports of outgoing connections from 32 768 on: one of those may be taken while a service is down."""


class RigError(RuntimeError):
    """A service did not do what the tests need; one line, with the last line of its log."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to start.

    Attributes:
        name: names the log, and the service in messages.
        command: the program and its arguments.
        folder: for the log and the process id; must exist.
        ready: whether the service of this spec answers; OSError and RigError count as no.
        environment: what is added to `clean_environment()`.
        limit_s: seconds in which it must answer.
        user: numeric user and group to run as; None: those of the test.
        restart_s: seconds after which it is started again when it died by itself; None: it stays dead.
        stop_signal: what makes it stop in an orderly way.
        stop_limit_s: seconds after which it is killed instead.
        remove: patterns of files and folders that go with it, also after a crash of the test process.
    """

    name: str
    command: Sequence[str]
    folder: Path
    ready: "Callable[[Spec], bool]"
    environment: Mapping[str, str] = field(default_factory=dict)
    limit_s: float = 60.0
    user: tuple[int, int] | None = None
    restart_s: float | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_limit_s: float = 10.0
    remove: Sequence[str] = ()

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def printed(self) -> str:
        """What it has written since it was started last."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text.rpartition(STARTED)[2]


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs.

    Attributes:
        spec: what was started.
    """

    spec: Spec
    _warden: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id now; 0 while it is down."""
        return _pid(self.spec)

    @property
    def log(self) -> Path:
        return self.spec.log

    def kill(self) -> None:
        """Kills it as a crash would (SIGKILL) and everything below it; with `restart_s` it comes back by itself."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        self._until(lambda: self.pid != pid, "was killed")

    def stop(self) -> None:
        """Stops it in an orderly way; it stays down until `start`."""
        self._tell("stop")
        self._until(lambda: self.pid == 0, "stopped")

    def start(self) -> None:
        """Starts it again, with the same ports and data, and waits until it answers."""
        self._tell("start")
        self._until(lambda: self.pid != 0, "started")
        self.wait()

    def restart(self) -> None:
        """Stops and starts it."""
        self.stop()
        self.start()

    def wait(self) -> None:
        """Returns when it answers.

        Raises:
            RigError: it ended, or does not answer within its limit.
        """
        _wait(self.spec, self._warden)

    def _tell(self, command: str) -> None:
        if self._warden.stdin is None:
            raise RigError(f"{self.spec.name}: its warden has no pipe")
        self._warden.stdin.write(f"{command}\n".encode())
        self._warden.stdin.flush()

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.spec.limit_s
        while not reached():
            if time.monotonic() > deadline:
                raise RigError(f"{self.spec.name}: not {what} within {self.spec.limit_s:g} s{_last_line(self.spec)}")
            time.sleep(_LOOK_EVERY_S)


@contextmanager
def service(spec: Spec, *, wait: bool = True) -> Iterator[Service]:
    """Yields the service once it answers; afterwards nothing of it runs.

    Args:
        spec: what to start.
        wait: otherwise yield at once, so that several can start side by side; call `wait()` later.

    Raises:
        RigError: it ended, or did not answer within its limit.
    """
    spec.pid_file.unlink(missing_ok=True)
    warden = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warden.py")), json.dumps(_for_warden(spec))],
        cwd=ROOT,
        env={**clean_environment(), **spec.environment},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if wait:
            _wait(spec, warden)
        yield Service(spec, warden)
    finally:
        warden.communicate(timeout=60)  # closes the pipe


def run_once(command: Sequence[str], environment: Mapping[str, str], limit_s: float = 120.0) -> str:
    """Runs a command that sets something up, and returns what it printed.

    Raises:
        RigError: it failed.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**clean_environment(), **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
        check=False,
    )
    if done.returncode != 0:
        raise RigError(f"{' '.join(command[:4])} … ended with {done.returncode}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """The variables of this process without those that point to services elsewhere, and without proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OWN) and not name.lower().endswith("_proxy")
    }
    return {**kept, **QUIET_AND_OFFLINE, "PYTHONUNBUFFERED": "1"}


def free_ports(count: int) -> list[int]:
    """Returns ports of 127.0.0.1 that nothing listens on now."""
    chosen: list[int] = []
    while len(chosen) < count:
        port = random.SystemRandom().randrange(*_BELOW_OUTGOING)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in chosen:
            chosen.append(port)
    return chosen


def answers(url: str) -> bool:
    """Whether an HTTP server answers at the address, and be it with a refusal."""
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    return True


def listens(port: int) -> bool:
    """Whether something takes connections on a port of 127.0.0.1."""
    socket.create_connection(("127.0.0.1", port), timeout=2).close()
    return True


def _for_warden(spec: Spec) -> dict[str, object]:
    user, group = spec.user or (None, None)
    return {
        "command": list(spec.command),
        "log": str(spec.log),
        "pid_file": str(spec.pid_file),
        "user": user,
        "group": group,
        "restart_s": spec.restart_s,
        "stop_signal": int(spec.stop_signal),
        "stop_limit_s": spec.stop_limit_s,
        "remove": list(spec.remove),
    }


def _wait(spec: Spec, warden: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + spec.limit_s
    while not (_pid(spec) and _is_ready(spec)):
        ended = spec.restart_s is None and spec.pid_file.exists() and not _pid(spec)
        if ended or warden.poll() is not None:
            raise RigError(f"{spec.name} ended{_last_line(spec)}")
        if time.monotonic() > deadline:
            raise RigError(f"{spec.name} did not answer within {spec.limit_s:g} s{_last_line(spec)}")
        time.sleep(_LOOK_EVERY_S)


def _pid(spec: Spec) -> int:
    return int(spec.pid_file.read_text()) if spec.pid_file.exists() else 0


def _is_ready(spec: Spec) -> bool:
    try:
        return spec.ready(spec)
    except (OSError, RigError):  # refused, reset, timed out; a command that says no
        return False


def _last_line(spec: Spec) -> str:
    lines = spec.printed().strip().splitlines()
    return f": {lines[-1]}" if lines else ""
