"""What every benchmark needs: the machine's name, a clock, the memory in use, two threads, a printed table."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S")

CORES = 2


def describe() -> str:
    """Returns processor, cores and Python of this machine on one line."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].split(":")[1].strip() if names else platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def seconds(work: Callable[[], Any], times: int = 3) -> float:
    """Returns the shortest of some runs: what the work takes when nobody disturbs it."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def resident(key: str) -> int:
    """Returns this process's resident memory in bytes: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def on_all_cores(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Maps over items on two threads; kernels release the interpreter's lock."""
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(function, items))


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table that can be pasted into the README."""
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
