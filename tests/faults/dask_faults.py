"""A fault at the moment when a Dask worker begins a unit of one stage: a plugin of the workers.

Registered by the client, or loaded by workers that are started as processes (`distributed.worker.preload`), which then
read it from the environment. What was hit is noted in a folder before it is hit, one file a fault, so that a test can
prove that it happened; the files also count the faults over all workers.
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from distributed import Worker, WorkerPlugin

_PREFIX = "FAULT_"


@dataclass
class StageFault(WorkerPlugin):
    """Kills (SIGKILL) when a unit of a stage begins to run.

    Attributes:
        stage: name of the unit's function.
        folder: where the process ids of what was hit are noted.
        victim: `worker`, the one that begins the unit; `workers`, all of its cluster; `driver`, their parent; `none`,
            only the note; or the path of a file with a process id.
        times: how often.
    """

    stage: str
    folder: str
    victim: str = "worker"
    times: int = 1

    name = "stage-fault"
    idempotent = False

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """Called by the worker for each change of a unit's state."""
        if finish == "executing" and str(key).startswith(f"{self.stage}-") and self._is_next():
            for pid in self._pids():
                (Path(self.folder) / f"hit-{pid}").touch()
            for pid in self._pids():
                os.kill(pid, signal.SIGKILL)

    def _is_next(self) -> bool:
        for number in range(self.times):
            try:
                (Path(self.folder) / f"fault-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def _pids(self) -> list[int]:
        own = os.getpid()
        if self.victim == "worker":
            return [own]
        if self.victim == "driver":
            return [os.getppid()]
        if self.victim == "workers":
            children = psutil.Process(os.getppid()).children()
            others = [each.pid for each in children if "spawn_main" in " ".join(each.cmdline()) and each.pid != own]
            return [*others, own]
        return [] if self.victim == "none" else [int(Path(self.victim).read_text())]


def environment(stage: str, folder: Path, victim: str = "worker") -> dict[str, str]:
    """The variables by which workers that are started as processes load the fault."""
    own = {"STAGE": stage, "FOLDER": str(folder), "VICTIM": victim}
    preload = {"DASK_DISTRIBUTED__WORKER__PRELOAD": f"['{__name__}']"}
    return preload | {f"{_PREFIX}{name}": value for name, value in own.items()}


def hit(folder: Path) -> list[int]:
    """Process ids of what was killed."""
    return sorted(int(file.name.removeprefix("hit-")) for file in folder.glob("hit-*"))


def happened(folder: Path) -> bool:
    """Whether the stage was reached."""
    return any(folder.glob("fault-*"))


async def dask_setup(worker: Worker) -> None:
    """Called by Dask in a worker that preloads this module."""
    chosen = [os.environ.get(f"{_PREFIX}{name}", "") for name in ("STAGE", "FOLDER", "VICTIM")]
    if all(chosen):
        await worker.plugin_add(StageFault(*chosen))
