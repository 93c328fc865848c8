"""Workers killed in every stage of a round: the undisturbed bytes all the same, or one line and nothing published."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from flows.calls import UnitError
from flows.resolve import resolve
from flows.session import Session
from tests.faults.dask_faults import StageFault, hit
from tests.faults.processes import is_gone
from tests.faults.published import check_published, manifests
from tests.faults.sessions import silent_session
from tests.faults.staged import ROUNDS, STAGES

pytestmark = pytest.mark.faults

WORKERS = 2
NUMBER = ROUNDS[0]


@pytest.fixture(scope="module")
def session(api: Mapping[str, str]) -> Iterator[Session]:
    with silent_session(api, WORKERS) as session:
        yield session


@pytest.fixture
def fault(session: Session, tmp_path: Path) -> Iterator[Path]:
    """The folder where a registered fault notes what it hit; afterwards it is gone and both workers are back."""
    folder = tmp_path / "fault"
    folder.mkdir()
    yield folder
    session.client.unregister_worker_plugin(StageFault.name)
    session.client.wait_for_workers(WORKERS, timeout=60)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("victim", ["worker", "workers"])
def test_resolve__gives_the_same_bytes_when_workers_die_in_a_stage(
    session: Session,
    staged: str,
    first_files: Mapping[str, bytes],
    fault: Path,
    tmp_path: Path,
    stage: str,
    victim: str,
) -> None:
    session.client.register_plugin(StageFault(stage, str(fault), victim))
    out = tmp_path / "out"
    resolve(staged, str(out), NUMBER)
    assert len(hit(fault)) == (1 if victim == "worker" else WORKERS)
    assert all(is_gone(pid) for pid in hit(fault))
    check_published(str(out), first_files)


def test_resolve__stops_with_one_line_when_a_unit_kills_every_worker(
    session: Session, staged: str, first_files: Mapping[str, bytes], fault: Path, tmp_path: Path
) -> None:
    def allow(failures: int) -> None:
        session.client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", failures))

    session.client.register_plugin(StageFault("vectors_of_round", str(fault), times=100))
    out = tmp_path / "out"
    allow(1)  # of four, so that the test does not wait for twelve workers to come back
    try:
        with pytest.raises(UnitError) as caught:
            resolve(staged, str(out), NUMBER)
    finally:
        allow(3)
        session.client.unregister_worker_plugin(StageFault.name)
    assert "\n" not in str(caught.value)
    assert "vectors_of_round" in str(caught.value)
    assert len(hit(fault)) > WORKERS
    assert manifests(str(out)) == []
    session.client.register_plugin(StageFault("nothing", str(fault)))
    resolve(staged, str(out), NUMBER)
    check_published(str(out), first_files)
