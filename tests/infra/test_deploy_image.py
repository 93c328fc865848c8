"""The image: who it runs as, what goes in, and that both targets are built from what is there. No Docker is needed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.infra.deploy_files import INFRA, ROOT, SECRET_NAME, Stage, ancestry, planted, stages, tool

DOCKERFILE = INFRA / "Dockerfile"
TARGETS = ("cpu", "gpu")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _problems(dockerfile: Path) -> Iterator[str]:
    """What an image of ours must not do."""
    found = stages(dockerfile)
    yield from (f"there is no target {target}" for target in TARGETS if target not in found)
    for target in set(TARGETS) & found.keys():
        users = [each.words[0] for each in ancestry(found, target) if each.name == "USER"]
        if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
            yield f"{target} runs as {users[-1:] or 'root'}"
        if not any(each.name == "HEALTHCHECK" for each in ancestry(found, target)):
            yield f"{target} has no health check"
    for stage in found.values():
        yield from _stage_problems(stage, found)


def _stage_problems(stage: Stage, found: dict[str, Stage]) -> Iterator[str]:
    if stage.parent not in found and stage.parent != "${PYTHON_IMAGE}":
        yield f"{stage.name}: another base image, {stage.parent}"
    for each in stage.instructions:
        if each.name == "ADD":
            yield f"{stage.name}: ADD {each.words}"
        if each.name in ("ENV", "ARG") and SECRET_NAME.search(" ".join(each.words)):
            yield f"{stage.name}: a secret in {each.name} {each.words}"
        if re.search(r"https?://|index-url", " ".join(each.words)):
            yield f"{stage.name}: names a host: {each.words}"
        origin = next((match[1] for option in each.options if (match := re.search(r"\bfrom=(\w[\w-]*)", option))), None)
        if each.name == "COPY" and origin is None:
            yield from (
                f"{stage.name}: no {word} in the project" for word in each.words[:-1] if not (ROOT / word).exists()
            )
        if origin is not None and origin not in found:
            yield f"{stage.name}: copies from {origin}, which is no stage"


def test_dockerfile__runs_as_no_root_from_pinned_parts_without_secrets() -> None:
    assert list(_problems(DOCKERFILE)) == []
    base = re.search(r"^ARG PYTHON_IMAGE=python:(\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert base is not None
    assert re.fullmatch(r"3\.11\.\d+-slim-\w+", base[1])


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("USER 10001:10001", "USER root", "runs as"),
        ("USER 10001:10001", "USER 0:0", "runs as"),
        ("USER 10001:10001", "", "runs as"),
        ("FROM base AS gpu", "FROM base AS cuda", "no target gpu"),
        ("COPY infra/dask.yaml", "COPY infra/dusk.yaml", "no infra/dusk.yaml"),
        ("from=project,", "from=projekt,", "is no stage"),
        ("COPY --from=packages-gpu", "COPY --from=packages-cuda", "is no stage"),
        ("COPY requirements.lock ./", "ADD https://example.org/lock ./", "ADD"),
        ("DO_NOT_TRACK=1", "POSTGRES_PASSWORD=1", "a secret"),
        ("HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 CMD", "RUN", "no health check"),
        ("FROM ${PYTHON_IMAGE} AS base", "FROM python:latest AS base", "another base image"),
        ("pip wheel --no-deps", "pip wheel --index-url https://example.org --no-deps", "names a host"),
    ],
)
def test_dockerfile__a_planted_mistake_is_found(right: str, wrong: str, problem: str, tmp_path: Path) -> None:
    found = list(_problems(planted(DOCKERFILE, right, wrong, tmp_path / "Dockerfile")))
    assert any(problem in each for each in found), found


def _hadolint(dockerfile: Path) -> str:
    result = subprocess.run([tool("hadolint"), "--no-color", dockerfile], capture_output=True, text=True)
    return result.stdout + result.stderr


def test_dockerfile__hadolint_finds_nothing() -> None:
    assert _hadolint(DOCKERFILE) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("WORKDIR /build", "WORKDIR build", "DL3000"),
        ("RUN groupadd", "RUN sudo groupadd", "DL3004"),
        ("RUN groupadd", "RUNN groupadd", "missing whitespace"),
    ],
)
def test_dockerfile__hadolint_finds_a_planted_mistake(right: str, wrong: str, rule: str, tmp_path: Path) -> None:
    assert rule in _hadolint(planted(DOCKERFILE, right, wrong, tmp_path / "Dockerfile"))


def test_dockerfile__the_two_targets_differ_in_the_build_of_the_torch_that_is_locked() -> None:
    found = stages(DOCKERFILE)
    asked = {
        target: next(each.words[0] for each in found[f"packages-{target}"].instructions if each.name == "ARG")
        for target in TARGETS
    }
    locked = re.search(r"^torch==\S+$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert locked is not None
    assert asked == {"cpu": f"TORCH={locked[0]}+cpu", "gpu": f"TORCH={locked[0]}"}
    commands = {target: found[f"packages-{target}"].instructions[1:] for target in TARGETS}
    assert commands["cpu"] == commands["gpu"]


def test_dockerfile__what_it_installs_is_what_pyproject_asks_for(tmp_path: Path) -> None:
    command = next(each.words for each in stages(DOCKERFILE)["requirements"].instructions if each.name == "RUN")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["kubernetes"], *extras["slurm"], *extras["ssh"]]
    assert (tmp_path / "direct.txt").read_text().splitlines() == wanted


def test_dockerfile__installs_the_wheel_of_this_version() -> None:
    wheel = f"/wheel/stakeweight-{PROJECT['version']}-py3-none-any.whl"
    found = stages(DOCKERFILE)
    assert [wheel in each.words for target in TARGETS for each in found[target].instructions if each.name == "RUN"] == [
        True,
        True,
    ]


def test_dockerfile__the_wheel_is_built_from_every_package() -> None:
    copied = {each.words[0] for each in stages(DOCKERFILE)["project"].instructions if each.name == "COPY"}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {name.partition(".")[0] for name in packages} - {"stakeweight"} <= copied


def test_dockerignore__lets_in_what_is_copied_and_no_key() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    copied = {
        Path(word).parts[0]
        for stage in stages(DOCKERFILE).values()
        for each in stage.instructions
        if each.name == "COPY" and not any(option.startswith("--from=") for option in each.options)
        for word in each.words[: 1 if each.words[0] != "pyproject.toml" else -1]
    }
    assert copied <= {line[1:] for line in lines if line.startswith("!")}
    assert {"infra/.env", "infra/tls", "**/*.pem", "**/*.key"} <= set(lines)


def test_dask_yaml__is_settings_that_dask_knows() -> None:
    """Dask takes any key: a misspelt one does nothing. What Dask itself ships with is the list of those that do."""
    defaults = yaml.safe_load((Path(__import__("distributed").__file__).parent / "distributed.yaml").read_text())
    known = set(_paths(defaults))
    own = set(_paths(yaml.safe_load((INFRA / "dask.yaml").read_text())))
    environment = {path for path in own if path.startswith("distributed.nanny.pre-spawn-environ.")}
    assert own - environment
    assert own - environment <= known


def _paths(settings: object, above: str = "") -> Iterator[str]:
    if isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from _paths(value, f"{above}.{key}" if above else str(key))
    else:
        yield above


def test_dask_yaml__reaches_a_process_that_finds_it_in_the_folder_of_the_machine(tmp_path: Path) -> None:
    shutil.copy(INFRA / "dask.yaml", tmp_path / "stakeweight.yaml")
    ask = "import dask.config, distributed; print(dask.config.get('distributed.scheduler.no-workers-timeout'))"
    environment = {**os.environ, "DASK_ROOT_CONFIG": str(tmp_path)}
    assert subprocess.check_output([sys.executable, "-c", ask], env=environment, text=True).strip() == "300s"
