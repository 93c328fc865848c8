"""A resolver that is stopped (SIGSTOP) right before its manifest, while another one publishes the round."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.store import open_store
from tests.faults.processes import command, ended, is_stopped, wait_until
from tests.faults.published import check_published, contents, manifests, resolve, undisturbed
from tests.faults.tiny import ROUNDS

pytestmark = pytest.mark.faults

NUMBER = ROUNDS[0]


@pytest.mark.parametrize("same", [True, False], ids=["same_inputs", "other_inputs"])
def test_resolve__that_was_stopped_before_its_manifest_finds_itself_the_loser(
    tiny: str, other: str, place: str, api: Mapping[str, str], tmp_path: Path, same: bool
) -> None:
    expected = undisturbed(tiny, tmp_path / "alone", [NUMBER])
    options = ["resolve", "--data", tiny if same else other, "--out", place, "--round", str(NUMBER), "--json"]
    stopped = command([*options, "--workers", "1"], tmp_path / "run", api, "tests.faults.hooked")
    try:
        wait_until(lambda: stopped.process.poll() is not None or is_stopped(stopped.process.pid), "it is stopped")
        assert is_stopped(stopped.process.pid)
        assert manifests(place) == []
        left = contents(open_store(place))
        assert left.keys() == expected.keys() - set(manifests_of(expected)) if same else len(left) == len(expected) - 1
        assert resolve(tiny, place, NUMBER)
        assert is_stopped(stopped.process.pid)
    finally:
        os.kill(stopped.process.pid, signal.SIGCONT)
    end = ended(stopped)
    assert contents(open_store(place)) == expected  # what it had written and nobody needs is gone
    check_published(place, expected)
    if same:
        assert end.code == 0, end.err
        assert json.loads(end.out)["published"] is False
    else:
        assert end.code == 4
        assert "published by another run with other inputs" in end.message


def manifests_of(files: Mapping[str, bytes]) -> list[str]:
    return [path for path in files if path.startswith("manifests/")]
