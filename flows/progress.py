"""How far each stage of a run is: bars on a terminal, plain lines in a pipe, nothing on request.

It writes to standard error, because standard output belongs to the result (`--json`). Lines appear once a tenth of a
stage, so that a log of 10 000 units stays readable.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, console=Console(file=self._stream))

    def __enter__(self) -> Self:
        if self._style == "bars":
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._style == "bars":
            self._bars.stop()

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Yields the function that counts one finished unit of the stage."""
        if self._style == "bars":
            bar = self._bars.add_task(title, total=total)
            yield lambda: self._bars.advance(bar)
        elif self._style == "lines":
            yield _line_counter(title, total, self._stream)
        else:
            yield lambda: None


def _line_counter(title: str, total: int, stream: TextIO) -> Callable[[], None]:
    lock = threading.Lock()
    every = max(1, total // _LINES_PER_STAGE)
    done = 0

    def count() -> None:
        nonlocal done
        with lock:
            done += 1
            if done % every == 0 or done == total:
                print(f"{title} {done}/{total}", file=stream, flush=True)

    return count
