"""Units of work for the tests of the runtime; workers import them from here."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scoring.errors import OperatorError


def block(number: int) -> np.ndarray:
    """8 MB that should never come to the driver."""
    return np.full(1_000_000, float(number))


def total(values: np.ndarray) -> float:
    return float(values.sum())


def add(values: Sequence[float], extra: Mapping[str, float]) -> float:
    return sum(values) + sum(extra.values())


def same(value: int) -> int:
    return value


def slow_same(value: int) -> int:
    time.sleep(0.3)
    return value


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def fail(message: str, attempts: str) -> None:
    """Notes the attempt, then raises an error of our own."""
    with Path(attempts).open("a") as file:
        file.write("x")
    raise OperatorError(message)


def die_once(marker: str) -> str:
    """Kills its worker the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def imports_prefect() -> bool:
    import sys

    return "prefect" in sys.modules
