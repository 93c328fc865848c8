"""All services of a small company's cluster, started once for all tests that need them (about a minute)."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from scoring.synthetic import SyntheticSpec
from tasks.synthetic import write_tournament
from tests.services.dask_cluster import DaskCluster, dask_cluster
from tests.services.postgres import Postgres, postgres
from tests.services.prefect_server import PrefectServer, prefect_server, prefect_worker
from tests.services.seaweedfs import Seaweedfs, seaweedfs
from tests.services.service import Service, run_once

T = TypeVar("T")
SPEC = SyntheticSpec(rounds=3, models=60, stocks=150, seed=30)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that runs.

    Attributes:
        folder: with the logs of all services.
        environment: the variables of an operator who uses them.
        start_s: seconds that each took to start, by name; printed when the tests are done.
    """

    folder: Path
    store: Seaweedfs
    database: Postgres
    cluster: DaskCluster
    prefect: PrefectServer
    environment: Mapping[str, str]
    start_s: Mapping[str, float]


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    start_s: dict[str, float] = {}
    with ExitStack() as stack:

        def start(name: str, starting: AbstractContextManager[T]) -> T:
            begun = time.monotonic()
            running = stack.enter_context(starting)
            start_s[name] = round(time.monotonic() - begun, 1)
            return running

        store = start("seaweedfs", seaweedfs(folder))
        database = start("postgres", postgres(folder))
        cluster = start("dask", dask_cluster(folder, environment=store.environment))
        prefect = start("prefect", prefect_server(folder, database.url))
        where = {"STAKEWEIGHT_SCHEDULER": cluster.address}
        environment = {**store.environment, **cluster.environment, **prefect.environment, **where}
        yield Services(folder, store, database, cluster, prefect, environment, start_s)
    print(f"\nseconds to start: {start_s}")


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tournament of three rounds that are due."""
    directory = tmp_path_factory.mktemp("tournament") / "data"
    write_tournament(directory, SPEC)
    return directory


@pytest.fixture(scope="session")
def data(services: Services, directory: Path) -> str:
    """The same tournament in the store."""
    return services.store.upload(directory, "data")


@dataclass(frozen=True, slots=True)
class Deployed:
    """What `infra/prefect.yaml` deploys, with a worker that carries it out.

    Attributes:
        out: the folder of the store to which the deployments publish.
        worker: of the process work pool.
    """

    out: str
    worker: Service


@pytest.fixture(scope="session")
def deployed(services: Services, data: str) -> Iterator[Deployed]:
    place = {"TOURNAMENT_DATA": data, "TOURNAMENT_OUT": services.store.location("deployed")}
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run_once(["sh", "infra/deploy.sh"], {**services.environment, **place, "PATH": programs})
    with prefect_worker(services.folder, services.prefect, "stakeweight", services.environment) as worker:
        yield Deployed("deployed", worker)


@pytest.fixture(scope="session")
def weekly(services: Services, deployed: Deployed) -> Mapping[str, Any]:
    """A run of resolve-due, started by hand, that has ended."""
    return services.prefect.run_deployment("resolve-due/resolve-due")
