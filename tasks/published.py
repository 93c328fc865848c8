"""Reading what is published: the manifests say which files count, a listing of files does not.

A table's folder may hold files of superseded revisions, or of a run that lost a race and died before it cleared up.
"""

from pathlib import Path

from scoring.errors import StorageError
from tasks.publish import Manifest, latest_manifest
from tasks.store import MissingFileError, Store, open_store

_ROUND = "round="


def published_rounds(store: Store) -> list[int]:
    """Returns the numbers of the rounds that have a manifest, in order."""
    names = [name.removeprefix(_ROUND) for name in store.folders("manifests") if name.startswith(_ROUND)]
    return sorted(int(name) for name in names if name.isdecimal())


def tables(out: str | Path) -> dict[str, list[str]]:
    """Returns the files in force of every published table, one a round and in the order of rounds.

    Args:
        out: directory or URL of what is published.

    Returns:
        Table name → absolute paths or URLs, to be handed to pandas, dask, polars or duckdb. The round of a file is
        its folder, `round=<number>`.

    Raises:
        OperatorError: `out` is no directory and no URL of a store.
        StorageError: the store failed, or a manifest is damaged.
    """
    store = open_store(out)
    files: dict[str, list[str]] = {}
    for number in published_rounds(store):
        manifest = latest_manifest(store, number)
        for name, output in {} if manifest is None else manifest.outputs.items():
            files.setdefault(name, []).append(f"{store.url.rstrip('/')}/{output['path']}")
    return files


def verify_hashes(store: Store, manifest: Manifest) -> None:
    """Checks that every table of a revision is the file that its manifest names.

    Raises:
        StorageError: one is missing or has another SHA-256, or the store failed.
    """
    for output in manifest.outputs.values():
        path, stated = str(output.get("path")), output.get("sha256")
        try:
            found = store.sha256_of(path)
        except MissingFileError:
            found = "no such file"
        if found != stated:
            raise StorageError(
                f"{store.url}/{path}: SHA-256 must be {stated}, as its manifest says, found {found}; restore the file"
            )
