"""The deployment files as tests read them, and one way to plant a mistake in a copy."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SECRET_NAME = re.compile(r"(?i)(password|passwd|secret_access_key|access_key_id|auth_string|connection_url|token)")


def planted(source: Path, right: str, wrong: str, target: Path) -> Path:
    """Writes a copy of a file with one mistake; fails where the file does not say what is to be spoilt."""
    text = source.read_text(encoding="utf-8")
    assert right in text, f"{source.name} does not say {right!r}"
    target.write_text(text.replace(right, wrong), encoding="utf-8")
    return target


def documents(path: Path) -> list[Any]:
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each is not None]


def tool(name: str) -> str:
    """Path of a command of this environment, or of the machine."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found is not None, f"{name} is a development dependency and not installed"
    return found


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile: `words` are its arguments, without the options, which begin with two hyphens."""

    name: str
    options: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """One `FROM … AS name` with what follows it; the parent is another stage or an image."""

    name: str
    parent: str
    instructions: tuple[Instruction, ...]


def stages(dockerfile: Path) -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    name, parent, collected = "", "", list[Instruction]()
    for each in [*_instructions(dockerfile), Instruction("FROM", (), ("end", "AS", "end"))]:
        if each.name == "FROM":
            if name:
                found[name] = Stage(name, parent, tuple(collected))
            assert each.words[1].upper() == "AS", "every stage has a name"
            (parent, _, name), collected = each.words, []
        elif name:
            collected.append(each)
    return found


def ancestry(found: dict[str, Stage], target: str) -> list[Instruction]:
    """The instructions that shape a target, the oldest first."""
    stage = found[target]
    return [*(ancestry(found, stage.parent) if stage.parent in found else []), *stage.instructions]


def _instructions(dockerfile: Path) -> Iterator[Instruction]:
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        options = []
        while rest.lstrip().startswith("--"):
            option, _, rest = rest.lstrip().partition(" ")
            options.append(option)
        words = json.loads(rest) if rest.lstrip().startswith("[") else rest.split()
        yield Instruction(name.upper(), tuple(options), tuple(words))
