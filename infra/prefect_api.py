"""The Prefect API of one run: the one that already runs, or one embedded process that ends with the run.

Prefect can start an API by itself, but then every process that imports it starts another one, its 20 s limit is too
short for the first start (14 s were measured on a quiet machine), and the process survives a killed parent. So the
API is started here, once, and held on three simple ropes:

* its socket is bound and listening before the process exists: no race for a port, and no polling, because an early
  request simply waits in the queue until the API accepts it;
* it lives in a session of its own, so that Ctrl-C in the terminal cannot take it away before the run is reported;
* its standard input is a pipe from this process: when this process ends, however it ends, the pipe closes and the
  API exits.

Two more failures are guarded against. Two first runs at once would both create the database that all runs of a person
share, and one would fail: the API process holds a lock until it answers. And a proxy of the environment would be asked
for an API that only this machine can reach.
"""

import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from infra.errors import InfraError
from infra.settings import Settings

# Defaults of the run; a variable that is already set keeps its value.
QUIET_AND_OFFLINE = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # also cures "database is locked"
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # what the server says while its data base is away
}
# Prefect records each state of each task in a transaction of its own, keeps all events and looks for automations to
# trigger. In batches, and with states only, 120 tasks cost the API 0.9 s of processor time instead of 4 s.
_EMBEDDED = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}
_LOCK = "stakeweight-start.lock"
_SERVER = """
import contextlib, fcntl, os, socket, sys, threading, uvicorn
sockets, lock, locked = [socket.socket(fileno=int(sys.argv[1]))], int(sys.argv[2]), threading.Event()
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        os.close(lock)
server = Server(uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on"))
def stop_with_parent():
    sys.stdin.read()
    server.should_exit = True
    if not locked.is_set():
        os._exit(1)  # nothing is begun, and the wait for the lock cannot be ended otherwise
threading.Thread(target=stop_with_parent, daemon=True).start()
with contextlib.suppress(OSError):  # a file system without locks
    fcntl.flock(lock, fcntl.LOCK_EX)
locked.set()
server.run(sockets)
"""
_LOOPBACK = "127.0.0.1,localhost"
_RAISED = re.compile(r"[\w.]+(Error|Exception|Interrupt|Exit)\b")
_LONGEST_LINE = 300


@dataclass(frozen=True, slots=True)
class PrefectApi:
    """An API that was asked to start and may not answer yet.

    Attributes:
        url: what `PREFECT_API_URL` is set to.
        limit_s: seconds in which it must answer.
        errors: what the embedded API writes to its standard error; None for an API that runs elsewhere.
    """

    url: str
    limit_s: float
    errors: IO[bytes] | None = None

    def wait(self) -> None:
        """Returns when the API answers.

        Raises:
            InfraError: it does not answer within the limit.
        """
        direct: dict[str, str] | None = None if self.errors is None else {}  # the embedded one is never behind a proxy
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(direct))
        try:
            opener.open(f"{self.url}/health", timeout=self.limit_s).close()
        except (OSError, urllib.error.URLError, ValueError) as error:
            cause = "" if self.errors is None else _last_error(self.errors)
            raise InfraError(f"no Prefect API answers at {self.url}: {cause or error}") from error


@contextmanager
def prefect_api(settings: Settings) -> Iterator[PrefectApi]:
    """Starts the embedded API, or names the running one, and points Prefect to it until the block ends.

    Returns at once: start other things, then call `wait()`.

    Raises:
        InfraError: Prefect's home, where the embedded API has its database, cannot be written.
    """
    if settings.prefect_api_url is not None:
        with _environment({**QUIET_AND_OFFLINE, "PREFECT_API_URL": settings.prefect_api_url}):
            yield PrefectApi(settings.prefect_api_url, limit_s=10.0)
        return
    with socket.socket() as listener, tempfile.TemporaryFile() as errors:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        with _open_lock() as lock, listener:  # from here on they are the API's own: it is gone when its socket is
            process = _start_server(listener, lock, errors)
        try:
            with _environment({**QUIET_AND_OFFLINE, "PREFECT_API_URL": url}, _no_proxy()), _embedded_settings(url):
                try:
                    yield PrefectApi(url, settings.api_start_limit_s, errors)
                finally:
                    _drain()
        finally:
            _stop(process)


def _open_lock() -> IO[bytes]:
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    try:
        home.mkdir(parents=True, exist_ok=True)
        return (home / _LOCK).open("ab")
    except OSError as error:
        raise InfraError(f"{home}: Prefect's home (PREFECT_HOME) must be writable: {error.strerror}") from error


def _start_server(listener: socket.socket, lock: IO[bytes], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    descriptors = [listener.fileno(), lock.fileno()]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVER, *map(str, descriptors)],
        pass_fds=descriptors,
        stdin=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
        env={**QUIET_AND_OFFLINE, **os.environ, **_EMBEDDED},
    )


def _last_error(errors: IO[bytes]) -> str:
    """Returns the line that says why the API did not start: the last that names an exception, or the last of all."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised or lines or [""])[-1][:_LONGEST_LINE]


def _no_proxy() -> dict[str, str]:
    """Returns the variables that keep clients from asking a proxy for this machine; every client reads its own case."""
    lower, upper = os.environ.get("no_proxy"), os.environ.get("NO_PROXY")
    hosts = {"no_proxy": lower or upper or "", "NO_PROXY": upper or lower or ""}
    return {name: f"{own},{_LOOPBACK}".lstrip(",") for name, own in hosts.items() if own.strip() != "*"}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Closes the pipe, which ends the API at once; the kill is for an API that hangs in native code."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _environment(defaults: Mapping[str, str], forced: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Sets variables, makes Prefect read them again, and puts back what was there.

    Args:
        defaults: set only where the person has not set them.
        forced: set in any case.
    """
    added = {name: value for name, value in defaults.items() if name not in os.environ} | dict(forced)
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    _refresh_prefect(show_runs="PREFECT_LOGGING_LEVEL" not in added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _refresh_prefect(show_runs=True)


def _refresh_prefect(show_runs: bool) -> None:
    """Prefect reads its settings when it is imported, so it has to read them again when they change.

    Args:
        show_runs: whether the log lines of runs go to the terminal. By default they go to the API alone: a failed
            unit would print its traceback there, and the command line tells the failure in one line.
    """
    import prefect.context  # imported late: this takes 1 s, during which the API process already starts
    from prefect.logging.configuration import setup_logging

    prefect.context.refresh_global_settings_context()
    setup_logging()
    for runs in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(runs).propagate = show_runs


@contextmanager
def _embedded_settings(url: str) -> Iterator[None]:
    """Goes before what the person's Prefect profile, or a run around this one, says of the API.

    The heartbeat tells a lasting server about crashed runs; here it would only add up to 1 s to every flow.
    """
    from prefect.settings import temporary_settings

    with temporary_settings({"api.url": url, "flows.heartbeat_frequency": None}):
        yield


def _drain() -> None:
    """Sends what Prefect still has in its queues, so that no thread of it calls an API that is gone."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)
