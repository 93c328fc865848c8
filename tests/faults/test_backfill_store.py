"""A backfill with chained stakes whose store fails or is full: the undisturbed bytes, or only what settled before.

Whatever was not published the same backfill publishes when the store is well again, with the same bytes. The rounds run
as they do in a command, on workers that reach the store through the proxy as well.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from flows.backfill import backfill
from tasks import store
from tasks.backfill_report import BackfillError
from tests.faults.full_disk import PAGE, fill
from tests.faults.published import check_nothing_half, check_published, contents, manifests, rounds_of
from tests.faults.s3_proxy import Fault, Proxy, misbehaving
from tests.faults.sessions import silent_session
from tests.faults.tiny import HISTORY, write_history
from tests.faults.tiny import backfill as backfill_in_process
from tests.services.seaweedfs import Seaweedfs

pytestmark = pytest.mark.faults

FIRST, SECOND = HISTORY.round_numbers
LEDGER, MANIFEST, SUBMISSION = "ledger/round={}/", r"manifests/round={}/1\.json", "rounds/{}/submissions/model_"
NONE = Fault("NONE", "", times=0)


class Place(NamedTuple):
    """A store behind a proxy, with a session that reaches it."""

    store: Seaweedfs
    proxy: Proxy
    data: str


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_history(tmp_path_factory.mktemp("history") / "data")


@pytest.fixture(scope="module")
def expected(history: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    backfill_in_process(history, str(out))
    return contents(store.open_store(out))


@pytest.fixture(scope="module")
def place(s3_service: Seaweedfs, history: str, api: Mapping[str, str]) -> Iterator[Place]:
    with misbehaving(s3_service.url, NONE) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_REQUEST_TIMEOUT", "1 second")
        store._connect.cache_clear()
        through = {**s3_service.environment, "AWS_ENDPOINT": proxy.url}
        with silent_session({**api, **through}, workers=2):
            yield Place(s3_service, proxy, s3_service.upload(Path(history), "history"))
    store._connect.cache_clear()


PASSING = {
    "500": Fault("GET", SUBMISSION.format(SECOND), "status", 500, times=3),
    "503": Fault("PUT", LEDGER.format(FIRST), "status", 503, times=3),
    "truncated": Fault("GET", SUBMISSION.format(FIRST), "truncated", times=3),
    "lost answer": Fault("PUT", MANIFEST.format(FIRST), "lost answer"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_backfill__gives_the_same_bytes_when_a_fault_of_the_store_passes(
    place: Place, expected: Mapping[str, bytes], request: pytest.FixtureRequest, fault: Fault
) -> None:
    out = place.store.location(f"{request.node.name}/out")
    place.proxy.misbehave(fault)
    backfill(place.data, out)
    assert len(place.proxy.faults) == fault.times
    check_published(out, expected)


LASTING = {
    "403": (Fault("PUT", MANIFEST.format(FIRST), "status", 403, times=None), set()),
    "500": (Fault("GET", SUBMISSION.format(SECOND), "status", 500, times=None), {FIRST}),
    "timeout": (Fault("PUT", MANIFEST.format(SECOND), "hang", times=None), {FIRST}),
    "truncated": (Fault("GET", LEDGER.format(FIRST), "cut off", times=None), {FIRST}),
}


@pytest.mark.parametrize(("fault", "settled"), LASTING.values(), ids=LASTING)
def test_backfill__ends_with_what_settled_before_a_fault_of_the_store_that_lasts(
    place: Place, expected: Mapping[str, bytes], request: pytest.FixtureRequest, fault: Fault, settled: set[int]
) -> None:
    """In the last case the first round's own ledger cannot be read, and nobody knows what the second one rests on."""
    out = place.store.location(f"{request.node.name}/out")
    place.proxy.misbehave(fault)
    message = refused(place.data, out)
    assert place.proxy.faults
    place.proxy.heal()
    assert place.store.url not in message
    assert rounds_of(manifests(out)) == settled
    backfill(place.data, out)
    check_published(out, expected)


def test_backfill__on_a_disk_that_gets_full_ends_with_what_settled_before(
    place: Place, history: str, disk: Path, expected: Mapping[str, bytes]
) -> None:
    out = disk / "out"
    out.mkdir()
    needed = sum(-(-len(data) // PAGE) for path, data in expected.items() if f"/round={FIRST}/" in path)
    ballast = fill(disk, needed + 1)
    assert os.strerror(errno.ENOSPC) in refused(history, str(out))
    assert check_nothing_half(out) == {FIRST}
    ballast.unlink()
    backfill(history, str(out))
    check_published(str(out), expected)


def refused(data: str, out: str) -> str:
    """Runs a backfill that a fault of the store stops; returns its one line."""
    with pytest.raises(BackfillError) as caught:
        backfill(data, out)
    assert caught.value.exit_code == 5, str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)
