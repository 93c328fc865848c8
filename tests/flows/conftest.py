"""One Prefect API and one cluster for all tests of flows: they take 10 s to start on an empty machine."""

from collections.abc import Iterator

import pytest

from flows.progress import Progress
from flows.session import Session, open_session
from infra.settings import read_settings


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests that share the session on one xdist worker (`--dist loadgroup`)."""
    for item in items:
        if "session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("session"))


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A real embedded API with an empty database, and a real cluster of two worker processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.delenv("PREFECT_API_URL", raising=False)
        with open_session(read_settings(workers=2), Progress("silent")) as session:
            yield session
