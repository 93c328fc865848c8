"""How far each stage of a run is: bars on a terminal, plain lines in a pipe, nothing on request.

It writes to standard error, because standard output belongs to the result (`--json`). Lines appear once a tenth of a
stage, so that a log of 10 000 units stays readable.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Literal, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

Style = Literal["bars", "lines", "silent"]
_LINES_PER_STAGE = 10


class Progress:
    """Shows stages; safe to use from several threads, as several rounds of a backfill do.

    Args:
        style: `bars`, `lines` or `silent`; None takes bars on a terminal and lines elsewhere.
        stream: where to write; standard error by default.
    """

    def __init__(self, style: Style | None = None, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._style: Style = style or ("bars" if self._stream.isatty() else "lines")
        texts = TextColumn("{task.description:<28}"), TextColumn("{task.fields[pace]}")
        columns = (texts[0], BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), texts[1])
        self._bars = Bars(*columns, console=Console(file=self._stream))

    def __enter__(self) -> Self:
        if self._style == "bars":
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._style == "bars":
            self._bars.stop()

    @contextmanager
    def stage(self, title: str, total: int, *, rate: bool = False) -> Iterator[Callable[[], None]]:
        """Yields the function that counts one finished unit of the stage.

        Args:
            title: what is counted.
            total: how many there are.
            rate: also show how many are done a minute, and the time left.
        """
        pace = _pace(total) if rate else _no_pace
        if self._style == "bars":
            bar = self._bars.add_task(title, total=total, pace="")
            yield _counter(lambda done: self._bars.update(bar, completed=done, pace=pace(done)))
        elif self._style == "lines":
            yield _counter(partial(self._line, title, total, pace))
        else:
            yield lambda: None

    def note(self, text: str) -> None:
        """Shows a line that somebody should know of."""
        if self._style == "bars":
            self._bars.console.print(text, highlight=False, markup=False)
        elif self._style == "lines":
            print(text, file=self._stream, flush=True)

    def _line(self, title: str, total: int, pace: Callable[[int], str], done: int) -> None:
        if done % max(1, total // _LINES_PER_STAGE) == 0 or done == total:
            print(f"{title} {done}/{total} {pace(done)}".rstrip(), file=self._stream, flush=True)


def _counter(show: Callable[[int], None]) -> Callable[[], None]:
    lock = threading.Lock()
    done = 0

    def count() -> None:
        nonlocal done
        with lock:
            done += 1
            show(done)

    return count


def _no_pace(_done: int) -> str:
    return ""


def _pace(total: int) -> Callable[[int], str]:
    """Returns what says how many are done a minute since now, and when all will be."""
    started = time.monotonic()

    def pace(done: int) -> str:
        seconds = max(time.monotonic() - started, 1e-9)
        left = timedelta(seconds=round(seconds / done * (total - done)))
        return f"{60 * done / seconds:.1f} a minute, {left} left"

    return pace
