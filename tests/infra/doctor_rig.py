"""A scheduler and workers as an operator starts them, one process each, with whatever is wrong with one of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).parents[2]
START_LIMIT_S = 60.0


@contextmanager
def scheduler(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Yields the address of a scheduler on a free port; `tcp://127.0.0.1:…`, on whatever else it listens."""
    file = folder / "scheduler.json"
    options = ["--host", host, "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    with _process(folder / "scheduler.log", "scheduler", *options):
        ends = time.monotonic() + START_LIMIT_S
        while not file.exists():
            if time.monotonic() > ends:
                raise TimeoutError((folder / "scheduler.log").read_text())
            time.sleep(0.05)
        yield f"tcp://127.0.0.1:{json.loads(file.read_text())['address'].rpartition(':')[2]}"


@contextmanager
def worker(
    address: str, folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Yields one worker of one thread, without a nanny: what is stopped is the worker itself.

    Args:
        address: the scheduler's.
        folder: for its log and its temporary files; must exist. Its name is the worker's.
        options: of `dask worker`; they go before the rig's own.
        environment: what differs from this process's.
    """
    own = [
        "--name",
        folder.name,
        "--no-nanny",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
        "--nthreads",
        "1",
        "--memory-limit",
        "2GB",
    ]
    log, command = folder / "worker.log", ["worker", address, *own, "--local-directory", str(folder), *options]
    with _process(log, *command, environment={"NUMBA_NUM_THREADS": "1", **(environment or {})}) as process:
        yield process


def wait_for_workers(address: str, count: int) -> None:
    """Returns when the scheduler knows so many workers."""
    with Client(address, timeout=START_LIMIT_S) as client:
        client.wait_for_workers(count, timeout=START_LIMIT_S)


@contextmanager
def _process(
    log: Path, *command: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
