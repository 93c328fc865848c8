"""A call with a limit, whatever the library behind it does about time.

The resolution of a name has no limit, a store's own is minutes, and a cluster that starts on other machines may wait
for a line that never comes. So the call runs in a thread of its own, which is left behind when its time is over.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from infra.errors import InfraError

T = TypeVar("T")


class Question(Generic[T]):
    """A call that runs in a thread of its own from now on, and never keeps the process from ending.

    Args:
        ask: the call.
        limit_s: seconds, counted from now, for which the answer is waited for.
    """

    __slots__ = ("_answers", "_ends", "_limit_s")

    def __init__(self, ask: Callable[[], T], limit_s: float) -> None:
        self._answers: SimpleQueue[Callable[[], T]] = SimpleQueue()
        self._limit_s, self._ends = limit_s, time.monotonic() + limit_s
        threading.Thread(target=self._run, args=(ask,), daemon=True).start()

    def answer(self) -> T:
        """Returns what the call returned, or raises what it raised; to be called once.

        Raises:
            InfraError: it did not end within the limit.
        """
        try:
            answer = self._answers.get(timeout=max(self._ends - time.monotonic(), 0.001))
        except Empty:
            raise InfraError(f"no answer within {self._limit_s:g} s") from None
        return answer()

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            found = ask()
        except BaseException as error:
            self._answers.put(partial(_raise, error))
        else:
            self._answers.put(lambda: found)


def _raise(error: BaseException) -> Any:
    raise error
