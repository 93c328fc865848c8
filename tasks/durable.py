"""Creating a local file that survives a power cut: the bytes are on the disk before the name exists.

obstore's own local put gives the file its name first and syncs nothing, so that a power cut could leave an
empty file under a published name, which nobody may overwrite.
"""

import os
import secrets
from pathlib import Path


def create_file(root: Path, path: str, data: bytes) -> bool:
    """Creates the file `path` below the folder `root`: whole, durable, and never over another one.

    A synced file is given its name by a hard link, which fails where the name is taken. Until then its own
    name ends in `#<digits>`, obstore's mark of an unfinished file, which no listing shows.

    Returns:
        True if this call created the file, False if the name was taken.

    Raises:
        OSError: the disk refused.
        ValueError: the path leads out of the root.
    """
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"the path must stay inside the store, found {path!r}")
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}#{secrets.randbits(64)}")
    try:
        _write_synced(unfinished, data)
        os.link(unfinished, target)
    except FileExistsError:
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    for folder in target.parents:
        _sync_folder(folder)
        if folder == root:
            break
    return True


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
