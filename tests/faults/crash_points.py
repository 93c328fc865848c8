"""Kills a resolver at every I/O point in turn, and runs it again: a program of its own, started by `test_crash_points`.

    python -m tests.faults.crash_points DATA FOLDER

A point is a request to the store (a call of a method of `Store` that does not only call others), a line of
`tasks/durable.py`, that is, a step of creating a file, or the sync of a folder. They are counted by a trace function,
so nothing of it stands in the code under test. Each run is a process forked from this one, which has everything
imported and compiled: 0.2 s instead of 5 s. obstore refuses to work in the child of a process that
used it, so this process must never use it: it warms up with methods that ask the disk directly.

Writes a JSON line a point: which, how the process ended, the rounds published then, and how the second run ended.
"""

import gc
import inspect
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

from tasks import durable
from tasks import store as store_module
from tasks.store import Entry, Store
from tests.faults.published import check_nothing_half, check_published, files
from tests.faults.tiny import backfill

WORKERS = 2
LIMIT_S = 60
_DURABLE = durable.__file__
_COMPOSED = ("open", "open_entry", "read_with_hash", "sha256_of", "sha256_of_entry", "exists")
_CALLS: dict[CodeType, str] = {
    function.__code__: f"Store.{name}"
    for name, function in vars(Store).items()
    if inspect.isfunction(function) and not name.startswith("_") and name not in _COMPOSED
}
_CALLS[durable._sync_folder.__code__] = "durable._sync_folder"


class Points:
    """Counts the points of this process, and kills it at one of them.

    Args:
        at: the point to die at, from 1; 0 for none.
        told: file that gets the name of the point of death, or of all points where there is none.
    """

    def __init__(self, at: int, told: Path) -> None:
        self._at, self._told, self._next = at, told, itertools.count(1)
        self._names: list[str] = []

    def watch(self) -> None:
        """Begins to count, in this thread and those that it starts."""
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def finish(self) -> None:
        """Tells all points."""
        sys.settrace(None)
        threading.settrace(None)
        self._told.write_text("\n".join(self._names))

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if code in _CALLS:
            self._reach(_CALLS[code])
            return None
        return self._line if code.co_filename == _DURABLE else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self._reach(f"durable.{frame.f_code.co_name}, line {frame.f_lineno - frame.f_code.co_firstlineno}")
        return self._line

    def _reach(self, name: str) -> None:
        if next(self._next) == self._at:
            self._told.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)
        self._names.append(name)


def in_child(work: Callable[[], None]) -> int:
    """Runs in a forked process; returns its wait status. A child that hangs is ended by its own alarm."""
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_S)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def run(data: str, out: Path, points: Points) -> None:
    """The run under test."""
    out.mkdir(parents=True, exist_ok=True)
    points.watch()
    backfill(data, str(out))
    points.finish()


def crash_and_resume(data: str, folder: Path, expected: dict[str, bytes], point: int) -> dict[str, object]:
    """Dies at one point, looks at what is left, and runs again."""
    out, told = folder / f"out-{point}", folder / f"point-{point}"
    crashed = in_child(partial(run, data, out, Points(point, told)))
    published = sorted(check_nothing_half(out))
    left = sorted(files(out))

    def resume() -> None:
        backfill(data, str(out))
        check_published(str(out), expected)

    resumed = in_child(resume)
    return {
        "point": point,
        "name": told.read_text() if told.exists() else "",
        "signal": os.WTERMSIG(crashed) if os.WIFSIGNALED(crashed) else 0,
        "published": published,
        "left": left,
        "resumed": resumed,
        "whole": {path: data for path, data in files(out).items() if "#" not in path} == expected,
    }


def warm_up(data: str, out: Path) -> None:
    """Compiles and loads everything that a run needs, without obstore."""
    out.mkdir()
    with mock.patch.multiple(
        Store, read=_read, entry=_entry, read_range=_read_range, folders=_folders, list=_list, create=_create
    ):
        backfill(data, str(out))


def _read(self: Store, path: str) -> bytes:
    try:
        return (Path(self.url) / path).read_bytes()
    except FileNotFoundError as error:
        raise store_module.MissingFileError(path) from error


def _entry(self: Store, path: str) -> Entry:
    file = Path(self.url) / path
    if not file.is_file():
        raise store_module.MissingFileError(path)
    return Entry(path, file.stat().st_size, None)


def _read_range(self: Store, entry: Entry, start: int, end: int) -> bytes:
    return (Path(self.url) / entry.path).read_bytes()[start:end]


def _folders(self: Store, prefix: str = "") -> list[str]:
    return sorted(path.name for path in (Path(self.url) / prefix).glob("*") if path.is_dir())


def _list(self: Store, prefix: str = "") -> list[Entry]:
    found = sorted(path for path in (Path(self.url) / prefix).rglob("*") if path.is_file())
    return [Entry(path.relative_to(self.url).as_posix(), path.stat().st_size, None) for path in found]


def _create(self: Store, path: str, data: bytes) -> bool:
    return durable.create_file(Path(self.url), path, data)


def main() -> None:
    """Counts the points, then goes through them on two processes."""
    data, folder = sys.argv[1], Path(sys.argv[2])
    warm_up(data, folder / "warm")
    gc.freeze()  # a collection in a child would copy every page
    whole, told = folder / "whole", folder / "points"
    if in_child(lambda: run(data, whole, Points(0, told))) != 0:
        sys.exit("the undisturbed run failed")
    expected, count = files(whole), len(told.read_text().splitlines())

    def share(first: int) -> None:
        signal.alarm(0)
        with (folder / f"results-{first}.jsonl").open("w") as results:
            for point in range(first + 1, count + 1, WORKERS):
                print(json.dumps(crash_and_resume(data, folder, expected, point)), file=results, flush=True)

    workers = [threading.Thread(target=in_child, args=(partial(share, first),)) for first in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
