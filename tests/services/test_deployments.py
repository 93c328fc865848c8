"""The deployments of `infra/prefect.yaml`, carried out by a process worker on the cluster, by hand and on schedule."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.services.commands import stakeweight
from tests.services.conftest import SPEC, Deployed, Services

pytestmark = pytest.mark.services

DEPLOYMENTS = {"resolve-due/resolve-due", "score-open/score-open", "backfill/backfill"}
SOON = timedelta(seconds=8)


def assert_completed(services: Services, run: Mapping[str, Any]) -> None:
    assert run["state_type"] == "COMPLETED", services.prefect.said(run["id"])


def published_rounds(services: Services, out: str) -> set[int]:
    names = services.store.files(f"{out}/manifests")
    return {int(name.partition("/")[0].removeprefix("round=")) for name in names}


def test_deploy__makes_the_three_deployments_with_their_schedules_and_one_publisher_at_a_time(
    services: Services, deployed: Deployed
) -> None:
    found = services.prefect.ask("deployments/filter", {})
    flows = {flow["id"]: flow["name"] for flow in services.prefect.ask("flows/filter", {})}
    assert {f"{flows[each['flow_id']]}/{each['name']}" for each in found} == DEPLOYMENTS
    schedules = {each["name"]: [s["schedule"].get("cron") for s in each["schedules"]] for each in found}
    assert schedules == {"resolve-due": ["0 12 * * 6"], "score-open": ["0 6 * * *"], "backfill": []}
    queues = services.prefect.ask("work_pools/stakeweight/queues/filter", {})
    assert {queue["concurrency_limit"] for queue in queues if queue["name"] == "resolve"} == {1}
    assert {each["work_queue_name"] for each in found if each["name"] != "score-open"} == {"resolve"}


def test_resolve_due__by_hand_completes_and_publishes_every_round_that_is_due(
    services: Services, deployed: Deployed, weekly: Mapping[str, Any]
) -> None:
    assert_completed(services, weekly)
    assert published_rounds(services, deployed.out) == set(SPEC.round_numbers)
    for number in SPEC.round_numbers:
        arguments = ("--out", services.store.location(deployed.out), "--round", str(number))
        done = stakeweight("verify", *arguments, environment=services.environment)
        assert done.returncode == 0, done.stdout + done.stderr


def test_resolve_due__leaves_a_table_of_every_round_in_prefect(services: Services, weekly: Mapping[str, Any]) -> None:
    query = {"artifacts": {"flow_run_id": {"any_": [weekly["id"]]}}}
    found = {each["key"]: each["type"] for each in services.prefect.ask("artifacts/filter", query)}
    assert {f"round-{number}": "table" for number in SPEC.round_numbers}.items() <= found.items()


def test_backfill__of_some_rounds_publishes_these_alone_with_the_same_bytes(
    services: Services, deployed: Deployed, weekly: Mapping[str, Any]
) -> None:
    out = services.store.location("some")
    run = services.prefect.run_deployment("backfill/backfill", out=out, rounds="1-2")
    assert_completed(services, run)
    some = services.store.files("some")
    assert published_rounds(services, "some") == {1, 2}
    everything = services.store.files(deployed.out)
    assert some == {name: everything[name] for name in some}


def test_backfill__a_second_run_publishes_nothing(
    services: Services, deployed: Deployed, weekly: Mapping[str, Any]
) -> None:
    before = services.store.files(deployed.out)
    assert_completed(services, services.prefect.run_deployment("backfill/backfill"))
    assert services.store.files(deployed.out) == before


def test_resolve_due__with_a_tournament_that_is_not_there_fails_and_says_so(
    services: Services, deployed: Deployed
) -> None:
    run = services.prefect.run_deployment("resolve-due/resolve-due", data=services.store.location("nowhere"))
    assert run["state_type"] == "FAILED"
    deadline = time.monotonic() + 30  # logs come in batches, and may come after the state
    while not (said := services.prefect.said(run["id"])) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "nowhere/tournament.toml: there is no such file" in said


@contextmanager
def due_soon(services: Services, name: str, **parameters: str) -> Iterator[tuple[str, datetime]]:
    """A schedule of a deployment that is due in a few seconds, and then not again during the test."""
    deployment = services.prefect.ask(f"deployments/name/{name}/{name}")["id"]
    due = datetime.now(UTC) + SOON
    interval = {"interval": 86_400, "anchor_date": due.isoformat(), "timezone": "UTC"}
    path = f"deployments/{deployment}/schedules"
    wanted = {"active": True, "schedule": interval, "slug": "soon", "parameters": parameters}
    (made,) = services.prefect.ask(path, [wanted])
    yield deployment, due
    services.prefect.delete(f"{path}/{made['id']}")


def picked_up(services: Services, deployment: str, due: datetime) -> Mapping[str, Any]:
    """The run that is scheduled for this moment, once the worker has carried it out."""
    second = timedelta(seconds=1)
    moment = {"after_": (due - second).isoformat(), "before_": (due + second).isoformat()}
    query = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": {"expected_start_time": moment}}
    deadline = time.monotonic() + 60
    while not (found := services.prefect.ask("flow_runs/filter", query)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [each["auto_scheduled"] for each in found] == [True], services.prefect.service.spec.printed()[-2000:]
    run = services.prefect.ended(found[0]["id"])
    assert_completed(services, run)
    early = due - datetime.fromisoformat(run["start_time"])
    assert timedelta(seconds=-120) <= early <= second  # Prefect's worker rounds to seconds
    return run


def test_schedule__is_picked_up_by_the_worker_when_it_is_due(services: Services, deployed: Deployed) -> None:
    with due_soon(services, "score-open") as (deployment, due):
        picked_up(services, deployment, due)


def test_schedule__that_missed_weeks_catches_up_in_the_order_in_which_rounds_resolve(
    services: Services, deployed: Deployed, weekly: Mapping[str, Any], data: str
) -> None:
    """Round 1 was published in its week; one scheduled run publishes 2, then 3, and leaves round 1 as it is."""
    everything = services.store.files(deployed.out)
    for name, content in everything.items():
        if "/round=1/" in name:
            services.store.put(f"late/{name}", content)
    before = services.store.created("late")
    with due_soon(services, "resolve-due", data=data, out=services.store.location("late")) as (deployment, due):
        assert published_rounds(services, "late") == {1}
        picked_up(services, deployment, due)
    assert services.store.files("late") == everything
    created = services.store.created("late")
    assert {name: created[name] for name in before} == before
    second, third = ({at for name, at in created.items() if f"/round={number}/" in name} for number in (2, 3))
    assert max(second) <= min(third)
    assert created["manifests/round=2/1.json"] < created["manifests/round=3/1.json"]
