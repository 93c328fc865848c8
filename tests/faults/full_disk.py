"""A real small file system (tmpfs), filled up to what a test leaves free."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096
SIZE = 64 * PAGE
INODES = 100


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """Mounts a file system of 256 KiB at a new folder. Root must be able to; nobody else can, and the test is skipped.

    What a file that cannot grow does to a run shows everywhere, by a limit of the process (`RLIMIT_FSIZE`).
    """
    where.mkdir()
    options = f"size={SIZE},nr_inodes={INODES}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0 and os.geteuid() == 0:
        pytest.fail(f"root could not mount a file system, the full disk stays untested: {mounted.stderr.strip()}")
    if mounted.returncode != 0:
        pytest.skip(f"a file system can be mounted by root only: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def fill(disk: Path, pages: int) -> Path:
    """Leaves so many pages free; returns the file that takes the others."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(bytes((free.f_bavail - pages) * free.f_bsize))
    assert os.statvfs(disk).f_bavail == pages
    return ballast
