"""An object store that fails in the middle: passing faults change no byte, lasting ones end the run with one line.

SeaweedFS, with a proxy of our own in front that spoils chosen requests. The request timeout, 5 minutes for a large
table on a slow line, is a second here.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from scoring.errors import StorageError
from tasks import store
from tests.faults.processes import command, ended
from tests.faults.published import check_published, manifests, resolve
from tests.faults.s3_proxy import Fault, Proxy, misbehaving
from tests.faults.tiny import ROUNDS
from tests.services.seaweedfs import Seaweedfs

pytestmark = pytest.mark.faults

NUMBER = ROUNDS[0]
LIMIT_S = 60.0
SUBMISSION = r"submissions/model_b\.parquet"
TABLE = rf"ledger/round={NUMBER}/"
MANIFEST = rf"manifests/round={NUMBER}/1\.json"
REQUESTS = {"submission": ("GET", SUBMISSION), "table": ("PUT", TABLE), "manifest": ("PUT", MANIFEST)}


@pytest.fixture(scope="module")
def data(s3_service: Seaweedfs, tiny: str) -> str:
    return s3_service.upload(Path(tiny), "tiny")


@pytest.fixture
def out(s3: Seaweedfs, request: pytest.FixtureRequest) -> str:
    return s3.location(f"{request.node.name}/out")


@pytest.fixture
def expected(tiny_files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in tiny_files.items() if f"/round={NUMBER}/" in path}


@contextmanager
def through_proxy(s3: Seaweedfs, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Has this process, and those that it starts, reach the store through the proxy; afterwards directly again."""
    with misbehaving(s3.url, fault) as proxy, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT", proxy.url)
        patch.setattr(store, "_REQUEST_TIMEOUT", "1 second")
        store._connect.cache_clear()
        yield proxy
    store._connect.cache_clear()


PASSING = {
    "500": {"how": "status", "status": 500, "times": 3},
    "503": {"how": "status", "status": 503, "times": 3},
    "broken": {"how": "lost request", "times": 2},
}


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("fault", PASSING)
def test_resolve__gives_the_same_bytes_when_a_fault_of_the_store_passes(
    s3: Seaweedfs,
    data: str,
    out: str,
    expected: Mapping[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    fault: str,
) -> None:
    chosen = Fault(*REQUESTS[what], **PASSING[fault])
    with through_proxy(s3, chosen, monkeypatch) as proxy:
        assert resolve(data, out, NUMBER)
        assert len(proxy.faults) == chosen.times
    check_published(out, expected)


@pytest.mark.parametrize("how", ["truncated", "hang"])
def test_resolve__reads_a_submission_again_when_its_body_breaks_off_or_does_not_come(
    s3: Seaweedfs, data: str, out: str, expected: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with through_proxy(s3, Fault("GET", SUBMISSION, how), monkeypatch) as proxy:
        assert resolve(data, out, NUMBER)
        assert len(proxy.faults) == 1
        assert sum("model_b" in line for line in proxy.log) > 1
    check_published(out, expected)


def test_resolve__lists_again_when_a_listing_breaks_off(
    s3: Seaweedfs, data: str, out: str, expected: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with through_proxy(s3, Fault("GET", "list-type=2.*submissions", "truncated", times=2), monkeypatch) as proxy:
        assert resolve(data, out, NUMBER)
        assert len(proxy.faults) == 2
    check_published(out, expected)


@pytest.mark.parametrize("what", ["table", "manifest"])
def test_resolve__is_the_winner_when_the_store_did_it_and_the_answer_was_lost(
    s3: Seaweedfs, data: str, out: str, expected: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The request is sent again and finds the name taken, by the same bytes."""
    with through_proxy(s3, Fault(*REQUESTS[what], how="lost answer"), monkeypatch) as proxy:
        resolve(data, out, NUMBER)
        assert len(proxy.faults) == 1
        assert proxy.log.count(proxy.faults[0]) == 2
    check_published(out, expected)


LASTING = {
    "500": {"how": "status", "status": 500},
    "503": {"how": "status", "status": 503},
    "403": {"how": "status", "status": 403},
    "broken": {"how": "lost request"},
    "hang": {"how": "hang"},
    "cut off": {"how": "cut off"},
}
_OF_READING = ("hang", "cut off")
"""A manifest that is not answered has a test of its own below, and the answer to a PUT has no body."""
ALL_LASTING = [(what, how) for how in LASTING for what in REQUESTS if what == "submission" or how not in _OF_READING]


@pytest.mark.parametrize(("what", "fault"), ALL_LASTING)
def test_resolve__stops_with_one_line_when_a_fault_of_the_store_lasts(
    s3: Seaweedfs,
    data: str,
    out: str,
    expected: Mapping[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    fault: str,
) -> None:
    begun = time.monotonic()
    chosen = Fault(*REQUESTS[what], **LASTING[fault], times=None)
    with through_proxy(s3, chosen, monkeypatch) as proxy:
        with pytest.raises(StorageError) as caught:
            resolve(data, out, NUMBER)
        assert proxy.faults
        assert manifests(out) == []
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert out in str(caught.value) or data in str(caught.value)
    assert time.monotonic() - begun < LIMIT_S
    assert resolve(data, out, NUMBER)
    check_published(out, expected)


@pytest.mark.parametrize("how", ["hang", "hang after"])
def test_resolve__stops_when_the_store_does_not_answer_a_manifest_and_the_next_run_finds_out(
    s3: Seaweedfs, data: str, out: str, expected: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A put-if-absent without an answer is not sent again: whether it published, the next run sees."""
    with through_proxy(s3, Fault("PUT", MANIFEST, how, times=None), monkeypatch) as proxy:
        with pytest.raises(StorageError) as caught:
            resolve(data, out, NUMBER)
        assert len(proxy.faults) == 1
    assert "\n" not in str(caught.value)
    assert resolve(data, out, NUMBER) == (how == "hang")
    check_published(out, expected)


def test_resolve__command_ends_with_the_code_of_the_store(
    s3: Seaweedfs,
    data: str,
    out: str,
    expected: Mapping[str, bytes],
    api: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole command, with workers that read through the proxy; it heals, and the same command gives the bytes."""
    options = ["resolve", "--data", data, "--out", out, "--round", str(NUMBER), "--workers", "1"]
    with through_proxy(s3, Fault("PUT", MANIFEST, times=None), monkeypatch) as proxy:
        first = ended(command(options, tmp_path / "first", api))
        assert first.code == 5
        assert "503 Service Unavailable" in first.message
        assert proxy.faults
        assert manifests(out) == []
        proxy.heal()
        assert ended(command(options, tmp_path / "second", api)).code == 0
    check_published(out, expected)


def test_resolve__command_reads_submissions_again_when_their_bodies_break_off(
    s3: Seaweedfs,
    data: str,
    out: str,
    expected: Mapping[str, bytes],
    api: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["resolve", "--data", data, "--out", out, "--round", str(NUMBER), "--workers", "1"]
    with through_proxy(s3, Fault("GET", SUBMISSION, "truncated", times=2), monkeypatch) as proxy:
        assert ended(command(options, tmp_path / "run", api)).code == 0
        assert len(proxy.faults) == 2
    check_published(out, expected)
