"""Verifying a round against its data: the same inputs, resolved again into another place, must give the same bytes.

First the inputs: each file that the manifest names must still have its SHA-256, or nothing that follows could agree.
Then two manifests stand side by side, the published one and the one of the second run, and every difference of facts,
inputs and tables is named. The second run writes the same revision number, because the ledger holds it. What a solver
found agrees to a tolerance; the second run went on with the published vectors then (`tasks.verify_solved`), so that
here everything is compared to the bit.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from tasks.contract import manifest_path
from tasks.findings import Findings, fact_mismatches, few, merge, mismatch
from tasks.publish import Manifest
from tasks.store import MissingFileError, Store
from tasks.verify_round import Revision
from tasks.verify_solved import SOLVED, tolerance_of_run, worst_entry

_READERS = 8
_NO_RESULT = ("versions", "tournament_sha256", "device_kind")
"""Facts that may differ where every number is the same."""


def verify_inputs(data: Store, manifest: Manifest) -> Findings:
    """Compares the SHA-256 of every input that a manifest names with the file as it is now.

    Args:
        data: the tournament's data.
        manifest: of the published revision.

    Raises:
        StorageError: the store failed.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip(manifest.inputs, pool.map(lambda path: _sha256(data, path), manifest.inputs), strict=True))
    problems = [
        mismatch(f"{data.url}/{path}", "SHA-256", stated, found[path])
        for path, stated in sorted(manifest.inputs.items())
        if stated != found[path]
    ]
    return Findings((f"{data.url}: SHA-256 of {len(found)} inputs",), few(problems))


def stand_in(scratch: Store, manifest: Manifest) -> None:
    """Puts an empty manifest of the revision before into an empty store, so that the second run gets the same number.

    Args:
        scratch: where the second run publishes.
        manifest: of the published revision.
    """
    if manifest.revision > 1:
        before = Manifest(manifest.round, manifest.revision - 1, manifest.supersedes, "none", {}, {}, {})
        scratch.create(manifest_path(before.round, before.revision), before.to_json())


def compare_runs(published: Revision, again: Revision) -> Findings:
    """Names every difference between a published revision and a second run of it.

    Args:
        published: as it lies in the store.
        again: what the same data give now.
    """
    stated, found = published.manifest, again.manifest
    where = manifest_path(stated.round, stated.revision)
    foreign = sorted(found.inputs.keys() - stated.inputs.keys())
    problems = list(few([mismatch(where, f"input {path}", "none", "a file that is read now") for path in foreign]))
    notes: list[str] = []
    for name in sorted(stated.facts.keys() | found.facts.keys()):
        lines = fact_mismatches(where, name, stated.facts.get(name), found.facts.get(name), "recomputed")
        (notes if name in _NO_RESULT else problems).extend(lines)
    same_engine = stated.facts.get("versions") == found.facts.get("versions")
    if same_engine and not foreign and stated.identity != found.identity:
        problems.append(mismatch(where, "identity", stated.identity, found.identity, "recomputed"))
    tables = [_table(published, again, name) for name in found.outputs]
    return merge([Findings((), tuple(problems), tuple(notes)), *tables])


def _table(published: Revision, again: Revision, name: str) -> Findings:
    """Compares one table by its SHA-256, and says where it differs."""
    stated, found = (side.manifest.outputs.get(name, {}).get("sha256") for side in (published, again))
    path = published.path(name) if name in published.manifest.outputs else name
    if stated == found:
        return Findings((f"{path}: SHA-256 is that of the recomputed table",))
    where = list(_differences(path, published.tables.get(name), again.tables[name], tolerance_of_run(again)))
    return Findings((), (mismatch(path, "SHA-256", stated, found, "recomputed"), *where))


def _differences(path: str, published: pa.Table | None, again: pa.Table, tolerance: float) -> Iterator[str]:
    """Yields, for each column that differs, its first differing row; of what a solver made, the row that differs most,
    and by how much.
    """
    if published is None or published.num_rows != again.num_rows:
        return
    for name in sorted(again.column_names, key=SOLVED.__contains__):
        stated, found = published.column(name), again.column(name)
        worst = worst_entry(stated, found, tolerance) if name in SOLVED else None
        row, how = worst or (_first_difference(stated, found), "")
        if row is not None:
            what = f"{name} of {_label(again.slice(row, 1).to_pylist()[0])}"
            yield mismatch(path, what, stated[row], found[row], "recomputed") + (f"; {how}" if how else "")


def _first_difference(stated: pa.ChunkedArray, found: pa.ChunkedArray) -> int | None:
    pairs = zip(stated.to_pylist(), found.to_pylist(), strict=True)
    return next((row for row, (a, b) in enumerate(pairs) if a != b), None)


def _label(row: Mapping[str, Any]) -> str:
    """Returns what a row is called."""
    return next((f"{row[name]}" for name in ("model", "id", "bag", "entry") if row.get(name) is not None), "a row")


def _sha256(store: Store, path: str) -> str:
    try:
        return store.sha256_of(path)
    except MissingFileError:
        return "no such file"
