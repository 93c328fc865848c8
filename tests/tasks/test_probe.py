"""The probe tells stores that keep their promises from those that do not, and leaves nothing in either."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from scoring.errors import OperatorError, StakeweightError, StorageError
from tasks import store as store_module
from tasks.probe import probe_data, probe_out, probe_store
from tasks.store import Store, open_store
from tests.tasks.fixtures import write_round

_DELETED = "<Deleted><Key>{}</Key></Deleted>"


class _S3(ThreadingHTTPServer):
    """Enough of S3 for one bucket; told which of its promises it breaks."""

    def __init__(self, *broken: str) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.broken = set(broken)
        self.files: dict[str, bytes] = {}
        self.lock = threading.Lock()


class _Requests(BaseHTTPRequestHandler):
    server: _S3
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            taken = self._name in self.server.files
            create_only = self.headers.get("If-None-Match") == "*" and "create only" not in self.server.broken
            if not (taken and create_only):
                self.server.files[self._name] = body
        self._answer(412 if taken and create_only else 200)

    def do_GET(self) -> None:
        if "list-type" in urlsplit(self.path).query:
            prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
            shown = [] if "listing" in self.server.broken else sorted(self.server.files.items())
            entries = "".join(
                f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;1&quot;</ETag><Size>{len(data)}</Size></Contents>"
                for name, data in shown
                if name.startswith(prefix)
            )
            self._answer(
                200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
            )
        elif self._name in self.server.files:
            self._answer(200, self.server.files[self._name])
        else:
            self._answer(404)

    def do_POST(self) -> None:
        """Files are removed by a list of them."""
        names = re.findall("<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])).decode())
        refused = "delete" in self.server.broken
        for name in [] if refused else names:
            self.server.files.pop(name, None)
        done = "<Error><Key>{}</Key><Code>AccessDenied</Code><Message>no</Message></Error>" if refused else _DELETED
        self._answer(200, f"<DeleteResult>{''.join(map(done.format, names))}</DeleteResult>".encode())

    @property
    def _name(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/bucket/")

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _bucket(monkeypatch: pytest.MonkeyPatch, *broken: str) -> Iterator[_S3]:
    server = _S3(*broken)
    variables = {
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_REGION": "x",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    store_module._connect.cache_clear()
    try:
        yield server
    finally:
        store_module._connect.cache_clear()
        server.shutdown()
        thread.join()
        server.server_close()


def _everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_probe_store__a_directory_passes_and_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "file").write_bytes(b"published")
    before = _everything(tmp_path)
    probe_store(open_store(tmp_path))
    assert _everything(tmp_path) == before
    assert (tmp_path / "ledger" / "file").read_bytes() == b"published"


def test_probe_store__several_probes_of_one_place_do_not_meet(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def probe() -> None:
        try:
            probe_store(Store(str(tmp_path)))
        except StakeweightError as error:
            failures.append(error)

    threads = [threading.Thread(target=probe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert _everything(tmp_path) == []


def test_probe_store__an_object_store_passes_and_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with _bucket(monkeypatch) as server:
        server.files["out/ledger/file"] = b"published"
        probe_store(open_store("s3://bucket/out"))
        assert server.files == {"out/ledger/file": b"published"}


def test_probe_store__tells_a_store_that_overwrites_and_cleans_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with _bucket(monkeypatch, "create only") as server:
        with pytest.raises(StorageError, match="must be created once only, but a second file replaced the first"):
            probe_store(open_store("s3://bucket/out"))
        assert server.files == {}


def test_probe_store__tells_a_listing_that_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        _bucket(monkeypatch, "listing"),
        pytest.raises(StorageError, match="a listing must show a file as soon as it is created"),
    ):
        probe_store(open_store("s3://bucket/out"))


def test_probe_store__names_what_it_could_not_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    with _bucket(monkeypatch, "delete") as server:
        with pytest.raises(StorageError, match="could not be removed, do it by hand") as caught:
            probe_store(open_store("s3://bucket/out"))
        folders = {name.split("/")[1] for name in server.files}
        assert len(folders) == 1
        assert f" {folders.pop()} could not" in str(caught.value)


def test_probe_out__makes_a_missing_directory_and_removes_it(tmp_path: Path) -> None:
    assert probe_out(str(tmp_path / "a" / "b")) == str(tmp_path / "a" / "b")
    assert _everything(tmp_path) == []


def test_probe_out__leaves_an_existing_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    probe_out(str(tmp_path / "out"))
    assert _everything(tmp_path) == ["out"]


def test_probe_out__a_place_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/out: the directory cannot be made: Not a directory") as caught:
        probe_out(str(tmp_path / "file" / "out"))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that even root cannot write: /proc")
def test_probe_out__a_directory_that_cannot_be_written_is_told() -> None:
    with pytest.raises(StorageError, match="/proc: must exist and be writable, but no file can be made in it"):
        probe_out("/proc")


def test_probe_out__a_full_disk_is_told_and_left_clean(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs leave to mount a small disk")
    try:
        _fill(disk / "filler")
        with pytest.raises(StorageError, match="No space left on device"):
            probe_out(str(disk))
        assert _everything(disk) == ["filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_probe_data__tells_what_the_tournament_consists_of(tmp_path: Path) -> None:
    folder = write_round(tmp_path)
    before = _everything(tmp_path)
    found = probe_data(str(folder))
    submissions = [path for path in before if "/submissions/" in path]
    assert (found.rounds, found.newest, found.submissions) == (1, 7, len(submissions))
    assert found.stocks > 0
    assert found.scoring_bytes == 4 * found.stocks * found.submissions
    assert _everything(tmp_path) == before


def test_probe_data__a_missing_tournament_stays_missing(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="must be a directory, found nothing"):
        probe_data(str(tmp_path / "nowhere"))
    assert _everything(tmp_path) == []


def test_probe_data__a_damaged_universe_is_one_line(tmp_path: Path) -> None:
    folder = write_round(tmp_path)
    (Path(folder) / "rounds" / "7" / "universe.parquet").write_bytes(b"not parquet")
    with pytest.raises(OperatorError, match=r"rounds/7/universe\.parquet: must be a parquet file") as caught:
        probe_data(str(folder))
    assert "\n" not in str(caught.value)
