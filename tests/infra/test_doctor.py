"""What the doctor finds on one machine, and what it makes of it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from infra.doctor import (
    LITTLE_ROOM_BYTES,
    NO_ROOM_BYTES,
    check_api,
    check_clock,
    check_folder,
    check_memory,
    check_object_store,
    check_packages,
    check_secrets,
    check_zone,
)
from infra.doctor_ask import ApiAnswer, ask_api, reach_of, skew_s
from infra.doctor_facts import Surroundings, facts_of, find_facts
from infra.doctor_machine import Folder, look_at_folder, readable_secrets
from infra.errors import InfraError
from infra.prefect_api import prefect_api
from infra.question import Question
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
PASSWORD = "admin:only-for-this-test"


def test_question__does_not_wait_longer_than_its_limit() -> None:
    ends = threading.Event()
    started = time.monotonic()
    with pytest.raises(InfraError, match=r"no answer within 0\.2 s"):
        Question(ends.wait, 0.2).answer()
    assert time.monotonic() - started < 5
    ends.set()


def test_question__raises_what_the_call_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Question(lambda: 1 // 0, 20.0).answer()


def test_find_facts__are_the_installed_versions_and_survive_the_way_as_plain_values() -> None:
    from dataclasses import asdict

    facts = find_facts([ROOT])
    assert facts.versions["numpy"] == version("numpy")
    assert facts.unmet == ()
    assert facts_of(asdict(facts)) == facts


def test_find_facts__a_package_that_is_too_old_is_named(tmp_path: Path) -> None:
    info = tmp_path / "numpy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    code = "from infra.doctor_facts import find_facts; print(find_facts().unmet)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("('numpy<2.5,>=2.4, found 1.0',)")


def test_check_packages__tells_what_is_missing() -> None:
    facts = find_facts()
    assert check_packages(facts).status == "ok"
    check = check_packages(replace(facts, unmet=("numpy<2.5,>=2.4, found 1.0",)))
    assert (check.status, check.found) == ("problem", "needs numpy<2.5,>=2.4, found 1.0")


def test_look_at_folder__leaves_nothing_and_looks_above_a_missing_one(tmp_path: Path) -> None:
    assert look_at_folder(tmp_path).error == ""
    assert look_at_folder(tmp_path / "not" / "there").free_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_check_folder__a_place_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = check_folder("PREFECT_HOME", look_at_folder(tmp_path / "file" / "home"))
    assert check.status == "problem"
    assert check.found == f"{tmp_path}/file/home cannot be written: Not a directory"


def test_check_folder__a_full_disk_is_a_problem(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs leave to mount a small disk")
    try:
        check = check_folder("out", look_at_folder(tmp_path))
        assert (check.status, check.found) == ("problem", f"0 MB free in {tmp_path}")
        (tmp_path / "filler").write_bytes(bytes(64 << 10))
        check = check_folder("out", look_at_folder(tmp_path))
        assert (check.status, check.found) == ("problem", f"{tmp_path} cannot be written: No space left on device")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("folder", "status"),
    [
        (Folder("x", LITTLE_ROOM_BYTES, None), "ok"),
        (Folder("x", LITTLE_ROOM_BYTES - 1, 10**6), "warning"),
        (Folder("x", NO_ROOM_BYTES - 1, 10**6), "problem"),
        (Folder("x", LITTLE_ROOM_BYTES, 10), "problem"),
    ],
)
def test_check_folder__says_how_much_room_is_needed(folder: Folder, status: str) -> None:
    assert check_folder("out", folder).status == status


@pytest.mark.parametrize(("limit", "status"), [(1000, "ok"), (900, "warning"), (700, "problem")])
def test_check_memory__goes_by_the_shares_at_which_dask_acts(limit: int, status: str) -> None:
    assert check_memory("workers", limit, 600).status == status


@pytest.mark.parametrize(
    ("text", "is_secret"),
    [
        ('PREFECT_API_KEY = "abc"', True),
        ("aws_secret_access_key = abc", True),
        ("export AWS_SESSION_TOKEN=abc", True),
        ("[server.api]\nauth_string = 'a:b'", True),
        ("PREFECT_API_KEY =", False),
        ("PREFECT_API_URL = http://127.0.0.1:4200/api", False),
    ],
)
def test_readable_secrets__names_files_that_every_user_may_read(tmp_path: Path, text: str, is_secret: bool) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(text)
    file.chmod(0o644)
    assert readable_secrets([file, tmp_path / "missing", tmp_path]) == ((str(file),) if is_secret else ())
    file.chmod(0o600)
    assert readable_secrets([file]) == ()


def test_check_secrets__shows_the_file_and_not_the_secret(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("AWS_SECRET_ACCESS_KEY=abcdef")
    file.chmod(0o644)
    check = check_secrets(readable_secrets([file]))
    assert check.status == "problem"
    assert str(file) in check.found
    assert "abcdef" not in check.found + check.advice


def test_surroundings__an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "many")
    assert Surroundings().home == Path("~/.prefect").expanduser()
    assert Surroundings().kernel_threads(3) == 3


@pytest.mark.parametrize(
    ("hosts", "reach"),
    [
        (["127.0.0.1", "::1"], "this machine"),
        (["localhost"], "this machine"),
        (["127.0.0.1", "192.168.0.7"], "a private network"),
        (["8.8.8.8"], "everywhere"),
        (["0.0.0.0"], "everywhere"),
        (["::"], "everywhere"),
        ([""], "this machine"),
    ],
)
def test_reach_of__is_that_of_the_widest(hosts: list[str], reach: str) -> None:
    assert reach_of(hosts) == reach


@pytest.mark.parametrize(("clock", "skew"), [(100.0, 0.0), (99.0, 0.0), (97.0, 2.0), (109.5, 7.5)])
def test_skew_s__is_what_the_interval_does_not_explain(clock: float, skew: float) -> None:
    assert skew_s(clock, 99.0, 102.0) == skew


def test_check_clock__names_the_worst() -> None:
    assert check_clock({}).status == check_clock({"a": 1.0}).status == "ok"
    assert check_clock({"a": 1.0, "b": 20.0}).found == "20 s between here and b"
    assert (check_clock({"a": 20.0}).status, check_clock({"a": 900.0}).status) == ("warning", "problem")


def test_check_zone__different_zones_are_a_warning() -> None:
    here = replace(find_facts(), zone="UTC+0000", named_zones=True)
    assert check_zone(here, {"a": "UTC+0000"}).status == "ok"
    check = check_zone(here, {"a": "UTC+0000", "b": "UTC+0900"})
    assert (check.status, check.found) == ("warning", "UTC+0000 here, UTC+0900 on b")


def test_check_zone__an_unknown_zone_database_is_a_warning() -> None:
    code = "from infra.doctor_facts import find_facts; print(find_facts().named_zones)"
    command = [sys.executable, "-c", f"import sys; sys.modules['tzdata'] = None; {code}"]
    environment = {**os.environ, "PYTHONTZPATH": ""}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
    assert check_zone(replace(find_facts(), named_zones=False), {}).status == "warning"


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [("", "ok"), ("http://127.0.0.1:9000", "ok"), ("https://8.8.8.8", "ok"), ("http://10.0.0.1:9000", "warning")],
)
def test_check_object_store__wants_tls_outside_this_machine(endpoint: str, status: str) -> None:
    assert check_object_store(endpoint).status == status


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home, whose database takes 10 s to make."""
    return tmp_path_factory.mktemp("prefect")


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_ask_api__a_running_api_tells_its_version_and_whether_it_asks_for_a_password(
    password: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if password is not None:
        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", password)
    with prefect_api(Settings()) as api:
        api.wait()
        if password is not None:
            with pytest.raises(InfraError, match=r"refuses us without a password \(answer 401\)"):
                ask_api(api.url, lambda: None, 10.0)
            with pytest.raises(InfraError, match=r"refuses us with the password that is set \(answer 401\)"):
                ask_api(api.url, lambda: "Basic d3Jvbmc6d3Jvbmc=", 10.0)
        answer = ask_api(api.url, lambda: "Basic YWRtaW46b25seS1mb3ItdGhpcy10ZXN0", 10.0)
    assert answer.skew_s < 1  # the same clock, read a moment apart
    assert replace(answer, skew_s=0.0) == ApiAnswer(api.url, "this machine", password is None, version("prefect"), 0.0)
    assert [check.status for check in check_api(answer, find_facts())] == ["ok", "ok"]


class _NoApi(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def some_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoApi)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_ask_api__another_server_is_no_prefect_api(some_server: str) -> None:
    with pytest.raises(InfraError, match=r"answers 404 to /health; the address of a Prefect API ends in /api"):
        ask_api(some_server, lambda: None, 5.0)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "no address at all", "http://"])
def test_ask_api__no_answer_is_one_line(url: str) -> None:
    with pytest.raises(InfraError, match="no Prefect API answers at") as caught:
        ask_api(url, lambda: None, 2.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        (ApiAnswer("http://10.0.0.1/api", "a private network", True, "3.8.8", 0.0), ["ok", "warning"]),
        (ApiAnswer("http://8.8.8.8/api", "everywhere", True, "3.8.8", 0.0), ["ok", "problem"]),
        (ApiAnswer("http://8.8.8.8/api", "everywhere", False, "3.8.8", 0.0), ["ok", "warning"]),
        (ApiAnswer("https://8.8.8.8/api", "everywhere", False, "3.8.7", 0.0), ["warning", "ok"]),
        (ApiAnswer("https://8.8.8.8/api", "everywhere", False, "3.7.9", 0.0), ["problem", "ok"]),
    ],
)
def test_check_api__wants_one_version_a_password_and_tls(answer: ApiAnswer, statuses: list[str]) -> None:
    here = replace(find_facts(), versions={"prefect": "3.8.8"})
    assert [check.status for check in check_api(answer, here)] == statuses
