"""infra/README.md names what is there: files, variables, deployments, commands. It is read at the worst moment."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dask
import distributed  # noqa: F401  # brings Dask's settings of a cluster
import pytest
import typer

from flows.cli import app
from infra.healthy import PARTS
from infra.prefect_file import read_prefect_file
from infra.settings import PREFIX, Settings
from tests.infra.deploy_files import INFRA, ROOT, documents, tool

RUNBOOK = (INFRA / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```\n(.*?)```", RUNBOOK, flags=re.DOTALL)) + "\n".join(
    re.findall(r"`([^`\n]+)`", RUNBOOK)
)
_INSTALLED = r"install .*infra/systemd/(\S+)\.example (/\S+)/(\S+)"
EXIT_CODES = ["0", "1", "2", "3", "4", "5", "6", "130"]


def _outside() -> str:
    return "\n".join(path.read_text() for path in (INFRA / "systemd").glob("*.service")) + CODE


def test_runbook__every_path_in_it_is_there() -> None:
    named = set(re.findall(r"(?<![\w/.-])infra/[\w./*@-]+\w", CODE)) - {"infra/.env"}
    assert len(named) >= 8
    assert [path for path in sorted(named) if not (list(ROOT.glob(path)) or (ROOT / path).exists())] == []


def test_runbook__its_table_of_files_leaves_none_out() -> None:
    table = RUNBOOK.partition("## Files")[2]
    deployed = [path for path in INFRA.iterdir() if path.suffix in (".yaml", ".sh", ".example") or path.is_dir()]
    names = [path.name for path in [*deployed, INFRA / "Dockerfile"] if path.name not in ("__pycache__", "tls")]
    assert [name for name in names if f"`{name}`" not in table and f"`{name}/`" not in table] == []
    assert [path.stem for path in (INFRA / "cluster_specs").glob("*.yaml") if f"`{path.stem}`" not in table] == []


@pytest.mark.parametrize("path", [INFRA / "README.md", ROOT / "docs" / "files.md"], ids=lambda path: path.name)
def test_runbook__a_table_has_a_head_so_that_every_row_is_shown_as_one(path: Path) -> None:
    """Behind an empty line a row without a head of its own is shown as it stands, full of bars."""
    lines = path.read_text(encoding="utf-8").splitlines()
    firsts = [number for number, line in enumerate(lines) if line[:1] == "|" and lines[number - 1][:1] != "|"]
    assert len(firsts) >= 5
    assert [lines[number] for number in firsts if not re.fullmatch(r"[|-]+", lines[number + 1])] == []


def test_runbook__the_deployments_it_starts_are_deployed() -> None:
    deployed = {f"{each.name}/{each.name}" for each in read_prefect_file(INFRA / "prefect.yaml")}
    named = set(re.findall(r"prefect deployment run (\S+)", CODE))
    assert named
    assert named <= deployed


def test_runbook__every_setting_it_names_is_one() -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+[A-Z]\b", _outside()))
    assert named
    assert {name.removeprefix(PREFIX).lower() for name in named} <= Settings.model_fields.keys()


def test_runbook__the_units_it_enables_are_there() -> None:
    named = {
        name for name in re.findall(r"stakeweight-[a-z]+-[a-z]+@?", CODE) if not name.startswith("stakeweight-cpu")
    }
    there = {path.stem for path in (INFRA / "systemd").glob("*.service")}
    assert {name for name in named if name.startswith(("stakeweight-prefect", "stakeweight-dask"))} == {
        name for name in there if name != "stakeweight-watch@"
    }
    assert "stakeweight-watch@" in there
    assert "systemd/*.timer" in CODE


def test_runbook__makes_every_file_of_variables_that_a_unit_needs() -> None:
    needed = set(re.findall(r"^EnvironmentFile=(/\S+)$", _outside(), flags=re.MULTILINE))
    assert len(needed) == 3
    made = {f"{folder}/{name}" for name, folder, same in re.findall(_INSTALLED, CODE) if name == same}
    assert made == needed


def _commands(program: str) -> Iterator[list[str]]:
    """Every call of a program in the runbook, as words."""
    for line in re.findall(rf"(?:^|inside |&& |- |`){program} ([^`\n']+)", CODE, flags=re.MULTILINE):
        yield shlex.split(line.replace("…", ""), comments=True)


def test_runbook__every_call_of_stakeweight_is_one_that_it_understands() -> None:
    group = typer.main.get_command(app)
    calls = list(_commands("stakeweight"))
    assert {call[0] for call in calls} == {"certificates", "doctor", "resolve", "verify"}
    for call in calls:
        command = group.commands[call[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in call if word.startswith("--")} <= known, call


def test_runbook__every_call_of_prefect_is_one_that_it_understands() -> None:
    options = dict[tuple[str, ...], set[str]]()
    for call in _commands("prefect"):
        options.setdefault(tuple(call[:2]), set()).update(word for word in call if word.startswith("--"))
    assert len(options) >= 8
    for verbs, named in options.items():
        shown = subprocess.run([tool("prefect"), *verbs, "--help"], capture_output=True, text=True, check=True).stdout
        assert [word for word in named if not re.search(rf"{word}\b", shown)] == [], verbs


def test_runbook__whatever_asks_prefect_or_the_cluster_is_run_where_they_can_be_reached() -> None:
    """On a host of compose or a machine of an administrator there is neither an address nor a password."""
    blocks = re.findall(r"```\n(.*?)```", RUNBOOK, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    bare = [line for line in lines if re.match(r"(prefect|stakeweight) (?!certificates )", line)]
    assert bare == []
    assert len([line for line in lines if line.startswith("inside() {")]) == 3


@pytest.mark.parametrize("code", EXIT_CODES)
def test_runbook__says_what_to_do_at_every_exit_code(code: str) -> None:
    assert RUNBOOK.count(f"\n| {code} | ") == 1


def test_runbook__makes_every_secret_that_the_manifests_name() -> None:
    made = set(re.findall(r"create secret generic ([\w$-]+)", CODE))
    roles = re.search(r"for role in (.+); do", CODE)
    assert roles is not None
    made |= {f"dask-{role}-tls" for role in roles[1].split()}
    named = set()
    for path in (INFRA / "kubernetes").glob("*.yaml"):
        for each in documents(path):
            named |= set(re.findall(r"(?:secretName|secretRef|secretKeyRef)': (?:\{'name': )?'([\w-]+)'", str(each)))
    assert len(named) >= 5
    assert named <= made


def test_runbook__the_times_it_states_are_those_of_the_files() -> None:
    assert "no-workers-timeout: 300s" in (INFRA / "dask.yaml").read_text()
    assert "`no-workers-timeout` 300 s" in RUNBOOK
    assert f"`STAKEWEIGHT_UNIT_LIMIT_S` {Settings().unit_limit_s:.0f} s" in RUNBOOK
    assert f"`STAKEWEIGHT_CONNECT_LIMIT_S` {Settings().connect_limit_s:.0f} s" in RUNBOOK
    assert "within: 120" in (INFRA / "automations" / "dead_runs.yaml").read_text()
    assert "120 s without a heartbeat" in RUNBOOK
    silent = [PARTS[part].patience_s for part in ("dask-scheduler", "prefect-worker", "dask-worker")]
    assert "no answer for {:.0f} s, {:.0f} s, {:.0f} s".format(*silent) in RUNBOOK
    assert PARTS["prefect-server"].patience_s == silent[0]
    assert dask.config.get("distributed.scheduler.worker-ttl") == "5 minutes"
    assert "`worker-ttl` 300 s" in RUNBOOK
    for place in (Path("compose.yaml"), Path("kubernetes/dask-cluster.yaml"), Path("kubernetes/dask-gpu-workers.yaml")):
        assert "--death-timeout=60" in (INFRA / place).read_text()
