"""What `stakeweight doctor` makes of what it was told: pure judgements, one line each.

A problem is what makes a run fail, hang, pay differently from machine to machine, or lets strangers change who is paid;
everything else that somebody should know is a warning. The failure guarded against: a list of findings that nobody can
act on. So each line says what was found, and each that is not fine what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from infra.doctor_ask import ApiAnswer, reach_of
from infra.doctor_facts import Facts
from infra.doctor_machine import Folder

Status = Literal["ok", "warning", "problem"]

WORKER_BYTES = 540_000_000
"""Peak of a process that solves 100 dropout bags of 5 000 stocks, the largest unit of a round."""
SPILLS, PAUSES = 0.6, 0.8
"""Shares of its memory limit at which a Dask worker begins to write results to disk, and at which it stops working."""
NO_ROOM_BYTES, LITTLE_ROOM_BYTES = 256 << 20, 2 << 30
"""Room for one large round's tables and Prefect's database; for a season of rounds and what Dask spills."""
FEW_FILES = 1_000
SKEW_WARNING_S, SKEW_PROBLEM_S = 5.0, 300.0
"""Logs that cannot be put in order; object stores refuse requests that are 15 minutes off."""

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: `ok`, `warning` or `problem`.
        found: what was found.
        advice: what to do; empty where all is well.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def check_packages(here: Facts) -> Check:
    """This machine has the packages that this stakeweight asks for."""
    if here.unmet:
        return Check("packages", "problem", f"needs {few(here.unmet)}", "install what requirements.lock names")
    version = here.versions.get("stakeweight", "unknown")
    return Check("packages", "ok", f"stakeweight {version} on Python {here.versions['python']} has all it needs")


def check_api(api: ApiAnswer, here: Facts) -> list[Check]:
    """The Prefect API is of our version, and strangers cannot start runs."""
    return [_api_version(api, here.versions.get("prefect", "none")), _api_exposure(api)]


def check_folder(who: str, folder: Folder) -> Check:
    """There is room to write, and leave to do so."""
    name = f"disk, {who}"
    if folder.error:
        advice = "make it writable, or name another one"
        return Check(name, "problem", f"{folder.path} cannot be written: {folder.error}", advice)
    found = f"{size(folder.free_bytes)} free in {folder.path}"
    if folder.free_files is not None and folder.free_files < FEW_FILES:
        return Check(name, "problem", f"room for {folder.free_files} more files in {folder.path}", "free some inodes")
    if folder.free_bytes < NO_ROOM_BYTES:
        return Check(name, "problem", found, f"needs {size(NO_ROOM_BYTES)} at the least: free some, or name another")
    if folder.free_bytes < LITTLE_ROOM_BYTES:
        return Check(name, "warning", found, f"should have {size(LITTLE_ROOM_BYTES)}")
    return Check(name, "ok", found)


def check_memory(who: str, bytes_a_worker: int, needed_bytes: int) -> Check:
    """A worker can hold what a round asks of it.

    Args:
        who: whose memory.
        bytes_a_worker: its limit.
        needed_bytes: what the largest unit takes.
    """
    found = f"{size(bytes_a_worker)} a worker, a round needs {size(needed_bytes)}"
    advice = "start fewer workers, or workers with more memory"
    if needed_bytes > PAUSES * bytes_a_worker:
        return Check(f"memory, {who}", "problem", f"{found}: Dask would pause it", advice)
    if needed_bytes > SPILLS * bytes_a_worker:
        return Check(f"memory, {who}", "warning", f"{found}: Dask would move results to disk", advice)
    return Check(f"memory, {who}", "ok", found)


def check_zone(here: Facts, others: Mapping[str, str]) -> Check:
    """All machines write the same local time into their logs, and a schedule can name its time zone.

    Args:
        here: this machine.
        others: the time zones of other machines by name.
    """
    different = [f"{zone} on {name}" for name, zone in others.items() if zone != here.zone]
    if different:
        advice = "set TZ=UTC everywhere: logs are in local time"
        return Check("time zone", "warning", f"{here.zone} here, {few(different)}", advice)
    if not here.named_zones:
        advice = "install tzdata: a schedule with a named time zone cannot run"
        return Check("time zone", "warning", f"{here.zone}; no zone is known by name", advice)
    return Check("time zone", "ok", f"{here.zone}; a round's own times are UTC wherever it runs")


def check_clock(skews_s: Mapping[str, float]) -> Check:
    """No clock is far off ours: whether a round is due depends on it.

    Args:
        skews_s: by how much each other clock is off at least, in seconds, by name.
    """
    name, worst = max(skews_s.items(), key=lambda item: item[1], default=("", 0.0))
    if not skews_s:
        return Check("clock", "ok", "this machine's; there is no other to compare it with")
    if worst <= SKEW_WARNING_S:
        return Check("clock", "ok", f"agrees with {len(skews_s)} other{'s' if len(skews_s) > 1 else ''}")
    status: Status = "problem" if worst > SKEW_PROBLEM_S else "warning"
    return Check("clock", status, f"{worst:.0f} s between here and {name}", "set both by NTP")


def check_object_store(endpoint: str) -> Check:
    """What is read from and written to the object store cannot be changed on the way.

    Args:
        endpoint: address of the store; empty for Amazon's own.

    Raises:
        OSError: its name cannot be resolved.
    """
    url = urlsplit(endpoint)
    if url.scheme != "http" or reach_of([url.hostname or ""]) == "this machine":
        return Check("object store", "ok", endpoint or "Amazon's own")
    return Check("object store", "warning", f"{endpoint} is spoken to without TLS", "use its https:// address")


def check_own_gpu(device: str) -> Check:
    """The cluster of this machine offers the resource GPU where it is asked to, so there must be one.

    Args:
        device: name of the CUDA device; empty if there is none.
    """
    if device:
        return Check("gpu", "ok", device)
    advice = "install the CUDA build of torch and the driver, or leave --gpu out"
    return Check("gpu", "problem", "asked for, but torch finds no CUDA device here", advice)


def check_secrets(files: Sequence[str]) -> Check:
    """No file with a secret can be read by every user of the machine."""
    if files:
        return Check("secrets", "problem", f"every user may read {few(files)}", "chmod 600, then change the secrets")
    return Check("secrets", "ok", "no settings file with a secret is open to every user")


def few(lines: Sequence[str]) -> str:
    """Returns the first of several findings in one line, and how many more there are."""
    rest = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + rest


def size(count: int) -> str:
    """Returns an amount of memory for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _api_version(api: ApiAnswer, ours: str) -> Check:
    found = f"Prefect {api.version or 'of unknown version'} answers at {api.url}"
    if api.version is None or api.version == ours:
        return Check("prefect api", "ok", found)
    same = api.version.split(".")[:2] == ours.split(".")[:2]
    advice = "run the server and the workers with one version of Prefect"
    return Check("prefect api", "warning" if same else "problem", f"{found}, {ours} is here", advice)


def _api_exposure(api: ApiAnswer) -> Check:
    name, secure = "prefect access", api.url.lower().startswith("https://")
    if api.reach == "this machine":
        return Check(name, "ok", "reached on this machine")
    if api.is_open:
        advice = (
            "whoever reaches it can start runs: set PREFECT_SERVER_API_AUTH_STRING there, PREFECT_API_AUTH_STRING here"
        )
        status: Status = "problem" if api.reach == "everywhere" else "warning"
        return Check(name, status, f"{api.url} answers without a password, open to {api.reach}", advice)
    if not secure:
        advice = "put it behind TLS, https://"
        return Check(name, "warning", f"the password travels to {api.url} as it is", advice)
    return Check(name, "ok", "asks for a password, over TLS")
