"""infra/prefect.yaml, its strict reader, the script that deploys it, and the automations beside it."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, RawScheduleConfig, WorkPoolConfig
from prefect.events.schemas.automations import AutomationCore

from infra import prefect_file
from infra.errors import InfraError
from infra.prefect_file import Deployment, read_prefect_file, unset_variables
from tests.infra.deploy_files import INFRA, ROOT, documents, planted

FILE = INFRA / "prefect.yaml"
BLOCK = "0c2a7d1e-5b1f-4c58-9f77-000000000001"


def _deployments() -> dict[str, Deployment]:
    return {each.name: each for each in read_prefect_file(FILE)}


def test_read_prefect_file__the_weekly_run_and_the_daily_scores_have_a_schedule_and_a_backfill_has_none() -> None:
    found = _deployments()
    assert {name: [each.cron for each in one.schedules] for name, one in found.items()} == {
        "resolve-due": ["0 12 * * 6"],
        "score-open": ["0 6 * * *"],
        "backfill": [],
    }
    assert {each.timezone for one in found.values() for each in one.schedules} == {"America/New_York"}


def test_read_prefect_file__what_publishes_shares_one_queue_that_the_script_limits_to_one_run() -> None:
    found = _deployments()
    publishing = {name for name, one in found.items() if one.queue == "resolve"}
    assert publishing == {"resolve-due", "backfill"}
    script = (INFRA / "deploy.sh").read_text()
    queues = re.search(r"^for queue in (.+); do$", script, flags=re.MULTILINE)
    assert queues is not None
    assert set(queues[1].split()) == {one.queue for one in found.values()}
    assert 'set-concurrency-limit "$queue" 1 --pool stakeweight' in script
    assert {one.pool for one in found.values()} == {"stakeweight"}


def test_read_prefect_file__the_entrypoints_are_flows_that_take_the_parameters() -> None:
    for name, one in _deployments().items():
        module, _, flow = one.entrypoint.rpartition(".")
        found = getattr(importlib.import_module(module), flow)
        assert found.name == name
        inspect.signature(found.fn).bind(**one.parameters)


def test_read_prefect_file__knows_no_key_that_prefect_does_not_know() -> None:
    aliases = {field.alias or name for name, field in PrefectYamlModel.model_fields.items()}
    assert set(prefect_file.FILE_KEYS) <= aliases
    assert set(prefect_file.DEPLOYMENT_KEYS) <= DeploymentConfig.model_fields.keys()
    assert set(prefect_file.POOL_KEYS) <= WorkPoolConfig.model_fields.keys()
    assert set(prefect_file.SCHEDULE_KEYS) <= RawScheduleConfig.model_fields.keys()
    PrefectYamlModel.model_validate(yaml.safe_load(FILE.read_text()))


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("    schedules:\n", "    shedules:\n", "there is no key 'shedules' (did you mean 'schedules'?)"),
        ("timezone: America", "timezon: America", "there is no key 'timezon' (did you mean 'timezone'?)"),
        ("        timezone: America/New_York\n", "", "needs 'timezone'"),
        ("work_queue_name: resolve", "work_queue: resolve", "did you mean 'work_queue_name'?"),
        ("America/New_York", "America/New_Yrok", 'Invalid timezone: "America/New_Yrok"'),
        ('"0 12 * * 6"', '"0 12 * * 9"', 'Invalid cron string: "0 12 * * 9"'),
        ('"0 12 * * 6"', '"0 12 30 2 *"', "'0 12 30 2 *' never fires"),
        ('"0 12 * * 6"', '"0 0 12 * * 6"', "cron must be a text of five fields"),
        ('"0 12 * * 6"', "12", "cron must be a text of five fields, found 12"),
        ("flows.deployments.backfill", "flows/deployments.py:backfill", "must be the import path of a flow"),
        ("pull: []", "pull: null", "pull must be []"),
        ("name: backfill", "name: resolve-due", "deployment 'resolve-due' stands there twice"),
        ("data: ", "dta: ", "there is no key 'dta' (did you mean 'data'?)"),
        ("deployments:\n", "deployment:\n", "there is no key 'deployment' (did you mean 'deployments'?)"),
        ("deployments:\n", "deployments: [\n", "while parsing"),
    ],
)
def test_read_prefect_file__refuses_what_prefect_lets_pass(
    right: str, wrong: str, message: str, tmp_path: Path
) -> None:
    path = planted(FILE, right, wrong, tmp_path / "prefect.yaml")
    with pytest.raises(InfraError) as raised:
        read_prefect_file(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "[]", "deployments: 3\npull: []", "deployments: [3]\npull: []"])
def test_read_prefect_file__says_in_one_line_what_is_no_such_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(InfraError, match=r"must be a (mapping|list)"):
        read_prefect_file(path)


def test_read_prefect_file__names_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="No such file"):
        read_prefect_file(tmp_path / "prefect.yaml")


def test_unset_variables__are_those_that_are_missing_or_empty() -> None:
    found = read_prefect_file(FILE)
    assert unset_variables(found, {}) == ["TOURNAMENT_DATA", "TOURNAMENT_OUT"]
    assert unset_variables(found, {"TOURNAMENT_DATA": "", "TOURNAMENT_OUT": "out"}) == ["TOURNAMENT_DATA"]
    assert unset_variables(found, {"TOURNAMENT_DATA": "data", "TOURNAMENT_OUT": "out"}) == []


def _checked(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.prefect_file", path]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_main__ends_with_2_and_one_line_where_deploying_would_go_wrong(tmp_path: Path) -> None:
    good = _checked(FILE, TOURNAMENT_DATA="data", TOURNAMENT_OUT="out")
    assert (good.returncode, good.stderr) == (0, "")
    unset = _checked(FILE, TOURNAMENT_DATA="data")
    assert (unset.returncode, unset.stderr.count("\n")) == (2, 1)
    assert "set TOURNAMENT_OUT before deploying" in unset.stderr
    bad = _checked(planted(FILE, "cron:", "corn:", tmp_path / "prefect.yaml"))
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)


def test_deploy_sh__is_a_shell_script_that_can_be_run() -> None:
    script = INFRA / "deploy.sh"
    assert script.stat().st_mode & 0o111 == 0o111
    subprocess.run(["sh", "-n", script], check=True)


def test_deploy_sh__stops_before_it_asks_prefect_anything_where_a_variable_is_missing() -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    result = subprocess.run(["sh", INFRA / "deploy.sh"], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert "set TOURNAMENT_DATA, TOURNAMENT_OUT before deploying" in result.stderr


def _automations(name: str) -> list[dict[str, Any]]:
    [found] = documents(INFRA / "automations" / name)
    text = yaml.safe_dump(found["automations"]).replace("NOTIFICATION_BLOCK_ID", BLOCK)
    return list(yaml.safe_load(text))


def _unknown_keys(given: Any, understood: Any, where: str = "") -> list[str]:
    """Keys of the file that Prefect read over."""
    if isinstance(given, dict) and isinstance(understood, dict):
        own = [f"{where}.{key}" for key in given if key not in understood]
        return own + [
            each for key in given if key in understood for each in _unknown_keys(given[key], understood[key], key)
        ]
    if isinstance(given, list) and isinstance(understood, list):
        pairs = zip(given, understood, strict=True)
        return [each for pair in pairs for each in _unknown_keys(*pair, where)]
    return []


@pytest.mark.parametrize("name", ["dead_runs.yaml", "failed_runs.yaml"])
def test_automations__prefect_understands_every_word(name: str) -> None:
    for given in _automations(name):
        understood = AutomationCore.model_validate(given).model_dump(mode="json", by_alias=True)
        spread = understood["trigger"]
        for key in ("expect", "after", "for_each"):
            assert sorted(spread[key]) == sorted(given["trigger"].get(key, []))
        assert _unknown_keys(given, understood) == []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("dead_runs.yaml", "posture:", "postrue:"),
        ("dead_runs.yaml", "Proactive", "Proactiv"),
        ("dead_runs.yaml", "change-flow-run-state", "change-flow-state"),
        ("dead_runs.yaml", "within: 120", "within: 1"),
        ("dead_runs.yaml", "    enabled:", "    enabeld:"),
        ("failed_runs.yaml", "block_document_id", "block_id"),
        ("failed_runs.yaml", "match_related", "match_relatd"),
    ],
)
def test_automations__a_planted_mistake_is_found(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    text = planted(INFRA / "automations" / name, right, wrong, tmp_path / name).read_text()
    [given] = yaml.safe_load(text.replace("NOTIFICATION_BLOCK_ID", BLOCK))["automations"]
    try:
        understood = AutomationCore.model_validate(given).model_dump(mode="json", by_alias=True)
    except ValueError:
        return
    assert _unknown_keys(given, understood)


def test_automations__a_run_is_given_up_later_than_it_is_heard() -> None:
    heartbeats = {
        int(each)
        for path in INFRA.rglob("*")
        if path.suffix in (".yaml", ".service")
        for each in re.findall(r'PREFECT_FLOWS_HEARTBEAT_FREQUENCY[:=]\s*"?(\d+)', path.read_text())
    }
    [dead] = _automations("dead_runs.yaml")
    assert heartbeats == {30}
    assert dead["trigger"]["within"] >= 3 * max(heartbeats)
