"""One call on its way to a worker: submitted to Dask, waited for with a limit, never pulled to the driver.

Guards against the wait without an end: a worker that hangs in native code, or a unit that no worker can take.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from distributed import Future, wait
from distributed.client import ClosedClientError

from flows.session import current_session
from scoring.errors import StakeweightError


class UnitError(StakeweightError):
    """The workers could not finish a unit; nothing was published."""


class LostSchedulerError(UnitError):
    """The way to the workers is gone for good: no other unit of this run can succeed."""


def why_lost(error: BaseException) -> str:
    """Returns in one line why a unit was lost; of a cancelled future Dask makes a list of many lines."""
    if isinstance(error, CancelledError):
        return "lost with the scheduler, or with all workers that had what it needs; run the same command again"
    return " ".join(str(error).split())


@dataclass(frozen=True, slots=True)
class Needs:
    """What a unit asks of the place where it runs.

    Attributes:
        resources: amounts of the workers' resources, e.g. `{"GPU": 1}`.
        retries: how often it is tried again when its worker is lost; its own errors are never retried.
        limit_s: seconds of silence after which it counts as hung, that is, seconds in which neither it nor any other
            unit finished (so that queueing behind others is no failure); None: the settings' `unit_limit_s`.
    """

    resources: Mapping[str, float] = field(default_factory=dict)
    retries: int = 2
    limit_s: float | None = None


class Call:
    """A function, its arguments, and the Dask future of its latest attempt.

    Attributes:
        name: how messages call it.
        args: empty once the call is done, which lets the results that it was made from leave their workers.
    """

    __slots__ = ("_function", "_future", "args", "name", "needs")

    def __init__(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], needs: Needs) -> None:
        self.name = name
        self.args = args
        self.needs = needs
        self._function = function
        self._future: Future | None = None

    @property
    def future(self) -> Future:
        """Dask's future.

        Raises:
            RuntimeError: the call was not submitted yet.
        """
        if self._future is None:
            raise RuntimeError(f"{self.name} was not submitted yet")
        return self._future

    def submit(self, args: Sequence[Any]) -> Future:
        """Hands the call to Dask, with Dask's futures among the arguments.

        Raises:
            LostSchedulerError: the scheduler did not come back within Dask's own limit.
        """
        try:
            self._future = current_session().client.submit(
                self._function,
                *args,
                key=f"{self._function.__name__}-{uuid.uuid4().hex}",  # never the result of an earlier, equal call
                resources=dict(self.needs.resources) or None,
                pure=False,
            )
        except ClosedClientError as error:
            raise LostSchedulerError(f"{self.name}: the scheduler is gone; run the same command again") from error
        return self._future

    def wait(self) -> None:
        """Returns when the result lies on a worker; raises what the function raised there.

        Raises:
            UnitError: the limit of silence passed.
        """
        session = current_session()
        limit_s = self.needs.limit_s or session.settings.unit_limit_s
        started = time.monotonic()
        while self.future.status == "pending":
            remaining_s = max(started, session.last_finished) + limit_s - time.monotonic()
            if remaining_s <= 0:
                self.future.cancel()
                raise UnitError(f"{self.name}: neither it nor another unit finished for {limit_s:g} s")
            with suppress(TimeoutError):
                wait(self.future, timeout=remaining_s)
        if self.future.status != "finished":
            self.future.result(timeout=limit_s)
        session.last_finished = time.monotonic()
        self.args = ()
