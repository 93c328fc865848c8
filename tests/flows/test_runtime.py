import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.calls import Needs, UnitError
from flows.runtime import UnitRunner, finish, gather, grouped, map_units, run_unit
from flows.session import Session
from scoring.errors import OperatorError
from tests.flows import units


@pytest.fixture
def no_second_chance(session: Session) -> Iterator[None]:
    """Dask itself gives a unit up when it has killed one worker, instead of four."""

    def allow(failures: int) -> None:
        session.client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", failures))

    allow(0)
    yield
    allow(3)
    session.client.wait_for_workers(2, timeout=60)  # every killed worker comes back, see `lost-worker-timeout`


def _kill_a_worker(session: Session) -> None:
    os.kill(next(iter(session.client.run(os.getpid).values())), signal.SIGKILL)


def _task_runs() -> list[tuple[str, str]]:
    """Name and state of the latest task runs, as Prefect tells them."""
    with get_client(sync_client=True) as client:
        return [(run.name, run.state_name or "") for run in client.read_task_runs(limit=50)]


def test_run_unit__passes_results_nested_in_lists_and_dicts_from_worker_to_worker(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> float:
        sums = map_units(units.total, map_units(units.block, [1, 2, 3]))
        return run_unit(units.add, sums, {"extra": sums[0]}).small()

    assert compute() == 7e6


def test_run_unit__is_a_named_task_run_in_prefect(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> None:
        finish([*map_units(units.same, [1, 2]), run_unit(units.same, 3, name="third of the named")], "same")

    compute()
    deadline = time.monotonic() + 30
    expected = {("same 1/2", "Completed"), ("same 2/2", "Completed"), ("third of the named", "Completed")}
    while not expected <= set(_task_runs()):  # the API records in batches
        assert time.monotonic() < deadline, _task_runs()
        time.sleep(0.2)


def test_run_unit__leaves_nothing_on_the_workers_when_its_units_are_dropped(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> list[float]:
        return gather(map_units(units.total, map_units(units.block, range(4))), "total")

    assert compute() == [0.0, 1e6, 2e6, 3e6]
    gc.collect()
    deadline = time.monotonic() + 10
    while any(keys for keys in session.client.has_what().values()):
        assert time.monotonic() < deadline, session.client.has_what()
        time.sleep(0.1)


def test_run_unit__never_reuses_the_result_of_an_equal_call(session: Session, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"

    @flow(task_runner=UnitRunner())
    def compute() -> None:
        for _ in range(2):
            with pytest.raises(OperatorError):
                run_unit(units.fail, "same", str(attempts)).wait()

    compute()
    assert attempts.read_text() == "xx"


def test_run_unit__raises_the_error_of_the_unit_itself_and_does_not_retry(session: Session, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"

    @flow(task_runner=UnitRunner())
    def compute() -> None:
        failed = run_unit(units.fail, "round 7: no stakes", str(attempts))
        gather([run_unit(units.add, [failed], {})], "builds on it")

    with pytest.raises(OperatorError, match="round 7: no stakes"):
        compute()
    assert attempts.read_text() == "x"


def test_run_unit__is_retried_by_prefect_when_its_worker_is_killed(
    session: Session, tmp_path: Path, no_second_chance: None
) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> str:
        return run_unit(units.die_once, str(tmp_path / "marker")).small()

    assert compute() == "alive"


def test_run_unit__says_which_unit_killed_its_workers(session: Session, no_second_chance: None) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> None:
        run_unit(units.die, name="bag 3/20", needs=Needs(retries=0)).wait()

    with pytest.raises(UnitError, match="bag 3/20"):
        compute()


def test_run_unit__gives_up_after_the_limit_of_silence(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> None:
        run_unit(units.sleep, 60.0, needs=Needs(limit_s=1.0)).wait()

    with pytest.raises(UnitError, match="sleep: neither it nor another unit finished for 1 s"):
        compute()
    session.client.restart()  # native code cannot be stopped: the worker would sleep on


def test_run_unit__waiting_behind_other_units_is_not_silence(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> list[int]:
        return gather(map_units(units.slow_same, range(20), needs=Needs(limit_s=2.0)), "slow")  # 3 s on two workers

    assert compute() == list(range(20))


def test_run_unit__names_the_resource_that_no_worker_has(session: Session) -> None:
    def limit(seconds: float) -> None:
        session.client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "no_workers_timeout", seconds))

    @flow(task_runner=UnitRunner())
    def compute() -> None:
        run_unit(units.same, 1, name="bag 1/20", needs=Needs(resources={"GPU": 1})).wait()

    limit(0.5)
    try:
        with pytest.raises(UnitError, match=r"bag 1/20: no worker has \{'GPU': 1\}"):
            compute()
    finally:
        limit(60.0)


def test_run_unit__needs_a_flow_with_the_unit_runner(session: Session) -> None:
    @flow
    def compute() -> None:
        run_unit(units.same, 1, needs=Needs(retries=0)).wait()

    with pytest.raises(RuntimeError, match="UnitRunner"):
        compute()


def test_run_unit__does_not_bring_prefect_to_the_workers(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> bool:
        return run_unit(units.imports_prefect).small()

    assert compute() is False


def test_finish__result_is_the_same_when_a_worker_is_killed_while_units_run(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> list[int]:
        running = map_units(units.slow_same, range(20))
        time.sleep(0.8)
        _kill_a_worker(session)
        return gather(running, "slow")

    assert compute() == list(range(20))


def test_finish__lost_results_are_made_again_when_a_later_unit_needs_them(session: Session) -> None:
    @flow(task_runner=UnitRunner())
    def compute() -> list[float]:
        blocks = finish(map_units(units.block, range(6)), "blocks")
        _kill_a_worker(session)
        return gather(map_units(units.total, blocks), "totals")

    assert compute() == [number * 1e6 for number in range(6)]


def test_grouped__runs_its_units_without_telling_prefect(session: Session) -> None:
    def number(value: int) -> float:
        return gather(map_units(units.total, map_units(units.block, [value, value])), "total")[1]

    @flow(task_runner=UnitRunner())
    def compute() -> list[float]:
        one_round = grouped(number, run_name="grouped round {value}")
        runs = [one_round.submit(value) for value in range(3)]
        return [run.result() for run in runs]

    assert compute() == [0.0, 1e6, 2e6]


def test_grouped__is_retried_as_a_whole_when_workers_are_lost(
    session: Session, tmp_path: Path, no_second_chance: None
) -> None:
    def group(marker: str) -> str:
        return run_unit(units.die_once, marker).small()

    @flow(task_runner=UnitRunner())
    def compute() -> str:
        return grouped(group).submit(str(tmp_path / "marker")).result()

    assert compute() == "alive"


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_open_session__leaves_no_process_when_the_run_is_ended_by_a_signal(
    session: Session, how: int, code: int
) -> None:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("endless_run.py"))]
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True) as run:
        children: list[psutil.Process] = []
        try:
            if run.stdout is not None:
                run.stdout.readline()
            children = psutil.Process(run.pid).children(recursive=True)
            commands = [process.cmdline() for process in children]
            if how == signal.SIGINT:
                os.killpg(run.pid, how)  # as a terminal does
            else:
                run.send_signal(how)
            run.wait(timeout=240)
            left = psutil.wait_procs(children, timeout=20)[1]
        finally:
            for process in children:
                if process.is_running():
                    process.kill()
            run.kill()
    assert (run.returncode, left) == (code, [])
    names = [" ".join(name) for name in commands]
    assert any("uvicorn" in name for name in names)  # the API was there, and so were two workers
    assert sum("spawn_main" in name for name in names) == 2
