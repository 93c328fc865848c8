"""Reads `prefect.yaml` strictly, before Prefect reads it.

Guards against what `prefect deploy` lets pass: a misspelt key is ignored, so that a deployment has no schedule; a cron
line of six fields fires at seconds, and one for the 30th of February never does; a variable that is not set becomes an
empty string, so that a run looks for its tournament in the current folder.

    python -m infra.prefect_file infra/prefect.yaml
"""

import asyncio
import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.errors import InfraError, one_line

FILE_KEYS = ("name", "prefect-version", "pull", "deployments")
DEPLOYMENT_KEYS = ("name", "description", "entrypoint", "tags", "parameters", "schedules", "work_pool")
POOL_KEYS = ("name", "work_queue_name")
SCHEDULE_KEYS = ("slug", "cron", "timezone")
PARAMETERS = ("data", "out", "rounds", "tournament")
_VARIABLE = re.compile(r"{{\s*\$([^}\s]+)\s*}}")
_ENTRYPOINT = re.compile(r"flows(\.[a-z_]+)+")
_CRON_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a deployment runs: a cron line of five fields, in a time zone of the IANA data base."""

    slug: str
    cron: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment of the file.

    Attributes:
        entrypoint: import path of the flow.
        pool: name of the work pool.
        queue: name of the queue of the pool.
        parameters: what the flow is called with; variables are not yet put in.
        schedules: none for a deployment that is started by hand.
    """

    name: str
    entrypoint: str
    pool: str
    queue: str
    parameters: Mapping[str, Any]
    schedules: tuple[Schedule, ...]


def read_prefect_file(path: Path) -> tuple[Deployment, ...]:
    """Reads the deployments.

    Raises:
        InfraError: the file cannot be read, a key is unknown or missing, a name is used twice, or a schedule never
            fires. All problems stand in one line.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InfraError(f"{path}: {one_line(error)}") from error
    problems = list(_file_problems(found))
    if problems:
        raise InfraError(f"{path}: " + "; ".join(problems))
    return tuple(_deployment(each) for each in found["deployments"])


def unset_variables(deployments: tuple[Deployment, ...], environment: Mapping[str, str]) -> list[str]:
    """Returns the variables that the parameters name (`{{ $NAME }}`) and that are not set, or set to nothing."""
    named = {name for each in deployments for name in _VARIABLE.findall(str(dict(each.parameters)))}
    return sorted(name for name in named if not environment.get(name))


def _file_problems(found: Any) -> Iterator[str]:
    yield from _key_problems("the file", found, FILE_KEYS, needs=("deployments", "pull"))
    if not isinstance(found, dict):
        return
    if found.get("pull") != []:
        yield f"pull must be [], because the flows are imported from the installed package; found {found.get('pull')!r}"
    deployments = found.get("deployments")
    if not isinstance(deployments, list) or not deployments:
        yield f"deployments must be a list that is not empty, found {deployments!r}"
        return
    names = [each.get("name") for each in deployments if isinstance(each, dict)]
    yield from (f"deployment {name!r} stands there twice" for name in set(names) if names.count(name) > 1)
    for number, each in enumerate(deployments, start=1):
        yield from _deployment_problems(f"deployment {number}", each)


def _deployment_problems(where: str, found: Any) -> Iterator[str]:
    yield from _key_problems(where, found, DEPLOYMENT_KEYS, needs=("name", "entrypoint", "work_pool"))
    if not isinstance(found, dict):
        return
    where = f"deployment {found.get('name')!r}"
    if not _ENTRYPOINT.fullmatch(str(found.get("entrypoint"))):
        yield f"{where}: entrypoint must be the import path of a flow, flows.….…, found {found.get('entrypoint')!r}"
    yield from _key_problems(f"{where}: parameters", found.get("parameters", {}), PARAMETERS)
    yield from _key_problems(f"{where}: work_pool", found.get("work_pool"), POOL_KEYS, needs=POOL_KEYS)
    schedules = found.get("schedules", [])
    if not isinstance(schedules, list):
        yield f"{where}: schedules must be a list, found {schedules!r}"
        return
    for each in schedules:
        problems = list(_key_problems(f"{where}: schedule", each, SCHEDULE_KEYS, needs=SCHEDULE_KEYS))
        yield from problems or _schedule_problems(f"{where}: schedule {each['slug']!r}", each)


def _schedule_problems(where: str, schedule: Mapping[str, Any]) -> Iterator[str]:
    from prefect.server.schemas.schedules import CronSchedule  # late: 2 s; the server's own, which knows the next date

    cron = schedule["cron"]
    if not isinstance(cron, str) or (len(cron.split()) != _CRON_FIELDS and not cron.startswith("@")):
        yield f"{where}: cron must be a text of five fields, found {cron!r}"
        return
    try:
        asyncio.run(CronSchedule(cron=cron, timezone=schedule["timezone"]).get_dates(1))
    except ValueError as error:  # also what pydantic and croniter raise
        errors = getattr(error, "errors", None)
        yield f"{where}: " + (errors()[0]["msg"].removeprefix("Value error, ") if errors else f"{cron!r} never fires")


def _key_problems(where: str, found: Any, known: tuple[str, ...], needs: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(found, dict):
        yield f"{where} must be a mapping, found {found!r}"
        return
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            yield f"{where}: there is no key {key!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
    yield from (f"{where}: needs {key!r}" for key in needs if found.get(key) is None)


def _deployment(found: Mapping[str, Any]) -> Deployment:
    pool = found["work_pool"]
    schedules = tuple(Schedule(**each) for each in found.get("schedules", []))
    parameters = found.get("parameters", {})
    return Deployment(found["name"], found["entrypoint"], pool["name"], pool["work_queue_name"], parameters, schedules)


def main(arguments: list[str]) -> int:
    """Checks the file that is named; returns the exit code, 2 for a mistake of the operator."""
    if len(arguments) != 1:
        print("stakeweight: usage: python -m infra.prefect_file FILE", file=sys.stderr)
        return 2
    try:
        deployments = read_prefect_file(Path(arguments[0]))
        if missing := unset_variables(deployments, os.environ):
            raise InfraError(f"{arguments[0]}: set {', '.join(missing)} before deploying")
    except InfraError as error:
        print(f"stakeweight: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
