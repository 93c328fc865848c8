"""The scheduler of a running cluster killed in the middle, and the same cluster used again afterwards.

Scheduler and workers are processes of their own over TLS, supervised as in production: what is killed comes back.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.dask_faults import environment, hit
from tests.faults.processes import End, command, ended, is_gone
from tests.faults.published import check_nothing_half, check_published
from tests.faults.staged import ROUNDS
from tests.services.dask_cluster import dask_cluster

pytestmark = pytest.mark.faults

NUMBER = ROUNDS[0]


class First(NamedTuple):
    """How the run whose scheduler was killed ended, and which rounds were published then."""

    end: End
    published: set[int]


@pytest.mark.parametrize("stage", ["ingest_block", "price_bag", "score"])
def test_resolve__when_the_scheduler_dies_ends_or_goes_on_and_the_next_run_gives_the_bytes(
    staged: str, first_files: Mapping[str, bytes], api: Mapping[str, str], tmp_path: Path, stage: str
) -> None:
    options = ["resolve", "--data", staged, "--out", str(tmp_path / "out"), "--round", str(NUMBER)]
    first = killed_and_resumed(options, tmp_path, api, stage)
    if first.end.code != 0:
        assert first.published == set()
        assert first.end.message
    check_published(str(tmp_path / "out"), first_files)


def test_backfill__when_the_scheduler_dies_ends_or_goes_on_and_the_next_run_gives_the_bytes(
    staged: str, staged_files: Mapping[str, bytes], api: Mapping[str, str], tmp_path: Path
) -> None:
    """Two rounds are in flight when it dies. Those that the first run published the second one leaves as they are."""
    options = ["backfill", "--data", staged, "--out", str(tmp_path / "out"), "--json"]
    first = killed_and_resumed(options, tmp_path, api, "pull_back")
    assert "Traceback" not in first.end.err
    assert (first.end.code == 0) == (first.published == set(ROUNDS))
    found = {each["number"]: each["status"] for each in json.loads(first.end.out)["rounds"]}
    assert first.published == {number for number, status in found.items() if status == "published"}
    check_published(str(tmp_path / "out"), staged_files)


def killed_and_resumed(options: list[str], folder: Path, api: Mapping[str, str], stage: str) -> First:
    """Runs a command while the scheduler is killed in a stage, then again, which must succeed; tells of the first."""
    fault, out, services = (folder / name for name in ("fault", "out", "services"))
    for each in (fault, out, services):
        each.mkdir()
    faulty = environment(stage, fault, str(services / "dask-scheduler.pid"))
    with dask_cluster(services, workers=1, environment=faulty) as cluster:
        everything, options = {**api, **cluster.environment}, [*options, "--scheduler", cluster.address]
        end = ended(command(options, folder / "first", everything))
        assert len(hit(fault)) == 1
        assert is_gone(hit(fault)[0])
        first = First(end, check_nothing_half(out))
        second = ended(command(options, folder / "second", everything))
    assert second.code == 0, second.err
    return first
