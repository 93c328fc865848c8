"""The settings of one run, read once and handed down as a value.

Guards against the two failures of ambient configuration: a module that reads the environment when it is imported
(so that tests and notebooks cannot change it any more), and a misspelt variable that silently does nothing.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import InfraError

PREFIX = "STAKEWEIGHT_"


def _scheduler_address(address: str) -> str:
    if not address.startswith(("tcp://", "tls://")):
        raise ValueError("a scheduler address begins with tcp:// or tls://")
    return address


class Settings(BaseSettings):
    """Where and how a run is carried out; never what it computes.

    Attributes:
        scheduler: address of a running Dask scheduler; its certificates for `tls://` stand in Dask's own settings.
        cluster: `local`, or a YAML file that describes the cluster to start; unused when `scheduler` is given.
        workers: worker processes of a started cluster; default: what the cluster's file says, else one a core.
        gpu: solve portfolios on workers that offer the resource GPU; a cluster started here offers it itself.
        connect_limit_s: seconds in which a scheduler must answer and show its first worker.
        cluster_start_limit_s: seconds in which a cluster that the run starts must stand; on other machines, their queue
            or image counts.
        api_start_limit_s: seconds in which the embedded Prefect API must start; 14 s were measured for the first
            start on a machine, which creates the database, and 4 s for the later ones.
        unit_limit_s: seconds for which one unit of work may keep the whole run waiting.
        rounds_in_flight: rounds of a backfill that are scored side by side; memory grows with them, not with history.
        prefect_api_url: a running Prefect API; without one the run starts its own.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True
    )

    scheduler: Annotated[str, AfterValidator(_scheduler_address)] | None = None
    cluster: str = "local"
    workers: PositiveInt | None = None
    gpu: bool = False
    connect_limit_s: PositiveFloat = 30.0
    cluster_start_limit_s: PositiveFloat = 300.0
    api_start_limit_s: PositiveFloat = 120.0
    unit_limit_s: PositiveFloat = 600.0
    rounds_in_flight: PositiveInt = 4
    prefect_api_url: str | None = Field(default=None, validation_alias="PREFECT_API_URL")


def read_settings(**overrides: str | int | float | Path | None) -> Settings:
    """Reads the environment; an override that is not None (an option of the command line) goes before it.

    Raises:
        InfraError: a variable is misspelt or holds something impossible; all problems stand in one line.
    """
    given = {key: str(value) for key, value in overrides.items() if value is not None}
    problems = [_unknown(name) for name in sorted(os.environ) if name.startswith(PREFIX) and not _known(name)]
    try:
        settings = Settings(**given)  # type: ignore[arg-type]  # pydantic turns the texts into what they stand for
    except ValidationError as error:
        problems += [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
    if problems:
        raise InfraError("settings: " + "; ".join(problems))
    return settings


def _known(variable: str) -> bool:
    return variable.removeprefix(PREFIX).lower() in Settings.model_fields


def _unknown(variable: str) -> str:
    known = [PREFIX + field.upper() for field in Settings.model_fields if field != "prefect_api_url"]
    close = difflib.get_close_matches(variable, known, n=1)
    return f"there is no variable {variable}" + (f" (did you mean {close[0]}?)" if close else "")
