"""The one place that wraps a unit of work as a Prefect task.

A unit is a plain function of `tasks`. It runs as one Dask future on a worker, while a Prefect task in a thread of the
driver waits for it: Prefect sees every unit (state, retries, times), Dask moves every byte.

    blocks = map_units(rank_block, files, universe)       # Prefect tasks `rank_block 1/120` …
    sums = map_units(partial_sums, blocks, weights)       # ranks go from worker to worker
    meta_model = run_unit(merge, sums).small()            # only this comes to the driver

Within a `grouped` function, e.g. a round of a backfill, the whole group is one Prefect task, its units Dask futures.

Guards against what was measured with Prefect tasks inside Dask workers: 123 ms of overhead a unit, a unit that stays
RUNNING for ever when its worker is killed, and results pulled through the driver. Prefect never serialises, hashes or
keeps a result: it lies on a worker until the last `Unit` that leads to it is dropped.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, ParamSpec, TypeVar

from distributed import Future, KilledWorker
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from flows.calls import Call, Needs, UnitError, why_lost
from flows.progress import Progress
from flows.session import current_session

P = ParamSpec("P")
T = TypeVar("T")

_SILENT = Progress("silent")
# Failures of the place, not of the unit: the same unit may succeed on another worker.
_LOST_WORKER = (KilledWorker, CommClosedError, CancelledError)


class UnitRunner(ThreadPoolTaskRunner[Any]):
    """Prefect's thread pool, which on its way out also cancels what its threads wait for.

    Every flow that runs units is declared with it: `@flow(task_runner=UnitRunner())`. With the plain pool Ctrl-C would
    only act when all units that were handed in are done.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(max_workers)
        self._lock = threading.Lock()
        self._stopped = False
        self._futures: weakref.WeakSet[Future] = weakref.WeakSet()

    def watch(self, future: Future) -> None:
        """Has the future cancelled when the flow ends before it.

        Raises:
            CancelledError: the flow has ended already.
        """
        with self._lock:
            self._futures.add(future)
        if self._stopped:
            future.cancel()
            raise CancelledError(future.key)

    def cancel_all(self) -> None:
        """Called by Prefect when the flow ends, in whatever way."""
        with self._lock:
            self._stopped = True
            unfinished = [future for future in self._futures if future.status == "pending"]
        if unfinished:
            with suppress(Exception):  # the session may be closed already, and its futures with it
                current_session().client.cancel(unfinished)
        super().cancel_all()

    def may_retry(self, error: object) -> bool:
        """Whether a unit, or a group of units, that ended with this error should be tried again."""
        cause = error.__cause__ if isinstance(error, UnitError) else error
        return isinstance(cause, _LOST_WORKER) and not self._stopped


@dataclass(slots=True)
class _Ticket:
    """What Prefect gets instead of the call. It keeps the arguments of every task until the process ends, and with
    them the results would stay on the workers; so the ticket lets go of the call when it is done.
    """

    name: str
    call: Call | None


@dataclass(frozen=True, slots=True, eq=False)
class Unit(Generic[T]):
    """A unit that was handed in. Pass it to a later unit in place of its result, which stays on its worker."""

    _call: Call
    _task_run: PrefectFuture[None] | None

    def wait(self) -> None:
        """Returns when the result lies on a worker.

        Raises:
            StakeweightError: what this unit, or an earlier one that it builds on, raised on its worker.
            UnitError: its workers died again and again, none has what it needs, or the limit of silence passed.
        """
        for earlier in _units_in(self._call.args):
            earlier.wait()
        try:
            if self._task_run is None:
                self._call.wait()
            else:
                self._task_run.result()
        except NoValidWorkerError as error:
            raise UnitError(f"{self._call.name}: no worker has {dict(self._call.needs.resources)}") from error
        except _LOST_WORKER as error:
            raise UnitError(f"{self._call.name}: {why_lost(error)}") from error

    def small(self, limit_s: float = 60.0) -> T:
        """Waits, then brings the result to the driver; for small results only.

        Raises:
            UnitError: it did not arrive within the limit, or was lost on the way.
        """
        self.wait()
        try:
            result: T = self._call.future.result(timeout=limit_s)
        except TimeoutError as error:
            raise UnitError(f"{self._call.name}: its result did not arrive within {limit_s:g} s") from error
        except _LOST_WORKER as error:
            raise UnitError(f"{self._call.name}: its result was {why_lost(error)}") from error
        return result


def run_unit(function: Callable[..., T], *args: Any, name: str = "", needs: Needs | None = None) -> Unit[T]:
    """Hands one unit to the cluster and returns at once.

    Args:
        function: a function of `tasks`; idempotent, since Dask runs it again when a worker dies.
        args: its arguments: small values, units, and lists, tuples or dicts of these.
        name: how Prefect and messages call this unit; default: the function's name.
        needs: what it asks of the place where it runs.
    """
    call = Call(name or function.__name__, function, args, needs or Needs())
    if TaskRunContext.get() is not None:
        _submit(call)
        return Unit(call, None)
    earlier = [unit._task_run for unit in _units_in(args) if unit._task_run is not None]
    prefect_task = _prefect_task(function.__name__, call.needs.retries)
    return Unit(call, prefect_task.submit(quote(_Ticket(call.name, call)), wait_for=earlier))


def map_units(
    function: Callable[..., T], items: Iterable[Any], *shared: Any, needs: Needs | None = None
) -> list[Unit[T]]:
    """Hands in `function(item, *shared)` for every item; their names count from 1."""
    items = list(items)
    names = (f"{function.__name__} {number}/{len(items)}" for number in range(1, len(items) + 1))
    return [run_unit(function, item, *shared, name=name, needs=needs) for item, name in zip(items, names, strict=True)]


def finish(units: Sequence[Unit[T]], title: str) -> Sequence[Unit[T]]:
    """Waits for all units and shows how many are done, unless in a group; the first failure ends the waiting."""
    progress = current_session().progress if TaskRunContext.get() is None else _SILENT
    with progress.stage(title, len(units)) as count:
        for unit in _as_finished(units):
            unit.wait()
            count()
    return units


def gather(units: Sequence[Unit[T]], title: str) -> list[T]:
    """`finish`, then the small result of every unit, in the order of the units."""
    return [unit.small() for unit in finish(units, title)]


def grouped(function: Callable[P, T], run_name: str | None = None) -> Task[P, T]:
    """Makes a function that runs units into one Prefect task, which is tried again when its workers are lost.

    Args:
        function: runs in a thread of the driver; its arguments and its result are small.
        run_name: how Prefect calls one run, with the arguments in braces, e.g. `round {number}`.
    """
    return Task(function, task_run_name=run_name, retries=Needs().retries, **_TASK_OPTIONS)


@cache  # 1 ms a Prefect task, which reads and hashes the source of its function
def _prefect_task(stage: str, retries: int) -> Task[..., None]:
    return Task(_carry_out, name=stage, task_run_name="{ticket.name}", retries=retries, **_TASK_OPTIONS)


def _carry_out(ticket: _Ticket) -> None:
    """Runs in a thread of the driver."""
    if ticket.call is not None:
        _submit(ticket.call)
        ticket.call.wait()
        ticket.call = None


def _may_retry(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return _runner().may_retry(state.data)


_TASK_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retry_delay_seconds": [1.0, 5.0],
    "retry_condition_fn": _may_retry,
}


def _submit(call: Call) -> None:
    _runner().watch(call.submit([_with_futures(value) for value in call.args]))


def _runner() -> UnitRunner:
    context = FlowRunContext.get()
    if context is None or not isinstance(context.task_runner, UnitRunner):
        raise RuntimeError("units run in a flow declared with `@flow(task_runner=UnitRunner())` only")
    return context.task_runner


def _as_finished(units: Sequence[Unit[T]]) -> Iterator[Unit[T]]:
    """In the order in which they finish as far as Prefect sees them, then the others in their own order."""
    by_task_run = {unit._task_run: unit for unit in units if unit._task_run is not None}
    for task_run in as_completed(list(by_task_run)):
        yield by_task_run[task_run]
    yield from (unit for unit in units if unit._task_run is None)


def _units_in(value: Any) -> Iterator[Unit[Any]]:
    if isinstance(value, Unit):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _units_in(item)
    elif isinstance(value, dict):
        yield from _units_in(list(value.values()))


def _with_futures(value: Any) -> Any:
    """The same argument with Dask's futures in place of units."""
    if isinstance(value, Unit):
        if value._task_run is not None:
            value.wait()
        return value._call.future
    if isinstance(value, list | tuple):
        return type(value)(_with_futures(item) for item in value)
    if isinstance(value, dict):
        return {key: _with_futures(item) for key, item in value.items()}
    return value
