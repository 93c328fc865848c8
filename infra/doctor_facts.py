"""What a process finds out about the machine that it runs on, for `stakeweight doctor`.

The same function runs in the command itself, on the scheduler and on every worker, so that what is compared was found
in the same way. It looks and writes nothing that stays; what it finds is for `infra.doctor` to judge. The failure
guarded against: a comparison of version numbers alone. Two checkouts of one version differ in their code, and then the
same round may be paid differently from worker to worker: so the code itself is hashed.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from packaging.requirements import Requirement
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.doctor_machine import Folder, cuda_device, look_at_folder, memory

PACKAGES = (
    "stakeweight",
    "cloudpickle",
    "cvxpy",
    "cvxpylayers",
    "dask",
    "diffcp",
    "distributed",
    "msgpack",
    "numba",
    "numpy",
    "obstore",
    "pandas",
    "prefect",
    "pyarrow",
    "scipy",
    "torch",
)
"""What numbers, files and messages between processes depend on."""
_LAYERS = ("flows", "infra", "scoring", "tasks")
_CODE = (".py", ".toml")


class Surroundings(BaseSettings):
    """Variables of other programs that decide how safely and how fast a run goes; stakeweight's own are `Settings`.

    Attributes:
        prefect_home: where Prefect has its database and its profiles.
        aws_endpoint, aws_endpoint_url: of the object store, where it is not Amazon's.
        numba_threads: threads of a kernel, as text; empty: one a core.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    prefect_home: Path = Field(default=Path("~/.prefect"), validation_alias="PREFECT_HOME")
    aws_endpoint: str = Field(default="", validation_alias="AWS_ENDPOINT")
    aws_endpoint_url: str = Field(default="", validation_alias="AWS_ENDPOINT_URL")
    numba_threads: str = Field(default="", validation_alias="NUMBA_NUM_THREADS")

    @property
    def home(self) -> Path:
        """Prefect's home as an absolute path."""
        return self.prefect_home.expanduser().absolute()

    @property
    def endpoint(self) -> str:
        """The object store's address; empty where it is Amazon's."""
        return self.aws_endpoint_url or self.aws_endpoint

    def kernel_threads(self, cores: int) -> int:
        """Threads that a compiled kernel would use on a machine of so many processors."""
        return int(self.numba_threads) if self.numba_threads.isdecimal() else cores


@dataclass(frozen=True, slots=True)
class Facts:
    """What one process found.

    Attributes:
        host: the machine's name.
        versions: installed version by package; one that is not installed is absent.
        unmet: what the installed stakeweight asks for and does not find.
        code: the first digits of the SHA-256 of the engine's own files.
        clock_s: seconds since 1970.
        zone: the local time zone, e.g. `UTC+02:00`.
        named_zones: whether zones can be asked for by name.
        cores: processors that this process may use.
        memory_bytes: memory of the machine, or of the container.
        free_memory_bytes: what of it is available now.
        kernel_threads: threads that a compiled kernel would use.
        folders: the places that were asked about.
        cuda: name of the CUDA device, empty if there is none, None if nobody asked.
    """

    host: str
    versions: Mapping[str, str]
    unmet: tuple[str, ...]
    code: str
    clock_s: float
    zone: str
    named_zones: bool
    cores: int
    memory_bytes: int
    free_memory_bytes: int
    kernel_threads: int
    folders: tuple[Folder, ...]
    cuda: str | None = None


def find_facts(folders: Iterable[str | Path] = (), *, ask_cuda: bool = False) -> Facts:
    """Looks around; takes 0.1 s, and 3 s more where it has to ask torch.

    Args:
        folders: places that this process writes to.
        ask_cuda: whether a CUDA device is of interest.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_bytes, free_memory_bytes = memory()
    return Facts(
        host=os.uname().nodename,
        clock_s=time.time(),
        versions=_versions(),
        unmet=tuple(_unmet()),
        code=_code_digest(),
        zone=f"UTC{datetime.now().astimezone():%z}",
        named_zones=_has_named_zones(),
        cores=cores,
        memory_bytes=memory_bytes,
        free_memory_bytes=free_memory_bytes,
        kernel_threads=Surroundings().kernel_threads(cores),
        folders=tuple(look_at_folder(Path(folder)) for folder in folders),
        cuda=cuda_device() if ask_cuda else None,
    )


def facts_of(told: Mapping[str, Any]) -> Facts:
    """Makes facts of what another process sent, which as plain values survives a difference in its code.

    Raises:
        TypeError: the other process has other facts.
    """
    return Facts(**{**told, "folders": tuple(Folder(**folder) for folder in told["folders"])})


def public_version(version: str) -> str:
    """Returns a version without the build: `2.13.0+cpu` and `2.13.0+cu126` are the same source."""
    return version.partition("+")[0]


def _versions() -> dict[str, str]:
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in PACKAGES:
        try:
            found[package] = public_version(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _unmet() -> Iterable[str]:
    try:
        wanted = importlib.metadata.requires("stakeweight") or []
    except importlib.metadata.PackageNotFoundError:
        yield "stakeweight itself is not installed"
        return
    for requirement in map(Requirement, wanted):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{requirement}, found none"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement}, found {found}"


def _code_digest() -> str:
    """Hashes the files without importing them; a layer that is not installed changes the digest too."""
    digest = hashlib.sha256()
    for layer in _LAYERS:
        spec = importlib.util.find_spec(layer)
        for folder in [] if spec is None else list(spec.submodule_search_locations or []):
            files = sorted(path for path in Path(folder).rglob("*") if path.suffix in _CODE)
            for path in files:
                digest.update(f"{layer}/{path.relative_to(folder).as_posix()}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _has_named_zones() -> bool:
    try:
        ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        return False
    return True


def tell_worker(dask_worker: Any) -> dict[str, Any]:
    """Runs on a worker, whose object Dask passes in; answers in plain values."""
    asks_cuda = "GPU" in dask_worker.state.total_resources
    folders = (dask_worker.local_directory, tempfile.gettempdir())
    return asdict(find_facts(folders, ask_cuda=asks_cuda))


def tell_scheduler(dask_scheduler: Any) -> dict[str, Any]:
    """Runs on the scheduler; answers in plain values, with the addresses that it listens on."""
    listens = [str(listener.listen_address) for listener in dask_scheduler.listeners]
    return {"facts": asdict(find_facts()), "listens": listens}
