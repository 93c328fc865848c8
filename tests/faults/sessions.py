"""A session in the process of the tests: flows run at once in it, where a command takes 10 s to start."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from flows.progress import Progress
from flows.session import Session, open_session
from infra.settings import read_settings


@contextmanager
def silent_session(variables: Mapping[str, str], workers: int) -> Iterator[Session]:
    """Yields a session with a cluster of worker processes with nannies, which bring a killed one back.

    Args:
        variables: those of Prefect's API, and what else this process and the workers shall find.
        workers: how many.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with open_session(read_settings(workers=workers), Progress("silent")) as session:
            yield session
