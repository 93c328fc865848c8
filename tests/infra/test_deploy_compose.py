"""infra/compose.yaml: its schema, and what the schema cannot say: secrets, ports, certificates, health and restarts."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.healthy import LIMIT_S, PARTS
from infra.settings import PREFIX, Settings
from tests.infra.deploy_files import INFRA, SECRET_NAME, documents, planted, stages, tool

COMPOSE = INFRA / "compose.yaml"
ONCE = {"prefect-migrate", "prefect-deploy"}
"""Services that run to their end; every other one lives for ever."""
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(:[?-])?")


def _services(path: Path) -> dict[str, Any]:
    [compose] = documents(path)
    return dict(compose["services"])


def _schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "--no-cache", path]
    return subprocess.run(command, capture_output=True, text=True)


def _problems(path: Path) -> Iterator[str]:
    [compose] = documents(path)
    services = compose["services"]
    for name, service in services.items():
        yield from _service_problems(name, service)
        for other in service.get("depends_on", {}):
            if other not in services:
                yield f"{name} depends on {other}, which is not there"
        yield from (f"{name}: no network {each}" for each in service["networks"] if each not in compose["networks"])
        for each in service.get("secrets", []):
            if each["source"] not in compose["secrets"]:
                yield f"{name}: no secret {each['source']}"
        for each in service.get("volumes", []):
            if each.partition(":")[0] not in compose["volumes"]:
                yield f"{name}: no volume {each}"
    for name, secret in compose["secrets"].items():
        if not secret["file"].startswith("${"):
            yield f"secret {name} is not named by a variable"


def _service_problems(name: str, service: dict[str, Any]) -> Iterator[str]:
    if service.get("restart") != ("on-failure" if name in ONCE else "unless-stopped"):
        yield f"{name}: restart is {service.get('restart')}"
    if "test" not in service.get("healthcheck", {}) and name not in ONCE:
        yield f"{name} has no health check"
    if "build" in service and name not in ONCE:
        yield from _watch_problems(name, service)
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield f"{name} may gain privileges"
    if not re.search(r":[\w.-]*\d", str(service["image"]).replace(":-", "")):
        yield f"{name}: the image has no version: {service['image']}"
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            yield f"{name} listens on the network: {port}"
    for key, value in service.get("environment", {}).items():
        if SECRET_NAME.search(key) and not re.search(r"\$\{[A-Z_]+:\?", str(value)):
            yield f"{name}: {key} must be given by a variable that has to be set"
        if key.startswith(PREFIX) and key.removeprefix(PREFIX).lower() not in Settings.model_fields:
            yield f"{name}: there is no setting {key}"
    command = service.get("command", [])
    if command[:1] == ["dask"]:
        address = " ".join(each for each in command if "://" in each)
        if address.startswith("tcp://") or "tls" not in " ".join(command):
            yield f"{name} does not speak TLS"
        if not any(each.startswith("127.0.0.1:") or "=127.0.0.1:" in each for each in command):
            yield f"{name}: its page has no password and must stay on loopback"


def _watch_problems(name: str, service: dict[str, Any]) -> Iterator[str]:
    """Docker leaves a container that hangs as it is: its check has to end it, which takes an init of its own."""
    check = service["healthcheck"]
    *command, part = check.get("test", ["none"])
    if command != ["CMD", "python", "-m", "infra.healthy", "--end", "--part"] or part != name.removesuffix("-gpu"):
        yield f"{name} is not ended when it hangs"
    elif int(check["timeout"].removesuffix("s")) <= PARTS[part].patience_s + LIMIT_S or check["retries"] != 1:
        yield f"{name}: the check ends before the part's patience does"
    if service.get("init") is not True or "pid" in service:
        yield f"{name} has no init of its own"


def test_compose__is_of_the_compose_specification() -> None:
    assert _schema(COMPOSE).returncode == 0, _schema(COMPOSE).stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "healthchek:"),
        ("restart: unless-stopped", "restart: [1]"),
        ("condition: service_healthy", "condition: service_fine"),
        ("cap_drop: [ALL]", "cap_drop: ALL"),
        ("    image: postgres:15.14-bookworm", "    immage: postgres:15.14-bookworm"),
    ],
)
def test_compose__the_schema_refuses_a_planted_mistake(right: str, wrong: str, tmp_path: Path) -> None:
    assert _schema(planted(COMPOSE, right, wrong, tmp_path / "compose.yaml")).returncode == 1


def test_compose__restarts_checks_health_keeps_secrets_out_and_stays_off_the_network() -> None:
    assert list(_problems(COMPOSE)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ('"127.0.0.1:4200:4200"', '"4200:4200"', "listens on the network"),
        ("${POSTGRES_PASSWORD:?password of the database, letters and digits}", "prefect", "POSTGRES_PASSWORD must be"),
        ("${AWS_SECRET_ACCESS_KEY:?secret key", "${AWS_SECRET_ACCESS_KEY:-secret key", "AWS_SECRET_ACCESS_KEY must be"),
        ("tls://dask-scheduler:8786\n      - --protocol=tls", "tcp://dask-scheduler:8786", "does not speak TLS"),
        ("--dashboard-address=127.0.0.1:8788", "--dashboard-address=:8788", "must stay on loopback"),
        ("STAKEWEIGHT_SCHEDULER:", "STAKEWEIGHT_SHEDULER:", "there is no setting"),
        ("restart: unless-stopped", 'restart: "no"', "restart is no"),
        ("{postgres: {condition", "{postgress: {condition", "which is not there"),
        ("source: dask_client", "source: dask_klient", "no secret"),
        ('["spill:/spill"]', '["spil:/spill"]', "no volume"),
        ("--part, dask-scheduler", "--part, dask-worker", "dask-scheduler is not ended when it hangs"),
        ("--end, --part, dask-worker", "--part, dask-worker", "dask-worker-gpu is not ended when it hangs"),
        ("timeout: 660s", "timeout: 600s", "the check ends before"),
        ("init: true", "init: false", "no init"),
        ("postgres:15.14-bookworm", "postgres:latest", "no version"),
    ],
)
def test_compose__a_planted_mistake_is_found(right: str, wrong: str, problem: str, tmp_path: Path) -> None:
    found = list(_problems(planted(COMPOSE, right, wrong, tmp_path / "compose.yaml")))
    assert any(problem in each for each in found), found


def test_compose__each_part_of_dask_has_its_own_certificate_and_no_other() -> None:
    roles = {
        "prefect-worker": "client",
        "dask-scheduler": "scheduler",
        "dask-worker": "worker",
        "dask-worker-gpu": "worker",
    }
    given = {
        name: sorted(Path(each["target"]).name for each in service["secrets"])
        for name, service in _services(COMPOSE).items()
        if "secrets" in service
    }
    assert given == {name: sorted(["ca.pem", "dask.yaml", f"{role}.pem"]) for name, role in roles.items()}


def test_compose__the_gpu_worker_has_a_device_and_offers_it_and_the_others_do_not() -> None:
    services = _services(COMPOSE)
    assert "--resources=GPU=1" in services["dask-worker-gpu"]["command"]
    [device] = services["dask-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert [name for name, each in services.items() if "GPU" in str(each.get("command"))] == ["dask-worker-gpu"]
    targets = {each["build"]["target"] for each in services.values() if "build" in each}
    assert targets == {"cpu", "gpu"} <= stages(INFRA / "Dockerfile").keys()


def test_compose__only_the_prefect_server_and_the_migration_reach_the_data_base() -> None:
    [compose] = documents(COMPOSE)
    assert [name for name, each in compose["services"].items() if "database" in each["networks"]] == [
        "postgres",
        "prefect-migrate",
        "prefect-server",
    ]
    assert compose["networks"]["database"] == compose["networks"]["store"] == {"internal": True}


def test_compose__the_example_of_variables_names_every_one_and_holds_no_secret() -> None:
    used = {name: kind for name, kind in _VARIABLE.findall(COMPOSE.read_text()) if name != "NAME"}
    example = dict(
        line.split("=", 1)
        for line in (INFRA / "compose.env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert example.keys() == used.keys()
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE.read_text()))
    assert example == {name: defaults.get(name, "") for name in example}
