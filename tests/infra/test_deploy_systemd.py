"""infra/systemd: supervised for ever and when they hang, hardened, secrets in files of root's, known options."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.healthy import PARTS, part_of
from infra.settings import PREFIX, Settings
from tests.infra.deploy_files import INFRA, SECRET_NAME, planted, tool

FOLDER = INFRA / "systemd"
WATCH, TIMER = FOLDER / "stakeweight-watch@.service", FOLDER / "stakeweight-watch@.timer"
UNITS = sorted(path for path in FOLDER.glob("*.service") if path != WATCH)
HARDENING = {
    "NoNewPrivileges": "true",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "RestrictSUIDSGID": "true",
    "LockPersonality": "true",
    "UMask": "0077",
}
BIN = "/opt/stakeweight/.venv/bin/"


def _entries(path: Path) -> list[tuple[str, str, str]]:
    """Section, key and value of each line; a key may stand there more than once, so no configparser."""
    section, found = "", list[tuple[str, str, str]]()
    for line in path.read_text(encoding="utf-8").replace("\\\n", "").splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif line and not line.startswith("#"):
            key, separator, value = line.partition("=")
            assert separator, f"{path.name}: {line!r}"
            found.append((section, key, value))
    return found


def _problems(path: Path) -> Iterator[str]:
    entries = _entries(path)
    service = {key: value for section, key, value in entries if section == "Service"}
    wanted = {**HARDENING, "Restart": "always", "User": "stakeweight"}
    yield from (f"{key} is {service.get(key)!r}" for key, value in wanted.items() if service.get(key) != value)
    part = path.stem.removeprefix("stakeweight-").replace("@", "@%i")
    if ("Unit", "Wants", f"stakeweight-watch@{part}.timer") not in entries:
        yield "is not watched"
    if ("Unit", "StartLimitIntervalSec", "0") not in entries:
        yield "gives up after five starts"
    if "TimeoutStopSec" not in service:
        yield "may take for ever to stop"
    if not any(key == "EnvironmentFile" and not value.startswith("-") for _, key, value in entries):
        yield "has no file for its secrets"
    if ("Install", "WantedBy", "multi-user.target") not in entries:
        yield "is not started with the machine"
    for _, key, value in entries:
        if key == "Environment":
            yield from (
                f"a secret: {each}" for each in shlex.split(value) if SECRET_NAME.search(each.partition("=")[0])
            )
    command = service.get("ExecStart", "")
    if "dask" in command and ("--protocol tls" not in command or "--dashboard-address 127.0.0.1:" not in command):
        yield "speaks no TLS, or shows its page to the network"
    if "prefect server" in command and "--host 127.0.0.1" not in command:
        yield "shows the server to the network"


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd__every_unit_is_supervised_hardened_and_without_secrets(unit: Path) -> None:
    assert list(_problems(unit)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("Restart=always", "Restart=on-failure", "Restart"),
        ("Restart=always", "Restrat=always", "Restart"),
        ("ProtectSystem=strict", "", "ProtectSystem"),
        ("StartLimitIntervalSec=0", "", "gives up"),
        ("Wants=stakeweight-watch@", "Wants=stakeweight-wacht@", "is not watched"),
        ("Environment=PREFECT_HOME", "Environment=PREFECT_SERVER_API_AUTH_STRING=a:b PREFECT_HOME", "a secret"),
        ("EnvironmentFile=", "EnvironmentFile=-", "no file for its secrets"),
        ("--host 127.0.0.1", "--host 0.0.0.0", "to the network"),
    ],
)
def test_systemd__a_planted_mistake_is_found(right: str, wrong: str, problem: str, tmp_path: Path) -> None:
    server = FOLDER / "stakeweight-prefect-server.service"
    found = list(_problems(planted(server, right, wrong, tmp_path / server.name)))
    assert any(problem in each for each in found), found


def test_systemd__the_watch_asks_without_privileges_and_restarts_what_runs_and_did_not_answer() -> None:
    service = {key: value for section, key, value in _entries(WATCH) if section == "Service"}
    assert {key: service.get(key) for key in HARDENING} == HARDENING
    assert (service["Type"], service["User"]) == ("oneshot", "stakeweight")
    assert service["ExecStart"] == f"{BIN}python -m infra.healthy --part %i"
    assert float(service["TimeoutStartSec"]) > max(part.patience_s for part in PARTS.values())
    assert not [key for key in service if key.startswith("Exec") and key not in ("ExecStart", "ExecStopPost")]
    assert {(key, value) for _, key, value in _entries(TIMER)} >= {
        ("PartOf", "stakeweight-%i.service"),
        ("OnActiveSec", "60"),
        ("OnUnitInactiveSec", "30"),
    }


@pytest.mark.parametrize(("result", "restarted"), [("success", False), ("exit-code", True), ("timeout", True)])
def test_systemd__the_watch_leaves_a_part_alone_that_answers(result: str, restarted: bool, tmp_path: Path) -> None:
    """Carries out what stands behind ExecStopPost, with a program in systemctl's place that tells what it was asked."""
    program = tmp_path / "systemctl"
    program.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    [command] = [value for _, key, value in _entries(WATCH) if key == "ExecStopPost"]
    assert command.startswith("+")
    words = shlex.split(command[1:].replace("%i", "dask-worker@001").replace("$$", "$"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SERVICE_RESULT": result}
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert said == ("--no-block try-restart stakeweight-dask-worker@001.service\n" if restarted else "")


def test_systemd__each_part_listens_where_the_watch_asks() -> None:
    commands = {unit.stem: " ".join(value for _, key, value in _entries(unit) if key == "ExecStart") for unit in UNITS}
    for unit, command in commands.items():
        part = part_of(unit.removeprefix("stakeweight-").replace("@", "@001"))
        port = part.url.split(":")[2].split("/")[0]
        default = part == PARTS["prefect-worker"] and "--with-healthcheck" in command
        assert default or port in command.replace("%i", "001"), unit


def _example(name: str) -> tuple[dict[str, str], set[str]]:
    """What an example of an EnvironmentFile sets, and what it names besides."""
    lines = (FOLDER / f"{name}.example").read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return pairs, set(re.findall(r"^#([A-Z_]+)=$", "\n".join(lines), flags=re.MULTILINE))


def test_systemd__every_file_that_a_unit_needs_has_an_example_with_all_of_its_variables_and_no_secret() -> None:
    needed = dict[str, set[str]]()
    for unit in UNITS:
        entries = _entries(unit)
        files = [Path(value).name for _, key, value in entries if key == "EnvironmentFile" and value[0] != "-"]
        given = " ".join(value for _, key, value in entries if key == "Environment")
        used = {
            name for _, key, value in entries if key == "ExecStart" for name in re.findall(r"\$\{?([A-Z_]+)", value)
        }
        for name in files:
            needed.setdefault(name, set()).update(each for each in used if f"{each}=" not in given)
    needed["driver.env"] |= set(re.findall(r"\$\{?([A-Z_]+)", (INFRA / "prefect.yaml").read_text()))
    assert {path.stem for path in FOLDER.glob("*.example")} == needed.keys()
    for name, used in needed.items():
        pairs, optional = _example(name)
        assert used <= pairs.keys(), name
        own = {key.removeprefix(PREFIX).lower() for key in pairs if key.startswith(PREFIX)}
        assert own <= Settings.model_fields.keys()
        secrets = {key: value for key, value in pairs.items() if SECRET_NAME.search(key)}
        assert all(value == "" or "PASSWORD" in value for value in secrets.values()), secrets
        assert optional <= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"}


def _commands(unit: Path) -> list[str]:
    return [value for _, key, value in _entries(unit) if key.startswith("Exec") and BIN in value]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd__the_commands_know_their_options(unit: Path) -> None:
    for command in _commands(unit):
        words = shlex.split(command.partition(BIN)[2])
        if words[0] not in ("prefect", "dask"):  # the script that deploys has a test of its own
            continue
        verbs = [word for word in words[1:4] if re.fullmatch(r"[a-z]+", word)]
        shown = subprocess.run([tool(words[0]), *verbs, "--help"], capture_output=True, text=True, check=True).stdout
        missing = [word for word in words if word.startswith("--") and not re.search(rf"{word}\b", shown)]
        assert missing == [], command


def _verify(unit: Path, folder: Path) -> str:
    """What systemd itself says of a unit whose programs are there."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("prefect", "dask", "python"):
        shutil.copy("/bin/true", programs / name)
    text = unit.read_text(encoding="utf-8").replace(BIN, f"{programs}/")
    copy = folder / unit.name
    copy.write_text(text, encoding="utf-8")
    if unit.suffix == ".timer":
        (folder / WATCH.name).write_text(WATCH.read_text(encoding="utf-8").replace(BIN, f"{programs}/"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout + result.stderr


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, WATCH, TIMER], ids=lambda path: path.name)
def test_systemd__verifies_every_unit(unit: Path, tmp_path: Path) -> None:
    assert _verify(unit, tmp_path) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("RestartSec=5", "RestratSec=5", "'RestratSec'"),
        ("Type=exec", "Type=exce", "Failed to parse"),
        (BIN, "/nowhere/", "not executable"),
    ],
)
def test_systemd__refuses_a_planted_mistake(right: str, wrong: str, said: str, tmp_path: Path) -> None:
    unit = planted(FOLDER / "stakeweight-prefect-server.service", right, wrong, tmp_path / "a.service")
    assert said in _verify(unit, tmp_path)
