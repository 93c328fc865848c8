"""Reading what is published: the manifests say which files count, a listing of files does not.

A table's folder may hold files of superseded revisions, or of a run that lost a race and died before it cleared up.
"""

from pathlib import Path

from tasks.publish import latest_manifest
from tasks.store import Store, open_store

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
