"""Commands and resolvers as processes of their own, waited for with a limit, and what of them is left afterwards.

Every process that a run starts inherits a variable by which it is found again, whatever session it moves to.
"""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.services.service import ROOT, clean_environment

LIMIT_S = 180.0
"""More than any run of these tests takes on a busy machine; a test that reaches it has found a hang."""
_TOKEN = "FAULT_TEST_RUN"
_STORE = ("AWS_",)


@dataclass(frozen=True, slots=True)
class Run:
    """A process that was started, with whatever it starts."""

    process: subprocess.Popen[bytes]
    folder: Path
    token: str

    def descendants(self) -> list[psutil.Process]:
        """Every process of this run that lives, itself included."""
        return [process for process in psutil.process_iter() if _is_of(process, self.token)]

    def kill(self) -> None:
        """Ends all of it."""
        for process in self.descendants():
            process.kill()
        self.process.wait()


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: its exit code (negative: a signal) and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line that says why; fails where there is more than that, or a traceback."""
        lines = [line for line in self.err.strip().splitlines() if not _PROGRESS.fullmatch(line)]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("stakeweight: "), self.err
        return lines[0]

    def says(self, fragment: str) -> bool:
        return fragment in self.message


_PROGRESS = re.compile(r"[\w ]+ \d+/\d+.*")


def command(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], module: str = "flows.cli") -> Run:
    """Starts a command of `stakeweight` in a process group of its own, as a terminal does.

    Args:
        arguments: of the command.
        folder: for what it writes to its standard output and error; made if need be.
        environment: what is added to that of this process, such as Prefect's API.
        module: whose `main` is called; others than `flows.cli` put a fault around it.
    """
    return start([sys.executable, "-c", f"from {module} import main; main()", *arguments], folder, environment)


def start(program: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Run:
    """Starts a program; its standard output and error go to files in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    kept = clean_environment() | {name: value for name, value in os.environ.items() if name.startswith(_STORE)}
    kept.pop("PREFECT_LOGGING_LEVEL")  # set by the person, it would bring tracebacks of failed runs to the terminal
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            program,
            cwd=ROOT,
            env={**kept, **environment, _TOKEN: token},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    return Run(process, folder, token)


def ended(run: Run, limit_s: float = LIMIT_S) -> End:
    """Waits for a run, and for everything that it started, to end.

    Raises:
        AssertionError: it did not end within the limit, or left a process; both are ended then.
    """
    try:
        code = run.process.wait(timeout=limit_s)
        wait_until(lambda: not run.descendants(), "no process of the run is left", 30.0)
    except (subprocess.TimeoutExpired, AssertionError) as error:
        left = [" ".join(process.cmdline()) for process in run.descendants()]
        told = (run.folder / "err").read_text(errors="replace")
        raise AssertionError(f"{error}; left: {left}; it said: {told}") from error
    finally:
        run.kill()
    return End(code, *((run.folder / name).read_text(errors="replace") for name in ("out", "err")))


def wait_until(reached: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Waits with a limit.

    Raises:
        AssertionError: the limit passed.
    """
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether no process of this number lives."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_stopped(pid: int) -> bool:
    """Whether a process is held by SIGSTOP."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def interrupt(run: Run) -> None:
    """Ctrl-C: the signal reaches the whole process group."""
    os.killpg(run.process.pid, signal.SIGINT)


def _is_of(process: psutil.Process, token: str) -> bool:
    try:
        return process.environ().get(_TOKEN) == token and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
