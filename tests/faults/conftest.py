"""Services and tournaments that the fault tests share; none of this runs in the default `make test`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tasks import store
from tests.faults.full_disk import small_disk
from tests.faults.published import undisturbed
from tests.faults.staged import ROUNDS as STAGED_ROUNDS
from tests.faults.staged import write_staged
from tests.faults.tiny import ROUNDS, write_other, write_tiny
from tests.services.prefect_server import prefect_server
from tests.services.seaweedfs import Seaweedfs, seaweedfs


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same tournament with other stakes."""
    return write_other(tmp_path_factory.mktemp("other") / "data")


@pytest.fixture(scope="session")
def tiny_files(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the undisturbed run."""
    return undisturbed(tiny, tmp_path_factory.mktemp("undisturbed"), ROUNDS)


@pytest.fixture(scope="session")
def s3_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweedfs]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture
def s3(s3_service: Seaweedfs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seaweedfs]:
    """SeaweedFS, with the environment of this process set to reach it."""
    for name, value in s3_service.environment.items():
        monkeypatch.setenv(name, value)
    store._connect.cache_clear()
    yield s3_service
    store._connect.cache_clear()


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all runs that start an API of their own: making it takes 10 s."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The variables that reach one Prefect server, shared by all tests that do not put a fault on it."""
    folder = tmp_path_factory.mktemp("api")
    with prefect_server(folder, f"sqlite+aiosqlite:///{folder}/prefect.db") as running:
        yield running.environment


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to publish to: a directory, and a prefix of an object store."""
    if request.param == "disk":
        (tmp_path / "out").mkdir()
        return str(tmp_path / "out")
    service: Seaweedfs = request.getfixturevalue("s3")
    return service.location(f"{request.node.name}/out")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_staged(tmp_path_factory.mktemp("staged") / "data")


@pytest.fixture(scope="session")
def staged_files(staged: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the undisturbed run of all rounds."""
    return undisturbed(staged, tmp_path_factory.mktemp("undisturbed"), STAGED_ROUNDS)


@pytest.fixture(scope="session")
def first_files(staged_files: dict[str, bytes]) -> dict[str, bytes]:
    """Those of the first round alone."""
    return {path: data for path, data in staged_files.items() if f"/round={STAGED_ROUNDS[0]}/" in path}
