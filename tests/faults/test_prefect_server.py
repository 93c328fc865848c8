"""The Prefect server, and the database behind it, killed in the middle of a run and started again."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.dask_faults import environment, happened
from tests.faults.processes import command, ended, is_gone, wait_until
from tests.faults.published import check_published
from tests.faults.staged import ROUNDS
from tests.services.postgres import Postgres, postgres
from tests.services.prefect_server import PrefectServer, prefect_server

pytestmark = pytest.mark.faults

NUMBER = ROUNDS[0]
AWAY_S = 3.0


@dataclass(frozen=True, slots=True)
class Parts:
    database: Postgres
    server: PrefectServer


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("prefect-on-postgres")
    with ExitStack() as stack:
        database = stack.enter_context(postgres(folder))
        yield Parts(database, stack.enter_context(prefect_server(folder, database.url)))


@pytest.mark.parametrize("part", ["server", "database"])
@pytest.mark.parametrize("stage", ["ingest_block", "pull_back"])
def test_resolve__goes_on_when_the_prefect_server_is_away_for_a_while(
    staged: str, first_files: Mapping[str, bytes], parts: Parts, tmp_path: Path, part: str, stage: str
) -> None:
    options = ["resolve", "--data", staged, "--out", str(tmp_path / "out"), "--round", str(NUMBER), "--workers", "2"]
    run_while_away(options, tmp_path, parts, part, stage)
    check_published(str(tmp_path / "out"), first_files)


@pytest.mark.parametrize("part", ["server", "database"])
def test_backfill__goes_on_when_the_prefect_server_is_away_for_a_while(
    staged: str, staged_files: Mapping[str, bytes], parts: Parts, tmp_path: Path, part: str
) -> None:
    options = ["backfill", "--data", staged, "--out", str(tmp_path / "out"), "--workers", "2"]
    run_while_away(options, tmp_path, parts, part, "price_bag")
    check_published(str(tmp_path / "out"), staged_files)


def run_while_away(options: list[str], folder: Path, parts: Parts, part: str, stage: str) -> None:
    """Runs a command; when it reaches a stage, a part of the service is killed, and started again a while later."""
    fault = folder / "fault"
    fault.mkdir()
    service = parts.server.service if part == "server" else parts.database.service
    run = command(options, folder / "run", {**parts.server.environment, **environment(stage, fault, "none")})
    pid = service.pid
    try:
        wait_until(lambda: run.process.poll() is not None or happened(fault), stage)
        assert run.process.poll() is None
        service.kill()
        assert is_gone(pid)
        assert run.process.poll() is None
        time.sleep(AWAY_S)
        service.start()
    except BaseException:
        run.kill()
        raise
    end = ended(run)
    assert end.code == 0, end.err
    parts.server.service.wait()
