"""Verifying the files of a round: what its manifests state against what lies in the store.

Every revision counts, the newest and those that it supersedes: their chain must be whole, each table must be the very
file that its manifest names, and its columns those of the contract. A file that is wrong is still read where it can be,
so that the checks of its content (`tasks.verify_tables`) can say what was changed in it. Files that no manifest names
are strays: of a run that died, or that lost a race. They count for nothing, so they are told and are no problem.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import OperatorError
from tasks.contract import TABLES, manifest_path
from tasks.findings import Findings, few, merge, mismatch
from tasks.publish import Manifest, latest_manifest, read_manifest
from tasks.published import published_rounds
from tasks.store import MissingFileError, Store
from tasks.submission_file import first_line

_NAME_DIGITS = 16
_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a round as it lies in the store.

    Attributes:
        manifest: its manifest.
        tables: those of its tables that could be read and have the contract's columns, by name.
    """

    manifest: Manifest
    tables: Mapping[str, pa.Table]

    def path(self, name: str) -> str:
        """Returns where a table lies, for messages."""
        return str(self.manifest.outputs[name]["path"])


def read_revisions(store: Store, number: int) -> tuple[list[Revision], Findings]:
    """Reads all revisions of a round, the oldest first, and checks their files.

    Raises:
        OperatorError: the round is not published.
        StorageError: the store failed, or a manifest is damaged.
    """
    newest = latest_manifest(store, number)
    if newest is None:
        known = sorted(published_rounds(store), key=lambda each: abs(each - number))[:_NEAREST]
        hint = f"the nearest are {', '.join(map(str, sorted(known)))}" if known else "no round is"
        raise OperatorError(f"{store.url}: round {number} is not published; {hint}")
    manifests, findings = _chain(store, newest)
    revisions = []
    for manifest in manifests:
        tables, found = _tables(store, manifest)
        revisions.append(Revision(manifest, tables))
        findings = merge([findings, found])
    return revisions, merge([findings, _strays(store, number, manifests)])


def _chain(store: Store, newest: Manifest) -> tuple[list[Manifest], Findings]:
    """Returns the manifests of all revisions; each must be there and supersede the one before it."""
    manifests, problems = [], []
    for revision in range(1, newest.revision + 1):
        where = manifest_path(newest.round, revision)
        try:
            manifest = newest if revision == newest.revision else read_manifest(store, newest.round, revision)
        except MissingFileError:
            problems.append(mismatch(where, "manifest", f"superseded by revision {revision + 1}", "no such file"))
            continue
        if manifest.supersedes != (revision - 1 or None):
            problems.append(mismatch(where, "supersedes", manifest.supersedes, revision - 1 or None, "must be"))
        manifests.append(manifest)
    checked = f"round {newest.round}: {newest.revision} revision{'s' * (newest.revision > 1)}, each with its manifest"
    return manifests, Findings((checked,), tuple(problems))


def _tables(store: Store, manifest: Manifest) -> tuple[dict[str, pa.Table], Findings]:
    """Reads the tables of a revision and checks them against their manifest and the contract."""
    where = manifest_path(manifest.round, manifest.revision)
    missing = [name for name in TABLES if name not in manifest.outputs]
    problems = [mismatch(where, "outputs", "no table " + name, "every manifest has one", "but") for name in missing]
    tables, checked = {}, []
    for name, output in manifest.outputs.items():
        data, faults = _file(store, manifest, name, output)
        if data is not None:
            table, damage = _read(name, str(output["path"]), data, output.get("rows"))
            faults += damage
            if table is not None and name in TABLES:
                tables[name] = table
            checked.append(f"{output['path']}: SHA-256, name, bytes, rows, columns")
        problems += faults
    return tables, Findings(tuple(checked), tuple(problems))


def _file(store: Store, manifest: Manifest, name: str, output: Mapping[str, Any]) -> tuple[bytes | None, list[str]]:
    """Reads one published file; what its manifest and its own name say of its bytes must be so."""
    where, path = manifest_path(manifest.round, manifest.revision), str(output.get("path"))
    form = rf"{re.escape(name)}/round={manifest.round}/{manifest.revision}-([0-9a-f]{{{_NAME_DIGITS}}})\.parquet"
    named = re.fullmatch(form, path)
    if named is None:
        must = f"{name}/round={manifest.round}/{manifest.revision}-<{_NAME_DIGITS} hex digits>.parquet"
        return None, [mismatch(where, f"path of {name}", path, must, "must be")]
    try:
        data = store.read(path)
    except MissingFileError:
        return None, [mismatch(path, "file", f"published by {where}", "no such file")]
    sha256 = hashlib.sha256(data).hexdigest()
    found = {"SHA-256": (output.get("sha256"), sha256), "bytes": (output.get("bytes"), len(data))}
    found["SHA-256 in the file's name"] = (named[1], sha256[:_NAME_DIGITS])
    return data, [mismatch(path, what, *pair) for what, pair in found.items() if pair[0] != pair[1]]


def _read(name: str, path: str, data: bytes, stated_rows: object) -> tuple[pa.Table | None, list[str]]:
    """Returns a table, None where it cannot be one of the contract, and what is wrong with it."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        return None, [mismatch(path, "file", "a parquet table", first_line(error))]
    problems = []
    if table.num_rows != stated_rows:
        problems.append(mismatch(path, "rows", stated_rows, table.num_rows))
    contract = TABLES.get(name)
    if contract is None or table.schema.equals(contract):
        return table, problems
    return None, [*problems, *_columns(path, contract, table.schema)]


def _columns(path: str, contract: pa.Schema, found: pa.Schema) -> tuple[str, ...]:
    """Says which columns differ from the contract's."""
    names = dict.fromkeys([*contract.names, *found.names])
    pairs = [(name, _column(contract, name), _column(found, name)) for name in names]
    faults = [mismatch(path, f"column {name}", a, b) for name, a, b in pairs if a != b]
    order = mismatch(path, "columns", contract.names, found.names)
    return few(faults or [order])


def _column(schema: pa.Schema, name: str) -> str:
    """Returns what a schema says of one column."""
    fields = [schema.field(at) for at in schema.get_all_field_indices(name)]
    return " and ".join(f"{each.type}{'' if each.nullable else ' not null'}" for each in fields) or "nothing"


def _strays(store: Store, number: int, manifests: list[Manifest]) -> Findings:
    """Tells the files in the round's folders that no manifest names."""
    named = {manifest_path(number, manifest.revision) for manifest in manifests}
    named |= {str(output.get("path")) for manifest in manifests for output in manifest.outputs.values()}
    folders = dict.fromkeys([*TABLES, *(name for manifest in manifests for name in manifest.outputs), "manifests"])
    paths = [entry.path for folder in folders for entry in store.list(f"{folder}/round={number}")]
    strays = [f"{path}: no manifest names this file; nobody reads it" for path in paths if path not in named]
    return Findings(notes=few(strays))
