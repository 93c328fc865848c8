import json

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import temporary_settings

from flows.artifacts import ShownProgress, show_table
from flows.session import Session


def _shown(key: str) -> object:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))[0].data


def test_show_table__leaves_a_table_with_readable_numbers_under_its_key(session: Session) -> None:
    @flow
    def show() -> None:
        show_table("Round 812: scores", [{"model": "a", "corr": 0.123456789}, {"model": "b", "corr": None}], "All.")

    show()
    assert json.loads(str(_shown("round-812-scores"))) == [
        {"model": "a", "corr": 0.123457},
        {"model": "b", "corr": None},
    ]


def test_shown_progress__shows_per_cent(session: Session) -> None:
    @flow
    def show() -> None:
        shown = ShownProgress("backfill test", 4, "rounds")
        for _ in range(3):
            shown.step()

    show()
    assert _shown("backfill-test") == 75.0


def test_show_table__does_not_fail_the_run_when_the_api_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_settings({"api.url": "http://127.0.0.1:9/api", "client.max_retries": 0}):
        show_table("scores", [{"model": "a"}])
        ShownProgress("scores", 2).step()
