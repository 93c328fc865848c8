"""How `stakeweight doctor` asks what may not answer: each question in a thread of its own, with a limit.

A doctor is called when something hangs, so it must not hang itself, whatever a library does about time limits: the
resolution of a name has none, a store's own is minutes. The Prefect API is asked here, first as a stranger would.
"""

import ipaddress
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from infra.errors import InfraError

T = TypeVar("T")
Reach = Literal["this machine", "a private network", "everywhere"]
"""From where an address can be connected to."""

_REFUSED = (401, 403)
_LONGEST_ANSWER = 1 << 16


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What a Prefect API tells.

    Attributes:
        url: as it was asked.
        reach: from where it can be connected to.
        is_open: whether it answers without a password.
        version: of Prefect there; None where it does not say, or not to us.
        skew_s: by how much its clock differs from ours at least, in seconds.
    """

    url: str
    reach: Reach
    is_open: bool
    version: str | None
    skew_s: float


def ask_api(url: str, authorization: Callable[[], str | None], limit_s: float) -> ApiAnswer:
    """Asks a Prefect API for its version, first as a stranger.

    Args:
        url: what `PREFECT_API_URL` names, e.g. `http://127.0.0.1:4200/api`.
        authorization: gives the header with our own password, None where we have none; called where one is needed.
        limit_s: seconds for each of the three requests.

    Raises:
        InfraError: nothing answers, what answers is no Prefect API, or it refuses us.
    """
    base = url.rstrip("/")
    health = _get(f"{base}/health", None, limit_s)
    if health.status != 200:
        raise InfraError(f"{url} answers {health.status} to /health; the address of a Prefect API ends in /api")
    stranger = _get(f"{base}/admin/version", None, limit_s)
    answer = stranger
    if stranger.status in _REFUSED:
        own = authorization()
        answer = _get(f"{base}/admin/version", own, limit_s)
        if answer.status in _REFUSED:
            how = "without a password" if own is None else "with the password that is set"
            raise InfraError(f"{url} refuses us {how} (answer {answer.status})")
    version = str(json.loads(answer.body)) if answer.status == 200 else None
    host = urlsplit(url).hostname or ""
    return ApiAnswer(url, reach_of([host]), stranger.status == 200, version, health.skew_s)


def reach_of(hosts: Iterable[str]) -> Reach:
    """Says from where the widest of these names or addresses can be reached; an empty one is within this process.

    Raises:
        OSError: a name cannot be resolved.
    """
    found = [ipaddress.ip_address(ip) for host in hosts for ip in _addresses(host)]
    if any(ip.is_unspecified or ip.is_global for ip in found):
        return "everywhere"  # all interfaces of a machine: which of them are public is not for us to see
    return "this machine" if all(ip.is_loopback for ip in found) else "a private network"


def skew_s(clock_s: float, asked: float, arrived: float) -> float:
    """Returns by how much a clock is wrong at least, in seconds, ahead or behind.

    Args:
        clock_s: its time, read at an unknown moment between two of ours; all in seconds since 1970.
        asked, arrived: these two.
    """
    return max(0.0, asked - clock_s, clock_s - arrived)


class _Page(NamedTuple):
    status: int
    body: bytes
    skew_s: float


def _get(url: str, authorization: str | None, limit_s: float) -> _Page:
    """Asks as Prefect's own client would, so also through a proxy of the environment."""
    headers = {} if authorization is None else {"Authorization": authorization}
    asked = time.time()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=limit_s) as answer:
            status, body, date = answer.status, answer.read(_LONGEST_ANSWER), answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        with error:
            status, body, date = error.code, b"", error.headers.get("Date")
    except (OSError, ValueError) as error:  # URLError and time-outs are among the former
        raise InfraError(f"no Prefect API answers at {url}: {getattr(error, 'reason', error)}") from error
    if date is None:
        return _Page(status, body, 0.0)
    clock_s = parsedate_to_datetime(date).timestamp()  # of a second that has begun
    return _Page(status, body, skew_s(clock_s, asked - 1, time.time()))


def _addresses(host: str) -> Iterable[str]:
    if not host:
        return []
    try:
        return [str(ipaddress.ip_address(host.partition("%")[0]))]
    except ValueError:
        return {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
