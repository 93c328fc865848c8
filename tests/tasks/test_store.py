"""The store: read once with its digest, created once and whole, and every failure one clear line."""

import hashlib
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError, StorageError
from tasks import store as store_module
from tasks.contract import encode
from tasks.store import MissingFileError, Store, open_store

WRITERS = 4
RACES = 15


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A local store, and one behind the interface of the object stores."""
    if request.param == "local":
        return open_store(tmp_path / "out", create=True)
    store_module._connect.cache_clear()
    return Store("memory:///")


def test_store__is_the_same_after_pickling(store: Store) -> None:
    store.create("a", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"1"


def test_read_with_hash__hashes_the_bytes_it_returns(store: Store) -> None:
    store.create("folder/file", b"some bytes")
    assert store.read_with_hash("folder/file") == (b"some bytes", hashlib.sha256(b"some bytes").hexdigest())


def test_read__missing_file_is_its_own_error(store: Store) -> None:
    with pytest.raises(MissingFileError, match="nothing/here: there is no such file") as caught:
        store.read("nothing/here")
    assert caught.value.exit_code == 5


def test_create__never_overwrites(store: Store) -> None:
    assert store.create("ledger/round=1/1.parquet", b"first")
    assert not store.create("ledger/round=1/1.parquet", b"second")
    assert store.read("ledger/round=1/1.parquet") == b"first"


def test_list__is_recursive_and_sorted(store: Store) -> None:
    for path in ("b/2", "b/1", "b/c/3", "bc/4", "a"):
        store.create(path, path.encode())
    assert [entry.path for entry in store.list("b")] == ["b/1", "b/2", "b/c/3"]
    assert [entry.size for entry in store.list("b")] == [3, 3, 5]
    assert len(store.list()) == 5
    assert store.list("nowhere") == []


def test_folders__names_only_what_is_directly_inside(store: Store) -> None:
    for path in ("rounds/2/x", "rounds/10/y/z", "rounds/file"):
        store.create(path, b"")
    assert store.folders("rounds") == ["10", "2"]
    assert store.folders("nowhere") == []


def test_delete__is_done_when_the_file_is_gone(store: Store) -> None:
    store.create("a", b"1")
    assert store.exists("a")
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


def test_sha256_of__reads_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "HASH_CHUNK_BYTES", 7)
    data = bytes(range(100))
    store.create("large", data)
    store.create("empty", b"")
    assert store.sha256_of("large") == hashlib.sha256(data).hexdigest()
    assert store.sha256_of("empty") == hashlib.sha256(b"").hexdigest()


def test_open__lets_pyarrow_read_some_columns(store: Store) -> None:
    table = pa.table({f"column_{at}": range(at, at + 1000) for at in range(20)})
    store.create("wide.parquet", encode(table))
    with store.open("wide.parquet") as file:
        assert pq.ParquetFile(file).read(columns=["column_7"]).equals(table.select(["column_7"]))


def test_open__seeks_like_a_file(store: Store) -> None:
    store.create("digits", b"0123456789")
    with store.open("digits") as file:
        assert (file.seek(-3, os.SEEK_END), file.read(2), file.tell()) == (7, b"78", 9)
        assert (file.seek(-5, os.SEEK_CUR), file.read()) == (4, b"456789")
        assert file.read(1) == b""


def test_open__notices_that_the_file_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with open_store(tmp_path).open("file") as file:
        file.read(2)
        (tmp_path / "file").write_bytes(b"other bytes")
        with pytest.raises(StorageError, match="was replaced while it was read"):
            file.read(2)


def _race(results: Queue, start: Barrier, directory: Path, writer: int) -> None:
    store = open_store(directory)
    won = []
    for number in range(RACES):
        start.wait()
        won.append(store.create(f"manifests/round={number}/1.json", bytes([writer]) * 10_000))
    results.put((writer, won))


def test_create__one_of_four_processes_wins(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(WRITERS), spawn.Queue()
    writers = [spawn.Process(target=_race, args=(results, start, tmp_path, each)) for each in range(WRITERS)]
    for process in writers:
        process.start()
    won = dict(results.get(timeout=60) for _ in writers)
    for process in writers:
        process.join()
    for number in range(RACES):
        winners = [writer for writer in won if won[writer][number]]
        assert len(winners) == 1
        assert (tmp_path / f"manifests/round={number}/1.json").read_bytes() == bytes(winners) * 10_000
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == RACES  # no loser left anything


def test_create__syncs_the_bytes_before_the_name_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "link", lambda *names: (calls.append("link"), link(*names)))
    open_store(tmp_path).create("a/b/file", b"1")
    assert calls == ["sync", "link", "sync", "sync", "sync"]  # the file; its name; folders b, a and the root


def test_create__a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match="No space left on device"):
        open_store(tmp_path).create("file", b"1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../file", "/file", "a/../../file"])
def test_store__stays_inside_its_directory(tmp_path: Path, path: str) -> None:
    store = open_store(tmp_path / "out", create=True)
    with pytest.raises(StorageError, match=r"\.\./file|/file"):
        store.create(path, b"1")
    assert not (tmp_path / "file").exists()


def test_read__unreadable_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")  # the one unreadable file that root cannot read either
    with pytest.raises(StorageError, match="loop: ") as caught:
        open_store(tmp_path).read("loop")
    assert not isinstance(caught.value, MissingFileError)
    assert "\n" not in str(caught.value)


def test_open_store__input_directory_must_exist(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="missing: must be a directory, found nothing"):
        open_store(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_open_store__refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match="file: must be a directory, found a file"):
        open_store(tmp_path / "file")
    with pytest.raises(StorageError, match="the directory cannot be made"):
        open_store(tmp_path / "file", create=True)


def test_open_store__takes_a_file_url(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    assert open_store((tmp_path / "with space").as_uri()) == Store(str(tmp_path / "with space"))


def test_open_store__refuses_an_unknown_kind_of_url() -> None:
    with pytest.raises(
        OperatorError, match="gopher://hole: must be a directory or a URL such as s3://bucket"
    ) as caught:
        open_store("gopher://hole")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("location", ["", " ", "file://"])
def test_open_store__refuses_an_empty_location(location: str) -> None:
    with pytest.raises(OperatorError, match="must be a directory or a URL, found nothing"):
        open_store(location, create=True)


@pytest.mark.parametrize("url", ["memory:///", "memory://out", "MEMORY:///"])
def test_open_store__refuses_what_keeps_nothing(url: str) -> None:
    with pytest.raises(OperatorError, match="must be a directory or a URL that keeps files"):
        open_store(url, create=True)


class _Bucket(BaseHTTPRequestHandler):
    """Answers every GET with the path that was asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def plain_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server without TLS, as MinIO and SeaweedFS are inside one's own network, set up by the environment."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bucket)
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_REGION", "x")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    store_module._connect.cache_clear()
    yield
    store_module._connect.cache_clear()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("plain_http")
def test_open_store__keeps_the_client_options_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="s3://bucket/some folder/file: "):
        open_store("s3://bucket/some folder").read("file")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    store_module._connect.cache_clear()
    assert open_store("s3://bucket/some folder").read("file") == b"/bucket/some%20folder/file"


@pytest.mark.usefixtures("plain_http")
def test_open_store__sets_its_own_request_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_TIMEOUT", "1 ns")  # stands for obstore's own, which is too short
    assert open_store("s3://bucket").read("file") == b"/bucket/file"
