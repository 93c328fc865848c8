"""What a run needs around it: the Prefect API, the cluster, and the way to tell how far it is.

The API takes 4 s to start and the cluster 2 s, so both start at once and are waited for together. Whoever needs them
asks `current_session()`: the parameters of a flow say what is computed, not where.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from distributed import Client

from flows.progress import Progress
from infra.clusters import open_cluster
from infra.errors import InfraError
from infra.prefect_api import prefect_api
from infra.settings import Settings
from scoring.errors import OperatorError

_current: ContextVar["Session"] = ContextVar("session")


@dataclass(slots=True)
class Session:
    """The open connections of one run.

    Attributes:
        client: the way to the workers.
        settings: where and how the run is carried out.
        progress: shows how far each stage is.
        gpu: whether portfolios go to workers that offer the resource GPU.
        last_finished: `time.monotonic()` when a unit, whichever, finished last.
    """

    client: Client
    settings: Settings
    progress: Progress
    gpu: bool = False
    last_finished: float = field(default_factory=time.monotonic)


@contextmanager
def open_session(settings: Settings, progress: Progress | None = None) -> Iterator[Session]:
    """Yields the open session, or opens one: within it flows can run units. Nothing is left running afterwards.

    Raises:
        OperatorError: the scheduler or the Prefect API does not answer, or the cluster's file is wrong.
    """
    if (session := _current.get(None)) is not None:
        yield session
        return
    try:
        with prefect_api(settings) as api, open_cluster(settings) as client:
            api.wait()
            with progress or Progress() as shown:
                session = Session(client, settings, shown, settings.gpu and _offers_gpu(client))
                if settings.gpu and not session.gpu:
                    shown.note("no worker offers the resource GPU: portfolios are solved on the CPU workers")
                token = _current.set(session)
                try:
                    yield session
                finally:
                    _current.reset(token)
    except InfraError as error:
        raise OperatorError(str(error)) from error


def _offers_gpu(client: Client) -> bool:
    """Says whether any worker offers the resource GPU now."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker["resources"].get("GPU", 0) >= 1 for worker in workers)


def current_session() -> Session:
    """The session of the run that calls.

    Raises:
        RuntimeError: a unit runs outside `open_session`, which is a bug of the flow.
    """
    session = _current.get(None)
    if session is None:
        raise RuntimeError("units run within `with open_session(settings):` only")
    return session
