"""A Dask cluster as it runs in production: separate processes, TLS everywhere, nannies, each part supervised."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.certificates import Certificates, make_certificates
from tests.services.service import Service, Spec, free_ports, listens, service

GPU_WORKER = "gpu"
"""Name of the worker that offers the resource GPU; the others are called cpu-0, cpu-1 …"""
_RESTART_S = 1.0
_SETTINGS = {
    "NUMBA_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "60s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
}


@dataclass(frozen=True, slots=True)
class DaskCluster:
    """A scheduler and its workers.

    Attributes:
        address: of the scheduler, `tls://…`.
        environment: what a client needs: where Dask's settings with the certificates are.
        certificates: of all parts.
        scheduler: to kill, stop, restart; it comes back by itself when it is killed.
        workers: nannies of one worker process each; they come back by themselves.
        gpu_worker: the same, and it offers one GPU.
    """

    address: str
    environment: Mapping[str, str]
    certificates: Certificates
    scheduler: Service
    workers: Sequence[Service]
    gpu_worker: Service


@contextmanager
def dask_cluster(
    folder: Path, workers: int = 2, environment: Mapping[str, str] | None = None, settings: Sequence[str] = ()
) -> Iterator[DaskCluster]:
    """Yields a cluster of which every worker is there.

    Args:
        folder: for certificates, logs and spilled data; must exist.
        workers: without the one that offers a GPU.
        environment: variables for every part, e.g. the credentials of a store.
        settings: more of Dask's settings for every part, e.g. `DASK_DISTRIBUTED__SCHEDULER__…=…`.
    """
    certificates = make_certificates(folder / "certificates", ["127.0.0.1", "localhost"])
    client = {"DASK_CONFIG": str(certificates.dask_file.absolute())}
    everywhere = {**(environment or {}), **_SETTINGS, **dict(setting.split("=", 1) for setting in settings), **client}
    (port, *nannies) = free_ports(workers + 2)
    address = f"tls://127.0.0.1:{port}"
    with ExitStack() as stack:
        command = [*_dask("scheduler"), "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        spec = Spec("dask-scheduler", command, folder, lambda _: listens(port), everywhere, restart_s=_RESTART_S)
        scheduler = stack.enter_context(service(spec))
        names = [*(f"cpu-{number}" for number in range(workers)), GPU_WORKER]
        specs = [_worker(folder, name, address, nanny, everywhere) for name, nanny in zip(names, nannies, strict=True)]
        started = [stack.enter_context(service(spec, wait=False)) for spec in specs]
        for worker in started:
            worker.wait()
        yield DaskCluster(address, client, certificates, scheduler, started[:-1], started[-1])


def _worker(folder: Path, name: str, address: str, nanny_port: int, environment: Mapping[str, str]) -> Spec:
    options = ["--name", name, "--host", "127.0.0.1", "--nanny-port", str(nanny_port), "--nthreads", "1"]
    options += ["--memory-limit", "2GiB", "--no-dashboard", "--local-directory", str(folder / f"dask-{name}")]
    if name == GPU_WORKER:
        options += ["--resources", "GPU=1"]
    command = [*_dask("worker"), address, *options]
    return Spec(
        f"dask-{name}",
        command,
        folder,
        lambda spec: "Registered to" in spec.printed(),
        environment,
        restart_s=_RESTART_S,
    )


def _dask(part: str) -> list[str]:
    """With `-m`, so that workers can import what lies in the working directory: the tests' own units."""
    return [sys.executable, "-m", "dask", part]
