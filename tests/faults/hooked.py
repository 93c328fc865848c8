"""The command with one thing around it that no signal from outside could time: a stop right before money or manifest.

FAULT_STOP=manifests/ python -c 'from tests.faults.hooked import main; main()' resolve …
"""

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from tasks import conclude
from tasks.store import Store

SETTLES = "settles"


def main() -> None:
    """Runs a command, which stops itself (SIGSTOP) once, when it is about to create a file whose path begins so.

    Where FAULT_STOP is `settles`, that is the moment when a round is about to be settled.
    """
    waiting = [os.environ.get("FAULT_STOP", "manifests/")]

    def stop(reached: Callable[[str], bool]) -> None:
        if waiting and reached(waiting[0]):
            waiting.clear()
            os.kill(os.getpid(), signal.SIGSTOP)

    def create(before: Any, self: Store, path: str, data: bytes) -> bool:
        stop(path.startswith)
        return bool(before(self, path, data))

    def settle(before: Any, *arguments: Any) -> Any:
        stop(SETTLES.__eq__)
        return before(*arguments)

    before = Store.create
    Store.create = lambda *arguments: create(before, *arguments)
    conclude.settle = partial(settle, conclude.settle)
    from flows.cli import main as command

    command()
