"""The whole of `resolve`: 10 000 models of 6 000 stocks on two cores, and how much of it is not work.

Overhead is what is left of the time between an open session and the published round when the work is taken out: the
seconds that units ran on the two workers, divided by two, and the seconds of planning and concluding in the driver.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flows.resolve as stages
from benchmarks.machine import CORES, print_table
from flows.progress import Progress
from flows.resolve import resolve
from flows.session import open_session
from infra.settings import read_settings
from scoring.synthetic import SyntheticSpec
from tasks.synthetic import write_tournament

SPEC = SyntheticSpec(rounds=1, models=10_000, stocks=6_000, seed=3)
SMALL = SyntheticSpec(rounds=1, models=600, stocks=300, seed=4)
DRIVER_STAGES = ("plan_round", "weigh", "conclude")


class Clock:
    """Adds up the seconds of the stages that run in the driver."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in DRIVER_STAGES:
            setattr(stages, name, self._timed(getattr(stages, name)))

    def _timed(self, stage: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            result = stage(*args)
            self.seconds += time.perf_counter() - start
            return result

        return run


def main() -> None:
    """Prints the table of resolve."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_tournament(root / "small", SMALL)
        write_tournament(root / "large", SPEC)
        clock = Clock()
        start = time.perf_counter()
        with open_session(read_settings(workers=CORES), Progress("silent")) as session:
            opened = time.perf_counter()
            resolve(str(root / "small"), str(root / "out-small"), 1)  # warm: kernels are loaded once a process
            clock.seconds = 0.0
            session.client.get_task_stream()  # the scheduler records from the first question on
            begun = time.time()
            resolve(str(root / "large"), str(root / "out"), 1)
            whole = time.time() - begun
            stream = session.client.get_task_stream(start=begun)
    worked = (
        sum(s["stop"] - s["start"] for task in stream for s in task["startstops"] if s["action"] == "compute") / CORES
    )
    rows = [
        ["starting Prefect and Dask", f"{opened - start:.1f} s", "at most 15 s"],
        ["the round", f"{whole:.1f} s", "with the start at most 60 s"],
        ["of it on the workers, divided by their number", f"{worked:.1f} s", ""],
        ["of it in the driver", f"{clock.seconds:.1f} s", ""],
        ["of it overhead", f"{whole - worked - clock.seconds:.1f} s", "at most 5 s"],
    ]
    print_table("Resolve, 10 000 models × 6 000 stocks", ["", "seconds", "aim"], rows)


if __name__ == "__main__":
    main()
