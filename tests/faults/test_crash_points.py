"""A resolver killed at every single I/O point of a backfill of two rounds; the next run gives the undisturbed bytes."""

import json
import signal
import subprocess
import sys

import pytest

from tests.faults.tiny import HISTORY, write_history
from tests.services.service import ROOT, clean_environment

pytestmark = pytest.mark.faults

ROUNDS = tuple(HISTORY.round_numbers)
STEPS = (*(f"_write_synced, line {line}" for line in range(1, 5)), "_sync_folder")
REQUESTS = ("Store.read", "Store.list", "Store.entry", "Store.create")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What became of each point, in their order."""
    folder = tmp_path_factory.mktemp("crashes")
    data = write_history(folder / "data")
    command = [sys.executable, "-m", "tests.faults.crash_points", data, str(folder)]
    subprocess.run(command, cwd=ROOT, env=clean_environment(), timeout=600, check=True)
    lines = [line for file in folder.glob("results-*.jsonl") for line in file.read_text().splitlines()]
    found = sorted(map(json.loads, lines), key=lambda result: result["point"])
    names = (folder / "points").read_text().splitlines()
    assert [result["point"] for result in found] == list(range(1, len(names) + 1))
    return found


def test_crash_points__each_one_was_reached_and_was_deadly(results: list[dict]) -> None:
    assert {result["signal"] for result in results} == {signal.SIGKILL}
    assert all(result["name"] for result in results)


@pytest.mark.parametrize("name", [*STEPS, *REQUESTS])
def test_crash_points__are_at_every_kind_of_step(results: list[dict], name: str) -> None:
    files = 6 * len(ROUNDS)
    assert sum(name in result["name"] for result in results) >= (files if name in STEPS else len(ROUNDS))


def test_crash__leaves_nothing_half_and_the_next_run_gives_the_undisturbed_bytes(results: list[dict]) -> None:
    assert [result for result in results if result["resumed"] != 0 or not result["whole"]] == []


def test_crash__publishes_a_round_from_the_moment_its_manifest_has_its_name(results: list[dict]) -> None:
    """Which also says that the crashes fell on both sides of each publication."""
    published = [result["published"] for result in results]
    assert published == sorted(published)
    assert {tuple(rounds) for rounds in published} == {(), ROUNDS[:1], ROUNDS}
    for result in results:
        manifests = {path for path in result["left"] if path.startswith("manifests/") and "#" not in path}
        assert len(manifests) == len(result["published"])


def test_crash__leaves_unfinished_files_only_under_the_mark_that_no_listing_shows(results: list[dict]) -> None:
    unfinished = [[path for path in result["left"] if "#" in path] for result in results]
    assert max(map(len, unfinished)) == 1
    assert any(unfinished)
