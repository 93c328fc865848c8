"""The automations of `infra/automations` on a real server: who is told of a failed run, and what becomes of a dead one.

Told is a block of the kind Custom Webhook, which posts to a server of this test; it may be on loopback.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services.conftest import Deployed, Services
from tests.services.prefect_server import PrefectServer
from tests.services.service import ROOT
from tests.services.webhook import Webhook, webhook

pytestmark = pytest.mark.services

FOLDER = ROOT / "infra" / "automations"
RESOLVE_DUE = "resolve-due/resolve-due"
WITHIN_S = 15
"""In place of 120 s; only one run lives while the automation does, and it is killed."""
QUIET_S = 3.0
"""Time in which a second notification would come."""


@contextmanager
def automation(prefect: PrefectServer, file: Path) -> Iterator[None]:
    """Makes an automation as the runbook does."""
    before = {each["id"] for each in prefect.ask("automations/filter", {})}
    prefect.command("automation", "create", "--from-file", str(file))
    made = [each["id"] for each in prefect.ask("automations/filter", {}) if each["id"] not in before]
    try:
        assert len(made) == 1
        yield
    finally:
        for each in made:
            prefect.delete(f"automations/{each}")


def changed(name: str, folder: Path, before: str, after: str) -> Path:
    """A copy of an automation's file with one thing replaced."""
    text = (FOLDER / name).read_text()
    assert before in text
    copy = folder / name
    copy.write_text(text.replace(before, after))
    return copy


def notification_block(prefect: PrefectServer, url: str) -> str:
    """Makes the block that says whom to tell, as the page does; returns its id."""
    kind = prefect.ask("block_types/slug/custom-webhook")["id"]
    (schema, *_) = prefect.ask("block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    data = {"name": "told", "url": url, "json_data": {"subject": "{{subject}}", "body": "{{body}}"}}
    wanted = {"name": "told", "block_type_id": kind, "block_schema_id": schema["id"], "data": data}
    return str(prefect.ask("block_documents/", wanted)["id"])


def until(reached: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.5)


def told_once(somebody: Webhook, run: Mapping[str, Any], state: str) -> str:
    """The only notification of a run; fails where there is none or another one."""
    until(lambda: somebody.told, f"{run['name']} is told")
    time.sleep(QUIET_S)
    (told,) = somebody.told
    somebody.told.clear()
    assert told["subject"] == f"stakeweight: resolve-due {state}"
    assert f"Run {run['name']} of resolve-due: " in told["body"]
    return told["body"]


@pytest.fixture(scope="module")
def somebody(services: Services, deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """Who is told while the automation for failed runs is there."""
    folder = tmp_path_factory.mktemp("automations")
    with webhook() as somebody:
        block = notification_block(services.prefect, somebody.url)
        file = changed(
            "failed_runs.yaml", folder, "block_document_id: NOTIFICATION_BLOCK_ID", f"block_document_id: {block}"
        )
        with automation(services.prefect, file):
            yield somebody


def test_failed_runs__one_that_fails_is_told_once_and_one_that_completes_is_not(
    services: Services, somebody: Webhook, weekly: Mapping[str, Any]
) -> None:
    completed = services.prefect.run_deployment(RESOLVE_DUE)
    assert completed["state_type"] == "COMPLETED", services.prefect.said(completed["id"])
    run = services.prefect.run_deployment(RESOLVE_DUE, data=services.store.location("nowhere"))
    assert run["state_type"] == "FAILED"
    body = told_once(somebody, run, "Failed")
    assert "nowhere/tournament.toml: there is no such file" in body
    assert f"{services.prefect.ui}/runs/flow-run/{run['id']}" in body


def test_dead_runs__one_whose_machine_went_away_is_crashed_and_the_next_one_takes_its_place(
    services: Services, deployed: Deployed, somebody: Webhook, weekly: Mapping[str, Any], tmp_path: Path
) -> None:
    """The worker is killed with the process of the run: a worker that lives would tell of the run's end by itself."""
    prefect, out = services.prefect, services.store.location("dead")
    file = changed("dead_runs.yaml", tmp_path, "within: 120", f"within: {WITHIN_S}")
    with automation(prefect, file):
        dead = prefect.start_deployment(RESOLVE_DUE, out=out)
        until(lambda: heard(prefect, dead), "the run is heard")
        deployed.worker.kill()
        assert prefect.ask(f"flow_runs/{dead}")["state_type"] == "RUNNING"
        following = prefect.start_deployment(RESOLVE_DUE, out=out)
        deployed.worker.start()
        assert prefect.ask(f"flow_runs/{following}")["state_type"] == "SCHEDULED"
        crashed = prefect.ended(dead, 60.0)
        assert prefect.ask(f"flow_runs/{following}")["start_time"] is None
    assert crashed["state_type"] == "CRASHED"
    assert crashed["state"]["message"].startswith("not heard for")
    run = prefect.ended(following)
    assert run["state_type"] == "COMPLETED", prefect.said(following)
    assert services.store.files("dead") == services.store.files(deployed.out)
    assert "not heard for" in told_once(somebody, crashed, "Crashed")


def heard(prefect: PrefectServer, run: str) -> bool:
    """Whether the server has a heartbeat of a run."""
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    return bool(prefect.ask("events/filter", {"filter": wanted})["events"])
