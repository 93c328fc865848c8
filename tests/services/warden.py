"""Keeps one service for one test process, and ends with it, however that ends.

    python warden.py '{"command": […], "log": …, "pid_file": …, …}' < a pipe from the test process

Guards against what services do when a test run is killed: servers daemonise, worker processes get a session of their
own, and the next run meets their ports and locks. So the end of the pipe is the end of the service; the warden adopts
every orphan below it (Linux's child subreaper) and kills until nothing is left; and should the warden itself be
killed, the kernel kills the service. Like a systemd service, what is left of a dead one is killed before it starts
again, and with `restart_s` it always starts again.

Commands on the pipe, a line each: `stop` (a signal, and a limit), `start`. The file `pid_file` holds the process id of
the service, or 0.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

STARTED = "==== started by the warden ====\n"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LOOK_EVERY_S = 0.05
_libc = ctypes.CDLL(None)


class Warden:
    """One service: start it, look after it, end it.

    Attributes:
        pid: of the service; 0 while it is down.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self.pid = 0
        self._died = 0.0
        self._wanted = False

    def start(self) -> None:
        """Starts the service as the user asked for, with standard output and error in the log."""
        self._wanted = True
        user = {} if self._spec["user"] is None else {"user": self._spec["user"], "group": self._spec["group"]}
        with Path(self._spec["log"]).open("a", encoding="utf-8") as log:
            log.write(STARTED)
            log.flush()
            process = subprocess.Popen(
                self._spec["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # after the change of user
                **({**user, "extra_groups": []} if user else {}),
            )
        process.returncode = 0  # it is waited for below, with all others
        self._note(process.pid)

    def stop(self) -> None:
        """Asks the service to stop, waits for it within its limit, and leaves nothing of it."""
        self._wanted = False
        if self.pid:
            os.kill(self.pid, self._spec["stop_signal"])
        deadline = time.monotonic() + self._spec["stop_limit_s"]
        while self.pid and time.monotonic() < deadline:
            self.look()
            time.sleep(_LOOK_EVERY_S)
        self._kill_rest()
        self._note(0)

    def look(self) -> None:
        """Buries the dead, and starts the service again where that is wanted."""
        if self.pid and self._reap(self.pid):
            self._kill_rest()
            self._died = time.monotonic()
            self._note(0)
        restart_s = self._spec["restart_s"]
        if not self.pid and self._wanted and restart_s is not None and time.monotonic() >= self._died + restart_s:
            self.start()

    def _reap(self, service: int) -> bool:
        ended = False
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            ended = ended or pid == service

    def _kill_rest(self) -> None:
        while left := psutil.Process().children(recursive=True):
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            self._reap(self.pid)
            time.sleep(0.01)

    def _note(self, pid: int) -> None:
        self.pid = pid
        file = Path(self._spec["pid_file"])
        new = file.with_suffix(".new")
        new.write_text(str(pid))
        new.replace(file)


def main() -> None:
    """Runs until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    spec = json.loads(sys.argv[1])
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    warden = Warden(spec)
    try:
        warden.start()
        while True:
            warden.look()
            if not select.select([0], [], [], _LOOK_EVERY_S)[0]:
                continue
            for command in _commands():
                if command == "stop":
                    warden.stop()
                elif not warden.pid:
                    warden.start()
    finally:
        warden.stop()
        for pattern in map(Path, spec["remove"]):
            for path in pattern.parent.glob(pattern.name):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _commands() -> list[str]:
    """The commands that wait in the pipe; its end ends the warden."""
    text = os.read(0, 1024).decode()
    if not text:
        sys.exit(0)
    return text.split()


if __name__ == "__main__":
    main()
