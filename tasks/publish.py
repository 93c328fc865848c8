"""Publishing once: content-named files first, the manifest last and only if nobody else wrote it.

The manifest of a round's revision is the only truth: a table that no manifest names was never published. It is created
with put-if-absent, so of two resolvers that race exactly one publishes; the other removes what it wrote and reports
either "already published" (same inputs) or a conflict. The failures guarded against: a ledger that two runs paid, a
half-published round that a reader takes for whole, and a correction that hides what it corrects.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from scoring.errors import ConflictError, StorageError
from tasks.contract import content_path, encode, manifest_path
from tasks.store import MissingFileError, Store

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one revision of a round consists of.

    Attributes:
        round, revision: which one; revisions count from 1.
        supersedes: the revision that this one corrects; None for the first.
        identity: digest of inputs, rules and the engine's version: equal means that the work is the same.
        facts: what else a reader needs: tournament, rules, seed, versions, device kind, bag chunk size, totals.
        inputs: SHA-256 of every input by path, as read.
        outputs: path, SHA-256, rows and bytes of every table by its name.
        ours: whether this very call published it; no part of it, and False where it was read.
    """

    round: int
    revision: int
    supersedes: int | None
    identity: str
    facts: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, Any]]
    ours: bool = field(default=False, compare=False)

    def to_json(self) -> bytes:
        """Returns the manifest's bytes: sorted keys, so that equal manifests are equal files."""
        content = {
            "format": FORMAT,
            "round": self.round,
            "revision": self.revision,
            "supersedes": self.supersedes,
            "identity": self.identity,
            **self.facts,
            "inputs": dict(self.inputs),
            "outputs": {name: dict(output) for name, output in self.outputs.items()},
        }
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read_manifest(store: Store, number: int, revision: int) -> Manifest:
    """Reads one manifest.

    Raises:
        StorageError: it is not there, or is not a manifest of this round and revision.
    """
    path = manifest_path(number, revision)
    try:
        content = json.loads(store.read(path))
        known = ("round", "revision", "supersedes", "identity", "inputs", "outputs")
        found = Manifest(**{key: content.pop(key) for key in known}, facts=content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{store.url}/{path}: must be a manifest: {error}") from error
    if (found.round, found.revision) != (number, revision):
        raise StorageError(f"{store.url}/{path}: is of round {found.round}, revision {found.revision}")
    content.pop("format", None)
    return found


def latest_manifest(store: Store, number: int) -> Manifest | None:
    """Returns the newest revision's manifest of a round; None where the round is not published."""
    names = [entry.path.rsplit("/", 1)[-1] for entry in store.list(f"manifests/round={number}")]
    revisions = [int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdecimal()]
    return read_manifest(store, number, max(revisions)) if revisions else None


def identity_digest(terms: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Returns the digest that decides whether a round is already published.

    Args:
        terms: what of rules, options and versions bears on the numbers.
        inputs: SHA-256 of every input by path.
    """
    text = json.dumps({"terms": terms, "inputs": dict(inputs)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def publish(store: Store, draft: Manifest, tables: Mapping[str, pa.Table]) -> Manifest:
    """Publishes a round's tables; returns the manifest in force afterwards, ours or an equal one.

    Args:
        store: where to.
        draft: the manifest without its outputs.
        tables: every table of the revision by its name.

    Raises:
        ConflictError: another resolver published this revision with other inputs, rules or versions.
        StorageError: the store failed, or holds other bytes under a table's name; no manifest names what was written.
    """
    outputs, own = {}, []
    for name, table in sorted(tables.items()):
        data = encode(table)
        path, digest = content_path(name, draft.round, draft.revision, data), hashlib.sha256(data).hexdigest()
        if _place(store, path, data, digest):
            own.append(path)
        outputs[name] = {
            "path": path,
            "sha256": digest,
            "rows": table.num_rows,
            "bytes": len(data),
        }
    manifest = Manifest(
        draft.round, draft.revision, draft.supersedes, draft.identity, draft.facts, draft.inputs, outputs
    )
    if store.create(manifest_path(draft.round, draft.revision), manifest.to_json()):
        return replace(manifest, ours=True)
    return _lost(store, manifest, own)


def _place(store: Store, path: str, data: bytes, digest: str) -> bool:
    """Creates a table's file, or finds the same bytes there; returns whether this call created it.

    Its name says what it must hold, but a copy that broke off or an editor may have left something else there.
    """
    while not store.create(path, data):
        try:
            found = store.sha256_of(path)
        except MissingFileError:  # a run that lost its race has just removed it
            continue
        if found == digest:
            return False
        raise StorageError(
            f"{store.url}/{path}: holds other bytes than its name says: SHA-256 is {found}, must be {digest}; "
            "remove the file if no manifest names it (else restore it), and run the same command again"
        )
    return True


def _lost(store: Store, manifest: Manifest, own: list[str]) -> Manifest:
    """Clears up after a lost race: removes the own files that the winner's manifest does not name."""
    winner = read_manifest(store, manifest.round, manifest.revision)
    named = {output["path"] for output in winner.outputs.values()}
    for path in own:
        if path not in named:
            store.delete(path)
    if winner.identity != manifest.identity:
        raise ConflictError(
            f"round {manifest.round}, revision {manifest.revision}: published by another run with other inputs, rules "
            "or versions; nothing of this run was published"
        )
    return winner
