"""What a machine has: memory, room in a folder, a CUDA device, secrets that everybody may read. For the doctor's facts.

Looked at from within, as a run would meet it: a folder is tried by writing to it, because permission bits tell root
nothing, and memory is the container's where that is less than the machine's. Nothing that is written stays.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CUDA_LIMIT_S = 50.0
"""For importing torch in a process of its own: 3 s on a quiet machine, ten times that from a cold network disk."""

_CUDA = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
_NO_CGROUP_LIMIT = 1 << 60
_TRIAL_BYTES = 4096
_LONGEST_SETTINGS_FILE = 1 << 20
_SECRET = re.compile(
    r"""^\s*(?:export\s+)?["']?[\w.]*(?:secret|password|api_key|access_key|auth_string|token)\w*["']?\s*[=:]\s*["']?\w""",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Folder:
    """A place that a run writes to.

    Attributes:
        path: the folder; where it does not exist yet, the nearest one above it was looked at.
        free_bytes: what may still be written.
        free_files: how many files may still be made; None where the file system has no such limit.
        error: why nothing can be written; empty if it can.
    """

    path: str
    free_bytes: int = 0
    free_files: int | None = None
    error: str = ""


def look_at_folder(folder: Path) -> Folder:
    """Says how much can be written to a folder, by writing a file that has no name and so cannot stay behind."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
        inodes = os.statvfs(place)
        free_bytes = shutil.disk_usage(place).free
    except OSError as error:
        return Folder(str(folder), error=error.strerror or str(error))
    return Folder(str(folder), free_bytes, inodes.f_favail if inodes.f_files else None)


def readable_secrets(files: Iterable[Path]) -> tuple[str, ...]:
    """Returns those files that hold a secret and that every user of the machine may read; never what they hold."""
    found = []
    for file in files:
        try:
            if file.is_file() and file.stat().st_mode & 0o004:
                with file.open(encoding="utf-8", errors="replace") as text:
                    if _SECRET.search(text.read(_LONGEST_SETTINGS_FILE)):
                        found.append(str(file))
        except OSError:  # what this user cannot read is not read by every user
            continue
    return tuple(found)


def memory() -> tuple[int, int]:
    """Returns memory and free memory in bytes: the machine's, or the container's where that is less."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = free = page * os.sysconf("SC_PHYS_PAGES")
    available = re.search(r"^MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    if available is not None:
        free = int(available[1]) * 1024
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        text = _text(f"/sys/fs/cgroup/{limit}").strip()
        if text.isdigit() and int(text) < min(total, _NO_CGROUP_LIMIT):
            total = int(text)
            free = min(free, total - int(_text(f"/sys/fs/cgroup/{used}").strip() or 0))
    return total, free


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def cuda_device() -> str:
    """Asks torch in a process of its own: a worker that imported torch would keep 200 MB of it for ever."""
    try:
        asked = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CUDA], capture_output=True, text=True, timeout=CUDA_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = asked.stdout.strip().splitlines()
    return lines[-1] if asked.returncode == 0 and lines else ""
