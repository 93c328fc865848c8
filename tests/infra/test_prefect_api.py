import fcntl
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from infra.errors import InfraError
from infra.prefect_api import _no_proxy, prefect_api
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
FLOW = """
from infra.prefect_api import prefect_api
from infra.settings import Settings
with prefect_api(Settings()) as api:
    api.wait()
    import prefect
    def times(number):
        return 6 * number
    print(prefect.flow(lambda: prefect.task(times)(7), name="six")())
"""
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY")


def start(home: Path, **variables: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", *PROXIES)}
    environment = {**inherited, "PREFECT_HOME": str(home), **variables}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", FLOW], cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe
    )


@pytest.fixture(scope="module")
def first_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str, int]]]:
    """Two first runs at once on one machine: their home, and what each printed, with its exit code."""
    home = tmp_path_factory.mktemp("home") / "new"
    runs = [start(home), start(home)]
    return home, [(*run.communicate(timeout=120), run.returncode) for run in runs]


@pytest.fixture
def home(first_runs: tuple[Path, list[tuple[str, str, int]]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with its database: making one takes 10 s."""
    monkeypatch.setenv("PREFECT_HOME", str(first_runs[0]))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return first_runs[0]


def test_prefect_api__two_first_runs_at_once_both_succeed(first_runs: tuple[Path, list[tuple[str, str, int]]]) -> None:
    for out, errors, code in first_runs[1]:
        assert (out, code) == ("42\n", 0), errors
        assert "Error" not in errors


def test_prefect_api__waits_while_another_one_starts(home: Path) -> None:
    with (home / "stakeweight-start.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = time.monotonic()
        with prefect_api(Settings(api_start_limit_s=8)) as api, pytest.raises(InfraError, match="timed out"):
            api.wait()
        assert time.monotonic() - started < 16  # and a run that is given up need not wait for the lock


def test_prefect_api__a_proxy_is_not_asked_for_it(home: Path) -> None:
    run = start(home, **dict.fromkeys(PROXIES, "http://127.0.0.1:9"), NO_PROXY="example.org")
    out, errors = run.communicate(timeout=60)
    assert (out, run.returncode) == ("42\n", 0), errors
    assert "Error" not in errors


@pytest.mark.parametrize(
    ("lower", "upper", "added"),
    [
        (None, None, {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}),
        (None, "a.org", {"no_proxy": "a.org,127.0.0.1,localhost", "NO_PROXY": "a.org,127.0.0.1,localhost"}),
        ("b.org", "a.org", {"no_proxy": "b.org,127.0.0.1,localhost", "NO_PROXY": "a.org,127.0.0.1,localhost"}),
        ("*", None, {}),
    ],
)
def test_no_proxy__adds_this_machine_to_what_the_user_says(
    lower: str | None, upper: str | None, added: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("no_proxy", lower), ("NO_PROXY", upper)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert _no_proxy() == added


def test_prefect_api__a_home_that_cannot_be_written_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "home"))
    started = time.monotonic()
    with pytest.raises(InfraError, match=r"file/home: Prefect's home .* must be writable: Not a directory"):
        prefect_api(Settings()).__enter__()
    assert time.monotonic() - started < 2


def test_prefect_api__one_that_cannot_start_tells_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prefect.db").mkdir()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with prefect_api(Settings()) as api, pytest.raises(InfraError) as failed:
        api.wait()
    assert str(failed.value).endswith("OperationalError: (sqlite3.OperationalError) unable to open database file")
    assert "\n" not in str(failed.value)
    assert capfd.readouterr() == ("", "")


def test_prefect_api__starts_points_prefect_to_itself_and_is_gone_afterwards(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org")
    from prefect.settings import get_current_settings

    url_before = get_current_settings().api.url
    with prefect_api(Settings()) as api:
        api.wait()
        assert os.environ["PREFECT_API_URL"] == get_current_settings().api.url == api.url
        assert get_current_settings().server.analytics_enabled is False
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "example.org,127.0.0.1,localhost"
        with (home / "stakeweight-start.lock").open("ab") as lock:  # held until it answers, and no longer
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not {"PREFECT_API_URL", "no_proxy"} & os.environ.keys()
    assert os.environ["NO_PROXY"] == "example.org"
    assert get_current_settings().api.url == url_before
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{api.url}/health", timeout=5)


def test_prefect_api__leaves_variables_of_the_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    with prefect_api(Settings(prefect_api_url="http://127.0.0.1:9/api")):
        assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"


def test_prefect_api__one_that_does_not_answer_is_named_within_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        started = time.monotonic()
        with prefect_api(Settings(prefect_api_url=url)) as api, pytest.raises(InfraError, match=url):
            api.wait()
    assert time.monotonic() - started < 12
