"""Says whether a part of stakeweight answers, and ends a container whose part does not; the image has no curl.

    python -m infra.healthy [URL …]                     does one of them answer now; without an address: any part
    python -m infra.healthy --part dask-scheduler       waits for the answer, for as long as the part may be silent
    python -m infra.healthy --part dask-worker@007      the same of a unit of systemd, whose page is on port 18007
    python -m infra.healthy --part … --end              and if there is none, ends the container

Guards against a part that runs and does nothing, a process that hangs or was stopped. Kubernetes restarts one by
itself; systemd and Docker start again what has ended and only that, so `infra/systemd` restarts the unit and
`infra/compose.yaml` ends the container. Whoever ended something that is merely starting would never see it start: so a
part may be silent for minutes, and silence is measured in one go. Needs nothing but the standard library, because it is
asked every 15 s.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """A process that tells by HTTP that it is well.

    Attributes:
        url: where, on the machine or in the container where it runs.
        patience_s: how long it may be silent; a start takes some of it. The probes of infra/kubernetes allow the same.
    """

    url: str
    patience_s: float


PARTS = {
    "prefect-server": Part("http://127.0.0.1:4200/api/health", 120.0),
    "prefect-worker": Part("http://127.0.0.1:8080/health", 300.0),
    "dask-scheduler": Part("http://127.0.0.1:8787/health", 120.0),
    "dask-worker": Part("http://127.0.0.1:8788/health", 600.0),  # native code may hold it for minutes
}
LIMIT_S = 3.0
PAUSE_S = 1.0


def answers(url: str) -> bool:
    """Returns whether the address answers with a 2xx status within 3 s; a proxy of the environment is not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=LIMIT_S):
            return True
    except (OSError, ValueError):  # refused, too late, or another status; ValueError: no address
        return False


def part_of(name: str) -> Part:
    """Returns a part by its name; `dask-worker@007` is the one of several on a machine whose page is on port 18007.

    Raises:
        ValueError: there is no such part.
    """
    kind, _, instance = name.partition("@")
    if kind not in PARTS or (instance and (kind != "dask-worker" or not re.fullmatch(r"\d{3}", instance))):
        raise ValueError(f"{name!r}: must be one of {', '.join(PARTS)}, or dask-worker@ and three digits")
    return replace(PARTS[kind], url=f"http://127.0.0.1:18{instance}/health") if instance else PARTS[kind]


def answers_in_time(part: Part) -> bool:
    """Waits for an answer and returns whether it came before the part's patience was at its end."""
    deadline = time.monotonic() + part.patience_s
    while not answers(part.url):
        if time.monotonic() >= deadline:
            return False
        time.sleep(PAUSE_S)
    return True


def end_container() -> None:
    """Kills every other process of this container, also one that is stopped; its init ends with its only child.

    Signals to the init itself would not do: the kernel keeps SIGKILL from it, and a process that hangs does not hear
    what it passes on.

    Raises:
        PermissionError: this is no container of ours, but a machine on which others live too.
    """
    if os.getuid() == 0 or _owner_of_init() != os.getuid():
        raise PermissionError("the first process is not this user's: here is no container that may be ended")
    with contextlib.suppress(ProcessLookupError):  # nothing is left
        os.kill(-1, signal.SIGKILL)  # all but the first and this one


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code of a health check: 0 when there is an answer, 1 when there is none, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m infra.healthy", description="Does a part of stakeweight answer?")
    parser.add_argument("urls", nargs="*", metavar="URL")
    parser.add_argument("--part", metavar="NAME", help=f"wait for one of {', '.join(PARTS)}")
    parser.add_argument("--end", action="store_true", help="end this container when the part has not answered")
    options = parser.parse_args(arguments)
    if (options.end and options.part is None) or (options.part and options.urls):
        parser.error("--end is for a part, and a part is asked alone")
    if options.part is None:
        urls = options.urls or [part.url for part in PARTS.values()]
        return 0 if any(answers(url) for url in urls) else 1
    try:
        part = part_of(options.part)
    except ValueError as error:
        parser.error(str(error))
    if answers_in_time(part):
        return 0
    print(f"{options.part}: no answer from {part.url} in {part.patience_s:.0f} s", file=sys.stderr)
    if options.end:
        end_container()
    return 1


def _owner_of_init() -> int:
    """Returns the user of the first process that is seen from here."""
    return int(Path("/proc/1/status").read_bytes().partition(b"\nUid:")[2].split()[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
