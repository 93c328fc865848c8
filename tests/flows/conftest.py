"""A Prefect API and a cluster for each module of tests of flows: they take 5 s to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.progress import Progress
from flows.session import Session, open_session
from infra.settings import read_settings


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all: making it takes 10 s."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def session(prefect_home: Path) -> Iterator[Session]:
    """A real embedded API and a real cluster of two worker processes; a module that kills workers has its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home))
        patch.delenv("PREFECT_API_URL", raising=False)
        with open_session(read_settings(workers=2), Progress("silent")) as session:
            yield session
