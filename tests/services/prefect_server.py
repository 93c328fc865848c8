"""A Prefect server as it runs in production: on PostgreSQL, with a password, its UI, a work pool and its worker."""

import base64
import json
import re
import secrets
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.service import RigError, Service, Spec, answers, free_ports, run_once, service

_PREFECT = [sys.executable, "-m", "prefect"]
_SERVER = {
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "20",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",  # 60 s by default: a test would wait for it
    "PREFECT_SERVER_SERVICES_SCHEDULER_DEPLOYMENT_LOOP_SECONDS": "2",
}
_WORKER = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",  # 10 s by default
    "PREFECT_WORKER_PREFETCH_SECONDS": "5",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # as in production; without it no run would count as dead
}
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """A server with its UI.

    Attributes:
        url: of the API; the UI has the same address without `/api`.
        auth: what the UI asks for, and the API from every client.
        environment: `PREFECT_*` variables that reach it, for whatever is started.
        service: to kill, stop, restart; its data stay in PostgreSQL.
    """

    url: str
    auth: str
    environment: Mapping[str, str]
    service: Service

    @property
    def ui(self) -> str:
        return self.url.removesuffix("/api")

    def ask(self, path: str, body: object = None) -> Any:
        """Returns the API's answer to a POST of the body, or to a GET where there is none."""
        return json.loads(self._request("GET" if body is None else "POST", path, body))

    def delete(self, path: str) -> None:
        """Asks the API to delete something."""
        self._request("DELETE", path, None)

    def _request(self, method: str, path: str, body: object) -> bytes:
        token = base64.b64encode(self.auth.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            found: bytes = answer.read()
            return found

    def run_deployment(self, name: str, **parameters: str) -> Mapping[str, Any]:
        """Starts a run of `flow/deployment` by hand and returns the run once it has ended.

        Raises:
            RigError: it did not end within 3 minutes.
        """
        return self.ended(self.start_deployment(name, **parameters))

    def start_deployment(self, name: str, **parameters: str) -> str:
        """Starts a run of `flow/deployment` by hand and returns its id."""
        printed = self.command("deployment", "run", name, "--params", json.dumps(parameters))
        found: str = re.findall(r"UUID: ([0-9a-f-]{36})", printed)[0]
        return found

    def command(self, *arguments: str) -> str:
        """Runs a command of `prefect` as an operator does, and returns what it printed."""
        return run_once([*_PREFECT, *arguments], self.environment)

    def ended(self, run: str, limit_s: float = 180.0) -> Mapping[str, Any]:
        """Returns a run of a flow once it has ended, in whatever state.

        Raises:
            RigError: it has not within the limit.
        """
        deadline = time.monotonic() + limit_s
        while (found := self.ask(f"flow_runs/{run}"))["state_type"] not in _ENDED:
            if time.monotonic() > deadline:
                raise RigError(f"flow run {found['name']} is still {found['state_name']} after {limit_s:g} s")
            time.sleep(0.5)
        return found

    def said(self, run: str) -> str:
        """What a run of a flow has logged: for the message of a test that fails."""
        query = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}
        return "\n".join(line["message"] for line in self.ask("logs/filter", query))


@contextmanager
def prefect_server(folder: Path, database: str) -> Iterator[PrefectServer]:
    """Yields a server whose database is made and not migrated while it starts.

    Args:
        folder: for logs, the UI's files and the clients' home; must exist.
        database: URL of an empty database, or of one that an earlier server had.
    """
    (port,) = free_ports(1)
    url, auth = f"http://127.0.0.1:{port}/api", f"operator:{secrets.token_urlsafe(16)}"
    client = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": auth}
    own = {
        **_SERVER,
        "PREFECT_HOME": str(folder / "prefect-server"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_UI_URL": url.removesuffix("/api"),  # without it a notification has no link to its run
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "prefect-ui"),  # otherwise it writes into its package
    }
    run_once([*_PREFECT, "server", "database", "upgrade", "-y"], own)
    command = [*_PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with service(Spec("prefect-server", command, folder, lambda _: answers(f"{url}/ready"), own, 120.0)) as running:
        yield PrefectServer(url, auth, client, running)


@contextmanager
def prefect_worker(folder: Path, server: PrefectServer, pool: str, environment: Mapping[str, str]) -> Iterator[Service]:
    """Yields a worker of a process work pool, which is made where it is missing.

    Args:
        folder: for the log; must exist.
        server: whose runs it takes.
        pool: name of the work pool.
        environment: variables for the runs that it starts, e.g. the store's and the cluster's.
    """
    client = {**server.environment, **environment}
    try:
        run_once([*_PREFECT, "work-pool", "inspect", pool], client)
    except RigError:
        run_once([*_PREFECT, "--no-prompt", "work-pool", "create", pool, "--type", "process"], client)
    command = [*_PREFECT, "worker", "start", "--pool", pool, "--name", "tests"]
    spec = Spec(
        "prefect-worker", command, folder, lambda spec: "started!" in spec.printed(), {**client, **_WORKER}, 60.0
    )
    with service(spec) as running:
        yield running
