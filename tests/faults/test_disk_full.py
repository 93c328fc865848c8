"""The disk full at any moment of publishing: one line, nothing published; with space again, the undisturbed bytes.

A real small file system (tmpfs), filled up to what each case leaves free, for which it takes root. What an ordinary
user can have is a limit to the size of a file (EFBIG), which fails the same write.
"""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from scoring.errors import StorageError
from tests.faults.full_disk import PAGE, fill
from tests.faults.processes import command, ended
from tests.faults.published import check_published, files, manifests, resolve
from tests.faults.tiny import ROUNDS

pytestmark = pytest.mark.faults

NUMBER = ROUNDS[0]


@pytest.fixture
def expected(tiny_files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in tiny_files.items() if f"/round={NUMBER}/" in path}


def check_refused(tiny: str, out: Path, reason: int = errno.ENOSPC) -> None:
    with pytest.raises(StorageError) as caught:
        resolve(tiny, str(out), NUMBER)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert os.strerror(reason) in str(caught.value)
    assert str(out) in str(caught.value)
    assert manifests(str(out)) == []
    assert not [path for path in files(out) if "#" in path], "what was begun is cleared up"


def test_resolve__a_full_disk_at_any_file_stops_it_and_with_space_the_next_run_goes_on(
    tiny: str, disk: Path, tmp_path: Path, expected: Mapping[str, bytes]
) -> None:
    needed = sum(-(-len(data) // PAGE) for data in expected.values())
    written = set()
    for pages in range(needed):
        out = disk / "out"
        out.mkdir()
        ballast = fill(disk, pages)
        check_refused(tiny, out)
        written.add(len(files(out)))
        ballast.unlink()
        assert resolve(tiny, str(out), NUMBER)
        check_published(str(out), expected)
        subprocess.run(["rm", "-r", str(out)], check=True)
    assert written == set(range(len(expected))), "each file was the one for which there was no space"


def test_resolve__a_disk_without_inodes_stops_it_the_same_way(
    tiny: str, disk: Path, expected: Mapping[str, bytes]
) -> None:
    for left in range(3):
        out = disk / f"out-{left}"
        out.mkdir()
        crowd = disk / "crowd"
        crowd.mkdir()
        for number in range(os.statvfs(disk).f_favail - left):
            (crowd / str(number)).touch()
        check_refused(tiny, out)
        subprocess.run(["rm", "-r", str(crowd)], check=True)
        assert resolve(tiny, str(out), NUMBER)
        check_published(str(out), expected)
        subprocess.run(["rm", "-r", str(out)], check=True)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A limit of this process; Python ignores the signal that comes with it, so that the write fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_resolve__a_file_that_cannot_grow_stops_it_the_same_way(
    tiny: str, tmp_path: Path, expected: Mapping[str, bytes]
) -> None:
    sizes = sorted(len(data) for data in expected.values())
    for size in (0, *(each - 1 for each in sizes)):
        out = tmp_path / f"out-{size}"
        with files_no_larger_than(size):
            check_refused(tiny, out, errno.EFBIG)
        assert all(len(data) <= size for data in files(out).values())
        assert resolve(tiny, str(out), NUMBER)
        check_published(str(out), expected)


def test_resolve__command_on_a_full_disk_ends_with_the_code_of_the_store(
    tiny: str, disk: Path, tmp_path: Path, api: Mapping[str, str], expected: Mapping[str, bytes]
) -> None:
    out = disk / "out"
    options = ["resolve", "--data", tiny, "--out", str(out), "--round", str(NUMBER), "--workers", "1"]
    ballast = fill(disk, 2)
    first = ended(command(options, tmp_path / "first", api))
    assert first.code == 5, first.err
    assert os.strerror(errno.ENOSPC) in first.message
    assert manifests(str(out)) == []
    ballast.unlink()
    assert ended(command(options, tmp_path / "second", api)).code == 0
    check_published(str(out), expected)
