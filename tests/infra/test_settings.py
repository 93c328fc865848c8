import pytest

from infra.errors import InfraError
from infra.settings import read_settings


def test_read_settings__reads_the_environment_when_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAKEWEIGHT_WORKERS", "3")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    settings = read_settings()
    assert (settings.workers, settings.prefect_api_url) == (3, "http://127.0.0.1:4200/api")


def test_read_settings__an_option_goes_before_the_environment_and_none_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STAKEWEIGHT_WORKERS", "3")
    monkeypatch.setenv("STAKEWEIGHT_CLUSTER", "my.yaml")
    settings = read_settings(workers=5, cluster=None)
    assert (settings.workers, settings.cluster) == (5, "my.yaml")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("STAKEWEIGHT_WORKER", "3", "no variable STAKEWEIGHT_WORKER .did you mean STAKEWEIGHT_WORKERS"),
        ("STAKEWEIGHT_WORKERS", "0", "workers: Input should be greater than 0"),
        ("STAKEWEIGHT_SCHEDULER", "10.0.0.7:8786", "begins with tcp:// or tls://"),
        ("STAKEWEIGHT_UNIT_LIMIT_S", "soon", "unit_limit_s"),
    ],
)
def test_read_settings__names_the_variable_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InfraError, match=message):
        read_settings()


def test_read_settings__tells_all_problems_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAKEWEIGHT_WORKERS", "-1")
    monkeypatch.setenv("STAKEWEIGHT_CONNECT_LIMIT_S", "never")
    with pytest.raises(InfraError, match=r"workers.*connect_limit_s|connect_limit_s.*workers"):
        read_settings()
