"""One small history for all tests of the lab, and what the weekly run publishes of it."""

from pathlib import Path

import pytest

from tasks.synthetic import write_tournament
from tests.tasks.chained import SPEC as CHAINED
from tests.tasks.chained import live, write_chained
from tests.tasks.lab.history import RULES, SPEC, resolve


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six rounds; nobody changes them."""
    place = tmp_path_factory.mktemp("lab") / "data"
    write_tournament(place, SPEC, rules=RULES)
    return place


@pytest.fixture(scope="session")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them resolved, one by one."""
    place = tmp_path_factory.mktemp("lab") / "out"
    for number in SPEC.round_numbers:
        resolve(data, place, number)
    return place


@pytest.fixture(scope="session")
def chained_history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight rounds whose stakes follow from deposits and earlier rounds, and what was published week after week."""
    place = tmp_path_factory.mktemp("lab-chained")
    data = write_chained(place / "data", CHAINED)
    return data, live(data, place / "out", CHAINED)
