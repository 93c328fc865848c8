"""One function that gives a Dask client, whatever stands behind it, and leaves nothing running.

Three sources: a scheduler that already runs (`tcp://…`, `tls://…`), the packaged `local` cluster, or a YAML file in
the same form. Guards against the failures seen with clusters: a scheduler that never answers, a scheduler without a
single worker (units would wait for ever), and worker processes that outlive the command.
"""

import importlib
import logging
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import yaml
from distributed import Client

from infra.errors import InfraError
from infra.settings import Settings

_SPEC_KEYS = {"cluster_class", "cluster_kwargs", "dask_config"}


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """How to build a cluster: a class by its import path, its arguments, and Dask settings while it runs."""

    cluster_class: str
    cluster_kwargs: Mapping[str, Any]
    dask_config: Mapping[str, Any]

    def build(self, workers: int | None) -> Any:
        """Starts the cluster.

        Args:
            workers: number of workers, or None for what the spec says.

        Raises:
            InfraError: the class cannot be imported or refuses its arguments.
        """
        module, _, name = self.cluster_class.rpartition(".")
        chosen = {} if workers is None else {"n_workers": workers}
        try:
            return getattr(importlib.import_module(module), name)(**{**self.cluster_kwargs, **chosen})
        except (ImportError, AttributeError, TypeError, ValueError, OSError) as error:
            raise InfraError(f"cluster {self.cluster_class}: {error}") from error


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
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InfraError(f"cluster {cluster!r}: {error}") from error
    if not isinstance(spec, dict) or "cluster_class" not in spec or not spec.keys() <= _SPEC_KEYS:
        raise InfraError(f"cluster {cluster!r}: needs cluster_class and may have {sorted(_SPEC_KEYS)}, nothing else")
    return ClusterSpec(spec["cluster_class"], spec.get("cluster_kwargs") or {}, spec.get("dask_config") or {})


@contextmanager
def open_cluster(settings: Settings) -> Iterator[Client]:
    """Yields a client with at least one worker; a cluster started here is gone afterwards, also after an exception.

    Raises:
        InfraError: no scheduler answers at the address, or it shows no worker in time.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        address: Any = settings.scheduler
        if settings.scheduler is None:
            spec = read_spec(settings.cluster)
            stack.enter_context(dask.config.set(spec.dask_config))
            with _interrupts_wait():
                cluster = spec.build(settings.workers)
            address = stack.enter_context(cluster)
        yield stack.enter_context(_connect(address, settings))


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
    try:
        client = Client(address, timeout=settings.connect_limit_s, name="stakeweight")
    except OSError as error:  # TimeoutError included
        raise InfraError(f"no scheduler answered at {where} within {settings.connect_limit_s:g} s") from error
    try:
        client.wait_for_workers(1, timeout=settings.connect_limit_s)
    except TimeoutError as error:
        client.close()
        raise InfraError(f"{where} showed no worker within {settings.connect_limit_s:g} s") from error
    return client
