import os
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from infra.errors import InfraError
from infra.prefect_api import prefect_api
from infra.settings import Settings


def test_prefect_api__starts_points_prefect_to_itself_and_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    from prefect.settings import get_current_settings

    url_before = get_current_settings().api.url
    with prefect_api(Settings()) as api:
        api.wait()
        assert os.environ["PREFECT_API_URL"] == get_current_settings().api.url == api.url
        assert get_current_settings().server.analytics_enabled is False
    assert "PREFECT_API_URL" not in os.environ
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
