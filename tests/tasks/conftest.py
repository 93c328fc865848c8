"""Two tournaments of eight weekly rounds, and what they publish when every round is resolved by itself."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.tasks.chained import (
    SPEC,
    closes_at,
    deposits,
    live,
    models,
    resolves_at,
    write_chained,
    write_weekly,
)

HOUR = timedelta(hours=1)


@pytest.fixture(scope="session")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snapshots."""
    return write_weekly(tmp_path_factory.mktemp("weekly") / "data")


@pytest.fixture(scope="session")
def separate(weekly: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snapshots' rounds, each resolved by itself, the last first."""
    return live(weekly, tmp_path_factory.mktemp("separate") / "out", numbers=reversed(SPEC.round_numbers))


@pytest.fixture(scope="session")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deposit a model, then deposits and withdrawals among closes and settlements."""
    first, second = models()[:2]
    moves = [
        (closes_at(2), first, "50"),
        (closes_at(2) + HOUR, second, "-60"),
        (resolves_at(1), first, "-90"),
        (closes_at(6) - HOUR, second, "3.000000000000000007"),
    ]
    return write_chained(tmp_path_factory.mktemp("chained") / "data", rows=[*deposits(), *moves])


@pytest.fixture(scope="session")
def weekly_run(chained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chained rounds, resolved live week after week."""
    return live(chained, tmp_path_factory.mktemp("live") / "out")
