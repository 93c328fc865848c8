"""What a session finds of the workers when it opens."""

import contextvars

import pytest
from prefect.settings import PREFECT_API_URL

from flows.progress import Progress
from flows.session import Session, open_session
from infra.settings import read_settings


@pytest.mark.parametrize(("asked", "noted"), [(True, True), (False, False)])
def test_open_session__where_no_worker_offers_a_gpu_portfolios_go_to_the_others_with_a_note(
    session: Session,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: bool,
    noted: bool,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))

    def opened() -> bool:
        settings = read_settings(scheduler=session.client.scheduler.address, gpu=asked)
        with open_session(settings, Progress("lines")) as other:
            assert other is not session
            return other.gpu

    assert contextvars.Context().run(opened) is False  # a context of its own, in which no session is open
    assert ("no worker offers the resource GPU" in capsys.readouterr().err) == noted
