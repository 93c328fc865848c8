"""What a running cluster tells `stakeweight doctor`: the scheduler and each worker for itself.

Every worker is asked alone. A question to all at once waits for the slowest, and names none when a worker was stopped
by its machine; asked alone, a worker that hangs, or cannot import the engine, is one line with its address. Versions
come a second way too, through Dask itself, which answers also where the engine is of another version or absent.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from infra.clusters import open_cluster
from infra.doctor_ask import Reach, reach_of, skew_s
from infra.doctor_facts import PACKAGES, Facts, facts_of, public_version, tell_scheduler, tell_worker
from infra.doctor_machine import CUDA_LIMIT_S
from infra.errors import InfraError, one_line
from infra.question import Question
from infra.settings import Settings

_SLACK_S = 2.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another process of the cluster.

    Attributes:
        name: `scheduler`, or the worker's address.
        versions: by package, as far as they are known.
        facts: what it found; None where it could not be asked.
        error: why it could not be asked.
        skew_s: by how much its clock differs from ours at least, in seconds, ahead or behind.
        threads: units that it runs at once.
        memory_limit_bytes: 0 where it has none.
        offers_gpu: whether it takes units that ask for the resource GPU.
        listens: the addresses that it listens on; only of the scheduler.
    """

    name: str
    versions: Mapping[str, str]
    facts: Facts | None = None
    error: str = ""
    skew_s: float = 0.0
    threads: int = 0
    memory_limit_bytes: int = 0
    offers_gpu: bool = False
    listens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterAnswer:
    """What a running cluster tells.

    Attributes:
        reach: from where the scheduler can be connected to.
        scheduler, workers: its processes, the workers sorted by address.
    """

    reach: Reach
    scheduler: Peer
    workers: tuple[Peer, ...]


def ask_cluster(settings: Settings, limit_s: float) -> ClusterAnswer:
    """Connects to the scheduler that the settings name, asks every process, and disconnects.

    Args:
        settings: with the scheduler's address.
        limit_s: seconds for each step: to connect, to show a worker, to answer.

    Raises:
        InfraError: no scheduler answers at the address, or it has no worker.
    """
    connected = Event()
    answer = Question(partial(_converse, settings, limit_s, connected), 5 * limit_s + CUDA_LIMIT_S)
    if not connected.wait(2 * limit_s + _SLACK_S):
        raise InfraError(f"{settings.scheduler} accepts connections and does not answer")
    return answer.answer()


def _converse(settings: Settings, limit_s: float, connected: Event) -> ClusterAnswer:
    """Carries out the conversation, from the first word to the last in one thread, as Dask wants it.

    Dask's own limit ends with the connection: where something accepts it and then says nothing, as a scheduler that was
    stopped by its machine does, a client waits for ever. So it is told when there is a client, or none will be.
    """
    try:
        with open_cluster(settings.model_copy(update={"connect_limit_s": limit_s})) as client:
            connected.set()
            return _ask_all(client, limit_s)
    finally:
        connected.set()


def _ask_all(client: Any, limit_s: float) -> ClusterAnswer:
    """Asks every process at once, each for itself."""
    info = client.scheduler_info()
    blank = Peer("scheduler", {}, listens=(str(info["address"]),))
    blanks = [_blank(name, worker) for name, worker in sorted(info["workers"].items())]
    versions = Question(partial(client.get_versions, packages=list(PACKAGES)), limit_s)
    of_scheduler = Question(partial(_ask_scheduler, client, blank), limit_s)
    for_gpu = {False: limit_s, True: limit_s + CUDA_LIMIT_S}
    of_workers = [Question(partial(_ask_worker, client, one), for_gpu[one.offers_gpu]) for one in blanks]
    scheduler = _heard(of_scheduler, blank)
    workers = [_heard(*pair) for pair in zip(of_workers, blanks, strict=True)]
    known = _known_versions(versions)
    return ClusterAnswer(
        reach_of(urlsplit(address).hostname or "" for address in scheduler.listens),
        _with_versions(scheduler, known),
        tuple(_with_versions(worker, known) for worker in workers),
    )


def _blank(name: str, info: Mapping[str, Any]) -> Peer:
    """A worker as far as the scheduler knows it."""
    return Peer(
        name,
        {},
        threads=int(info["nthreads"]),
        memory_limit_bytes=int(info["memory_limit"] or 0),
        offers_gpu="GPU" in info["resources"],
    )


def _ask_worker(client: Any, blank: Peer) -> Peer:
    asked = time.time()
    told = client.run(tell_worker, workers=[blank.name], on_error="return")[blank.name]
    if isinstance(told, BaseException):
        raise told
    return _filled(blank, told, asked)


def _ask_scheduler(client: Any, blank: Peer) -> Peer:
    asked = time.time()
    told = client.run_on_scheduler(tell_scheduler)
    return replace(_filled(blank, told["facts"], asked), listens=tuple(told["listens"]))


def _filled(blank: Peer, told: Mapping[str, Any], asked: float) -> Peer:
    facts = facts_of(told)
    return replace(blank, versions=facts.versions, facts=facts, skew_s=skew_s(facts.clock_s, asked, time.time()))


def _heard(question: Question[Peer], blank: Peer) -> Peer:
    """Returns the process as it answered; whatever went wrong is part of what is known of it."""
    try:
        return question.answer()
    except Exception as error:  # whatever another machine raises
        return replace(blank, error=one_line(error))


def _known_versions(question: Question[Any]) -> dict[str, dict[str, str]]:
    """Returns the versions that Dask itself tells by process, none where it does not answer."""
    try:
        told = question.answer()
    except Exception:
        return {}
    found = {"scheduler": told["scheduler"], **told["workers"]}
    return {name: _of_dask(versions["packages"]) for name, versions in found.items() if versions}


def _of_dask(packages: Mapping[str, str | None]) -> dict[str, str]:
    wanted = {name: public_version(packages[name] or "") for name in PACKAGES if packages.get(name)}
    return {"python": ".".join(str(packages["python"]).split(".")[:2]), **wanted}


def _with_versions(peer: Peer, known: Mapping[str, Mapping[str, str]]) -> Peer:
    return peer if peer.versions else replace(peer, versions=known.get(peer.name, {}))
