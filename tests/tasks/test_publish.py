"""Publishing: once, whole or not at all, and of two that race exactly one."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import ConflictError, StorageError
from tasks.contract import content_path, encode, manifest_path
from tasks.publish import Manifest, identity_digest, latest_manifest, publish, read_manifest
from tasks.store import MissingFileError, Store, open_store

NUMBER = 7
TABLES = {
    "ledger": pa.table({"model": ["a", "b"], "payout": [1, 2]}),
    "rejects": pa.table({"model": pa.array([], pa.string())}),
    "scores": pa.table({"model": ["a", "b"], "corr": [0.25, -0.5]}),
}
OTHER_TABLES = TABLES | {"scores": pa.table({"model": ["a", "b"], "corr": [0.25, -0.25]})}
CREATES = len(TABLES) + 1
WRITERS = 3
RACES = 20


def draft(identity: str = "one", revision: int = 1, supersedes: int | None = None) -> Manifest:
    return Manifest(
        round=NUMBER,
        revision=revision,
        supersedes=supersedes,
        identity=identity,
        facts={"tournament": "tiny", "seed": 2**64 - 1, "totals": {"payout": "0.000000000000000001"}},
        inputs={"rounds/7/stakes.parquet": "ab" * 32},
        outputs={},
    )


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def named(store: Store, number: int = NUMBER) -> set[str]:
    """Every file that the round's manifests vouch for, the manifests included."""
    manifests = [entry.path for entry in store.list(f"manifests/round={number}")]
    outputs = (json.loads(store.read(path))["outputs"] for path in manifests)
    return set(manifests) | {output["path"] for found in outputs for output in found.values()}


# ---------------------------------------------------------------------------------------------- once


def test_publish__writes_tables_by_content_and_a_manifest_that_names_them(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    manifest = publish(store, draft(), TABLES)
    found = files(tmp_path)
    assert set(found) == named(store)
    assert len(found) == CREATES
    for name, table in TABLES.items():
        output = manifest.outputs[name]
        data = found[str(output["path"])]
        digest = hashlib.sha256(data).hexdigest()
        assert data == encode(table)
        assert output == {
            "path": f"{name}/round=7/1-{digest[:16]}.parquet",
            "sha256": digest,
            "rows": table.num_rows,
            "bytes": len(data),
        }
        assert pq.read_table(pa.BufferReader(data)).equals(table)


def test_publish__manifest_is_stable_and_readable(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    manifest = publish(store, draft(), TABLES)
    data = store.read(manifest_path(NUMBER, 1))
    assert data == manifest.to_json()
    assert data.decode().splitlines()[:6] == [
        "{",
        ' "format": 1,',
        ' "identity": "one",',
        ' "inputs": {',
        f'  "rounds/7/stakes.parquet": "{"ab" * 32}"',
        " },",
    ]
    assert data.endswith(b"}\n")
    content = json.loads(data)
    assert list(content) == sorted(content)
    assert content["seed"] == 2**64 - 1
    assert content["totals"] == {"payout": "0.000000000000000001"}
    assert content["supersedes"] is None
    shuffled = replace(
        manifest,
        facts=dict(reversed(manifest.facts.items())),
        outputs=dict(reversed(manifest.outputs.items())),
    )
    assert shuffled.to_json() == data


def test_read_manifest__gives_back_what_was_published(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    manifest = publish(store, draft(), TABLES)
    assert read_manifest(store, NUMBER, 1) == manifest
    assert latest_manifest(store, NUMBER) == manifest


@pytest.mark.parametrize("spoiled", [b"", b"PAR1", None], ids=["empty", "cut_off", "another_table"])
def test_publish__other_bytes_under_a_table_name_are_refused(tmp_path: Path, spoiled: bytes | None) -> None:
    store, data = open_store(tmp_path), encode(TABLES["scores"])
    path, found = content_path("scores", NUMBER, 1, data), encode(TABLES["ledger"]) if spoiled is None else spoiled
    store.create(path, found)
    with pytest.raises(StorageError) as refused:
        publish(store, draft(), TABLES)
    told = str(refused.value)
    assert f"{tmp_path}/{path}" in told
    assert all(hashlib.sha256(content).hexdigest() in told for content in (found, data))
    assert "remove the file" in told
    assert latest_manifest(store, NUMBER) is None
    assert store.read(path) == found
    store.delete(path)
    assert publish(store, draft(), TABLES).outputs["scores"]["path"] == path


def test_publish__the_same_bytes_under_a_table_name_are_taken(tmp_path: Path) -> None:
    store, data = open_store(tmp_path), encode(TABLES["scores"])
    path = content_path("scores", NUMBER, 1, data)
    store.create(path, data)
    assert publish(store, draft(), TABLES).outputs["scores"]["path"] == path
    assert set(files(tmp_path)) == named(store)


def test_publish__a_file_that_a_loser_removes_meanwhile_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, data = open_store(tmp_path), encode(TABLES["scores"])
    path = content_path("scores", NUMBER, 1, data)
    store.create(path, data)
    compare = Store.sha256_of

    def removed_before(self: Store, path: str) -> str:
        self.delete(path)
        return compare(self, path)

    monkeypatch.setattr(Store, "sha256_of", removed_before)
    publish(store, draft(), TABLES)
    assert store.read(path) == data


def test_publish__the_second_of_equals_returns_the_first(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = publish(store, draft(), TABLES)
    before = files(tmp_path)
    second = publish(store, draft(), dict(reversed(TABLES.items())))
    assert second == first
    assert (first.ours, second.ours) == (True, False)
    assert files(tmp_path) == before


def test_publish__an_equal_run_with_other_bytes_leaves_the_first_in_force(tmp_path: Path) -> None:
    """So that a library that rounds otherwise can not replace what is published."""
    store = open_store(tmp_path)
    first = publish(store, draft(), TABLES)
    before = files(tmp_path)
    assert publish(store, draft(), OTHER_TABLES) == first
    assert files(tmp_path) == before


def test_publish__another_identity_is_a_conflict_and_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    publish(store, draft(), TABLES)
    before = files(tmp_path)
    with pytest.raises(ConflictError, match="round 7, revision 1: published by another run") as caught:
        publish(store, draft("two"), OTHER_TABLES)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before  # its own scores are gone, the shared ledger and rejects stay


def _during_publish(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[Store, str], None], *, before: bool = True
) -> None:
    """Has `action` run around every `Store.create`."""
    create = Store.create

    def around(self: Store, path: str, data: bytes) -> bool:
        if before:
            action(self, path)
        created = create(self, path, data)
        if not before:
            action(self, path)
        return created

    monkeypatch.setattr(Store, "create", around)


@pytest.mark.parametrize("ours", [TABLES, OTHER_TABLES], ids=["same_tables", "other_tables"])
def test_publish__losing_late_removes_own_files_but_keeps_the_winners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: dict[str, pa.Table]
) -> None:
    """The other run publishes between our tables and our manifest; some of its tables are ours, by content."""
    store = open_store(tmp_path)

    def other_run(store: Store, path: str) -> None:
        if path.startswith("manifests/"):
            monkeypatch.undo()
            publish(store, draft("winner"), TABLES)

    _during_publish(monkeypatch, other_run)
    with pytest.raises(ConflictError):
        publish(store, draft("loser"), ours)
    assert set(files(tmp_path)) == named(store)
    winner = read_manifest(store, NUMBER, 1)
    assert winner.identity == "winner"
    for output in winner.outputs.values():
        assert hashlib.sha256(store.read(output["path"])).hexdigest() == output["sha256"]


def test_publish__a_revision_stands_beside_what_it_corrects(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = publish(store, draft(), TABLES)
    before = files(tmp_path)
    second = publish(store, draft("two", 2, 1), OTHER_TABLES)
    after = files(tmp_path)
    assert before.items() <= after.items()
    assert set(after) == named(store)
    assert all("/2-" in output["path"] for output in second.outputs.values())
    assert latest_manifest(store, NUMBER) == second
    assert read_manifest(store, NUMBER, 1) == first
    assert second.supersedes == 1


def test_latest_manifest__counts_revisions_as_numbers(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert latest_manifest(store, NUMBER) is None
    for revision in range(1, 12):
        publish(store, draft(str(revision), revision, revision - 1 or None), TABLES)
    store.create("manifests/round=7/notes.json", b"{}")
    store.create("manifests/round=70/99.json", b"{}")
    latest = latest_manifest(store, NUMBER)
    assert latest is not None
    assert (latest.revision, latest.supersedes) == (11, 10)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'"1"', b"\xff", b'{"round": 7}', b"{" * 100])
def test_read_manifest__refuses_what_is_none(tmp_path: Path, data: bytes) -> None:
    store = open_store(tmp_path)
    store.create(manifest_path(NUMBER, 1), data)
    with pytest.raises(StorageError, match=r"manifests/round=7/1\.json: must be a manifest"):
        latest_manifest(store, NUMBER)


def test_read_manifest__refuses_another_rounds(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    manifest = publish(store, draft(), TABLES)
    store.create(manifest_path(8, 1), manifest.to_json())
    store.create(manifest_path(NUMBER, 2), manifest.to_json())
    with pytest.raises(StorageError, match=r"round=8/1\.json: is of round 7, revision 1"):
        latest_manifest(store, 8)
    with pytest.raises(StorageError, match=r"round=7/2\.json: is of round 7, revision 1"):
        latest_manifest(store, NUMBER)
    with pytest.raises(MissingFileError):
        read_manifest(store, NUMBER, 3)


def test_identity_digest__depends_on_content_not_on_order() -> None:
    terms, inputs = {"rules": {"clip": "0.05"}, "version": "1"}, {"a": "1", "b": "2"}
    same = identity_digest(dict(reversed(terms.items())), dict(reversed(inputs.items())))
    assert identity_digest(terms, inputs) == same
    others = {
        identity_digest(terms, {"a": "1", "b": "3"}),
        identity_digest(terms, {"a": "1", "c": "2"}),
        identity_digest(terms, {"a": "1"}),
        identity_digest(terms | {"version": "2"}, inputs),
        identity_digest(terms | {"rules": {"clip": "0.050"}}, inputs),
    }
    assert len(others | {same}) == 6


# ---------------------------------------------------------------------------------------------- crashes


class Crash(BaseException):
    """The process dies here: nothing may catch it."""


def _crash_at(monkeypatch: pytest.MonkeyPatch, call: int, *, before: bool) -> None:
    calls = iter(range(1, CREATES + 1))

    def crash(store: Store, path: str) -> None:
        if next(calls) == call:
            raise Crash

    _during_publish(monkeypatch, crash, before=before)


@pytest.mark.parametrize("call", range(1, CREATES + 1))
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_publish__a_crash_anywhere_is_repaired_by_running_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, before: bool
) -> None:
    publish(open_store(tmp_path / "whole", create=True), draft(), TABLES)
    store = open_store(tmp_path / "crashed", create=True)
    _crash_at(monkeypatch, call, before=before)
    with pytest.raises(Crash):
        publish(store, draft(), TABLES)
    monkeypatch.undo()
    written = call - before
    assert len(files(tmp_path / "crashed")) == written
    assert (latest_manifest(store, NUMBER) is None) == (written < CREATES)
    publish(store, draft(), TABLES)
    assert files(tmp_path / "crashed") == files(tmp_path / "whole")


@pytest.mark.parametrize("call", range(1, CREATES))
def test_publish__what_a_crash_left_is_never_part_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    store = open_store(tmp_path)
    _crash_at(monkeypatch, call, before=False)
    with pytest.raises(Crash):
        publish(store, draft("crashed"), TABLES)
    monkeypatch.undo()
    manifest = publish(store, draft("other"), OTHER_TABLES)
    assert pq.read_table(tmp_path / manifest.outputs["scores"]["path"], partitioning=None).equals(
        OTHER_TABLES["scores"]
    )
    strays = set(files(tmp_path)) - named(store)
    assert {stray.split("/")[0] for stray in strays} <= {"scores"}


def test_publish__a_failing_store_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)

    def fail(store: Store, path: str) -> None:
        if path.startswith("manifests/"):
            raise StorageError("no answer")

    _during_publish(monkeypatch, fail)
    with pytest.raises(StorageError, match="no answer"):
        publish(store, draft(), TABLES)
    assert latest_manifest(store, NUMBER) is None


def test_publish__an_answer_that_was_lost_is_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store created the manifest, the answer got lost, and the request that was sent again finds it taken."""
    store = open_store(tmp_path)
    create = Store.create
    monkeypatch.setattr(Store, "create", lambda self, path, data: create(self, path, data) and create(self, path, data))
    manifest = publish(store, draft(), TABLES)
    assert set(files(tmp_path)) == named(store)
    assert read_manifest(store, NUMBER, 1) == manifest


# ---------------------------------------------------------------------------------------------- races


def _identity(race: int, writer: int) -> str:
    """In every third race all are equal, in the next all differ, in the next two are equal."""
    return ("same", f"writer {writer}", f"writer {writer % 2}")[race % 3]


def _racer(results: Queue, start: Barrier, directory: Path, writer: int) -> None:
    store = open_store(directory)
    ends = []
    for race in range(RACES):
        identity = _identity(race, writer)
        own = TABLES | {"scores": pa.table({"made_by": [identity]})}
        start.wait()
        try:
            ends.append(publish(store, replace(draft(identity), round=race), own).identity)
        except ConflictError:
            ends.append(None)
    results.put((writer, ends))


def test_publish__of_three_processes_that_race_exactly_one_publishes(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(WRITERS), spawn.Queue()
    racers = [spawn.Process(target=_racer, args=(results, start, tmp_path, each)) for each in range(WRITERS)]
    for process in racers:
        process.start()
    ends = dict(results.get(timeout=120) for _ in racers)
    for process in racers:
        process.join()
    store = open_store(tmp_path)
    vouched: set[str] = set()
    for race in range(RACES):
        assert [entry.path for entry in store.list(f"manifests/round={race}")] == [manifest_path(race, 1)]
        winner = read_manifest(store, race, 1)
        for writer in range(WRITERS):
            equal = _identity(race, writer) == winner.identity
            assert ends[writer][race] == (winner.identity if equal else None)
        for output in winner.outputs.values():
            assert hashlib.sha256(store.read(output["path"])).hexdigest() == output["sha256"]
        scores = pq.read_table(tmp_path / winner.outputs["scores"]["path"], partitioning=None)
        assert scores.column("made_by").to_pylist() == [winner.identity]
        vouched |= named(store, race)
    assert set(files(tmp_path)) == vouched
