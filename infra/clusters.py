"""One function that gives a Dask client, whatever stands behind it, and leaves nothing running.

Three sources: a scheduler that already runs (`tcp://…`, `tls://…`), the packaged `local` cluster, or a YAML file in
the same form. Guards against the failures seen with clusters: a scheduler that never answers, a scheduler without a
single worker (units would wait for ever), worker processes that outlive the command, and a mistake in the file or the
address that Dask answers with pages of tracebacks, from each worker its own: it ends in one line.
"""

import asyncio
import importlib
import logging
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import yaml
from distributed import Client, LocalCluster
from distributed.comm import connect, get_address_host_port
from distributed.security import Security

from infra.errors import InfraError, one_line
from infra.question import Question
from infra.settings import Settings

_SPEC_KEYS = {"cluster_class", "cluster_kwargs", "dask_config"}
_MAPPINGS = ("cluster_kwargs", "dask_config")
_QUIET_WORKERS = {"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical"}  # unless the file asks


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """How to build a cluster: a class by its import path, its arguments, and Dask settings while it runs."""

    cluster_class: str
    cluster_kwargs: Mapping[str, Any]
    dask_config: Mapping[str, Any]

    def build(self, settings: Settings) -> Any:
        """Starts the cluster.

        Args:
            settings: with the number of workers, or None for what the spec says; whether they offer a GPU; the limit.

        Raises:
            InfraError: the class cannot be imported, refuses its arguments, does not start within the limit, or is no
                cluster.
        """
        module, _, name = self.cluster_class.rpartition(".")
        chosen: dict[str, Any] = {} if settings.workers is None else {"n_workers": settings.workers}
        if settings.gpu:
            chosen["resources"] = {"GPU": 1}
        try:
            kind = getattr(importlib.import_module(module), name)
            quiet = {"silence_logs": logging.CRITICAL} if kind is LocalCluster else {}
            start = partial(kind, **{**quiet, **self.cluster_kwargs, **chosen})
            cluster = Question(start, settings.cluster_start_limit_s).answer()
        except Exception as error:  # whatever a class of the operator's choice raises
            raise InfraError(f"cluster {self.cluster_class}: {one_line(error)}") from error
        if not (hasattr(cluster, "scheduler_address") and hasattr(cluster, "__exit__")):
            raise InfraError(f"cluster {self.cluster_class}: is no Dask cluster")
        return cluster


def read_spec(cluster: str) -> ClusterSpec:
    """Reads a cluster description.

    Args:
        cluster: `local`, or the path of a YAML file.

    Raises:
        InfraError: the file is missing, is not YAML, or has other keys than the three of `local.yaml`.
    """
    file = resources.files("infra") / "cluster_specs" / "local.yaml" if cluster == "local" else Path(cluster)
    try:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        place = f"line {where.line + 1}, column {where.column + 1}: " if where else ""
        raise InfraError(f"cluster {cluster!r}: {place}{error.problem or error.context}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or no such date
        raise InfraError(f"cluster {cluster!r}: {one_line(error)}") from error
    if not isinstance(spec, dict) or "cluster_class" not in spec or not spec.keys() <= _SPEC_KEYS:
        raise InfraError(f"cluster {cluster!r}: needs cluster_class and may have {sorted(_SPEC_KEYS)}, nothing else")
    if not isinstance(spec["cluster_class"], str):
        raise InfraError(f"cluster {cluster!r}: cluster_class must be an import path, found {spec['cluster_class']!r}")
    return ClusterSpec(spec["cluster_class"], *(_mapping(cluster, spec, key) for key in _MAPPINGS))


def _mapping(cluster: str, spec: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = {} if spec.get(key) is None else spec[key]
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InfraError(f"cluster {cluster!r}: {key} must be a mapping of names to values, found {found!r}")
    return found


@contextmanager
def open_cluster(settings: Settings) -> Iterator[Client]:
    """Yields a client with at least one worker; a cluster started here is gone afterwards, also after an exception.

    Raises:
        InfraError: the cluster cannot be started, no scheduler answers at the address, or it shows no worker in time.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        address: Any = settings.scheduler
        if settings.scheduler is None:
            spec = read_spec(settings.cluster)
            stack.enter_context(_dask_config(spec))
            with _interrupts_wait():
                cluster = spec.build(settings)
            address = stack.enter_context(cluster)
        yield stack.enter_context(_connect(address, settings))


def _dask_config(spec: ClusterSpec) -> dask.config.set:
    try:
        return dask.config.set({**_QUIET_WORKERS, **spec.dask_config})
    except Exception as error:  # Dask does not check: what it raises depends on where a value does not fit
        raise InfraError(f"cluster {spec.cluster_class}: dask_config: {one_line(error)}") from error


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Holds Ctrl-C back for the 2 s in which a cluster starts, and from its processes for as long as they live.

    Ctrl-C reaches every process of a terminal, and only the driver may act on it: it stops the workers itself. Threads
    and processes inherit what is held back, so a worker never sees it, not even while it starts.
    """
    resource_tracker.ensure_running()  # Python 3.11 starts it with the first process, and unblocks the signal then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connect(address: Any, settings: Settings) -> Client:
    where = settings.scheduler or f"cluster {settings.cluster!r}"
    if settings.scheduler is not None:
        _check_address(settings.scheduler)
    try:
        if settings.scheduler is not None:
            _greet(settings.scheduler, settings.connect_limit_s)
        client = Client(address, timeout=settings.connect_limit_s, name="stakeweight")
    except OSError as error:  # TimeoutError included
        raise InfraError(f"no scheduler answered at {where} within {settings.connect_limit_s:g} s") from error
    except Exception as error:  # whatever else Dask finds wrong
        raise InfraError(f"{where}: {one_line(error)}") from error
    try:
        client.wait_for_workers(1, timeout=settings.connect_limit_s)
    except OSError as error:  # TimeoutError included
        client.close()
        raise InfraError(f"{where} showed no worker within {settings.connect_limit_s:g} s") from error
    return client


def _check_address(address: str) -> None:
    """Refuses an address that no client could be made for.

    Asked beforehand, because a client that fails for such a reason is never closed: its event loop lives on, and about
    every eighth next client of the process then waits for 10 s and fails with an empty AssertionError.
    """
    try:
        get_address_host_port(address)
    except ValueError as error:
        raise InfraError(f"{address}: {one_line(error)}") from error
    if not address.startswith("tls://"):
        return
    needs = f"{address} needs the certificates that Dask's settings name (distributed.comm.tls)"
    try:
        context = Security().get_connection_args("client")["ssl_context"]
    except OSError as error:  # missing, unreadable, or (SSLError) no certificate
        raise InfraError(f"{needs}: {one_line(error)}") from error
    if context is None:
        raise InfraError(needs)


def _greet(address: str, limit_s: float) -> None:
    """Returns when a scheduler has answered at the address; Dask's own limit ends with the connection, not the answer.

    Raises:
        OSError: nobody answered within the limit (TimeoutError included).
    """

    async def greet() -> None:
        arguments = Security().get_connection_args("client")
        comm = await asyncio.wait_for(connect(address, timeout=limit_s, **arguments), limit_s)
        await comm.close()

    asyncio.run(greet())
