"""What `stakeweight doctor` makes of a cluster: the same engine everywhere, room to work, and closed to strangers.

Guards against clusters that seem to work. A worker with another numpy, or another checkout of the same version, scores
its share of a round differently; one with too little memory is paused by Dask, and its units wait.
"""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence

from infra.clusters import read_spec
from infra.doctor import WORKER_BYTES, Check, Status, check_folder, check_memory, few, size
from infra.doctor_ask import reach_of
from infra.doctor_cluster import ClusterAnswer, Peer
from infra.doctor_facts import Facts
from infra.errors import InfraError

_OVERCOMMITTED = 1.05
"""Dask rounds the limits that it works out itself."""


def check_cluster(here: Facts, cluster: ClusterAnswer, scoring_bytes: int, wants_gpu: bool) -> list[Check]:
    """Returns every check of a running cluster.

    Args:
        here: this machine.
        cluster: what the cluster told.
        scoring_bytes: what a round's ranks and scores take on all workers together; 0 where the round is not known.
        wants_gpu: whether portfolios are to be solved on GPUs.
    """
    share = scoring_bytes // max(len(cluster.workers), 1)
    return [
        check_exposure(cluster),
        check_answers(cluster),
        check_versions(here, cluster),
        check_code(here, cluster),
        check_worker_disks(cluster),
        check_worker_memory(cluster, WORKER_BYTES + share),
        check_threads(cluster),
        check_gpu(cluster, wants_gpu),
    ]


def check_versions(here: Facts, cluster: ClusterAnswer) -> Check:
    """Every worker has the packages that this machine has; the scheduler those of them that it has at all."""
    peers = (cluster.scheduler, *cluster.workers)
    silent = [peer.name for peer in peers if not peer.versions]
    different = list(_differences(here.versions, [peer for peer in peers if peer.versions]))
    if different:
        advice = "install the same requirements.lock and the same stakeweight everywhere"
        return Check("versions", "problem", few(different), advice)
    if silent:
        advice = "see to those that do not answer, and run this again"
        return Check("versions", "warning", f"unknown on {few(silent)}", advice)
    return Check("versions", "ok", f"the same here, on the scheduler and on {_count(cluster.workers)}")


def check_code(here: Facts, cluster: ClusterAnswer) -> Check:
    """Every worker runs the very code of this machine, which equal version numbers do not tell."""
    asked = [worker for worker in cluster.workers if worker.facts is not None]
    other = [
        f"{worker.facts.code} on {worker.name}" for worker in asked if worker.facts and worker.facts.code != here.code
    ]
    if other:
        advice = "install the same stakeweight everywhere"
        return Check("code", "problem", f"{here.code} here, {few(other)}", advice)
    return Check("code", "ok", f"{here.code} here and on {_count(asked)}")


def check_answers(cluster: ClusterAnswer) -> Check:
    """Every worker answers, and can import the engine."""
    broken = [f"{worker.name}: {worker.error}" for worker in cluster.workers if worker.error]
    if broken:
        return Check("workers", "problem", few(broken), "start them again, with this stakeweight installed")
    return Check("workers", "ok", f"{_count(cluster.workers)}, {sum(peer.threads for peer in cluster.workers)} threads")


def check_exposure(cluster: ClusterAnswer) -> Check:
    """Nobody from outside can hand code to the scheduler, which runs whatever its clients send."""
    listens = ", ".join(cluster.scheduler.listens)
    plain = [address for address in cluster.scheduler.listens if not address.startswith(("tls://", "inproc://"))]
    if not plain or cluster.reach == "this machine":
        return Check("scheduler", "ok", f"listens on {listens}")
    found = f"listens on {listens} without TLS, open to {cluster.reach}"
    advice = "whoever reaches it can run code and change payouts: use tls:// with own certificates, or --host 127.0.0.1"
    return Check("scheduler", "problem" if cluster.reach == "everywhere" else "warning", found, advice)


def check_worker_disks(cluster: ClusterAnswer) -> Check:
    """Every worker has room where it keeps its temporary files."""
    asked = [worker for worker in cluster.workers if worker.facts is not None]
    checks = [
        (worker.name, check_folder("workers", folder))
        for worker in asked
        for folder in (worker.facts.folders if worker.facts else ())
    ]
    statuses: tuple[Status, ...] = ("problem", "warning")
    for status in statuses:
        found = [(f"{check.found} on {name}", check.advice) for name, check in checks if check.status == status]
        if found:
            return Check("disk, workers", status, few([line for line, _ in found]), found[0][1])
    return Check("disk, workers", "ok", f"room in the temporary folders of {_count(asked)}")


def check_worker_memory(cluster: ClusterAnswer, needed_bytes: int) -> Check:
    """The smallest worker can hold a unit, and the workers of one machine do not promise more than it has."""
    promised: dict[str, int] = {}
    machines = {}
    smallest: int | None = None
    for worker in cluster.workers:
        if worker.facts is not None:
            total = worker.facts.memory_bytes
            limit = worker.memory_limit_bytes or total
            promised[worker.facts.host] = promised.get(worker.facts.host, 0) + limit
            machines[worker.facts.host] = total
            smallest = limit if smallest is None else min(limit, smallest)
    if smallest is None:
        return Check("memory, workers", "warning", "unknown: no worker answers", "see to those that do not answer")
    check = check_memory("workers", smallest, needed_bytes)
    over = [
        f"{size(promised[host])} of {size(total)} on {host}"
        for host, total in machines.items()
        if promised[host] > _OVERCOMMITTED * total
    ]
    if check.status == "ok" and over:
        advice = "give --memory-limit so that the workers of a machine share what it has"
        return Check(check.name, "warning", f"limits add up to {few(over)}", advice)
    return check


def check_threads(cluster: ClusterAnswer) -> Check:
    """Kernels of one machine's workers do not fight for its processors."""
    busy: dict[str, int] = {}
    cores: dict[str, int] = {}
    for worker in cluster.workers:
        if worker.facts is not None:
            host = worker.facts.host
            busy[host] = busy.get(host, 0) + worker.threads * worker.facts.kernel_threads
            cores[host] = max(cores.get(host, 0), worker.facts.cores)
    over = [f"{busy[host]} threads for {cores[host]} processors on {host}" for host in busy if busy[host] > cores[host]]
    if over:
        advice = "start each worker with --nthreads 1 and NUMBA_NUM_THREADS=1, one a processor"
        return Check("threads", "warning", few(over), advice)
    return Check("threads", "ok", f"{sum(busy.values())} threads for {sum(cores.values())} processors")


def check_gpu(cluster: ClusterAnswer, wanted: bool) -> Check:
    """Workers that offer the resource GPU have one, and there is one where the settings ask for it."""
    offering = [worker for worker in cluster.workers if worker.offers_gpu]
    devices = {worker.name: worker.facts.cuda for worker in offering if worker.facts is not None}
    without = [name for name, device in devices.items() if not device]
    if without:
        advice = "install the CUDA build of torch and the driver there, or start it without --resources GPU=1"
        return Check("gpu", "problem", f"offered without a CUDA device by {few(without)}", advice)
    if wanted and not offering:
        return Check("gpu", "problem", "asked for, but no worker offers it", "start workers with --resources GPU=1")
    if not offering:
        return Check("gpu", "ok", "no worker offers one, and none is asked for")
    return Check("gpu", "ok", f"{few(sorted({str(device) for device in devices.values()}))} on {_count(offering)}")


def check_cluster_file(cluster: str) -> Check:
    """The file that describes a cluster can be used, and starts nothing that is open to strangers; it is only read.

    Args:
        cluster: `local`, or the path of a YAML file.
    """
    try:
        spec = read_spec(cluster)
    except InfraError as error:
        return Check("cluster file", "problem", str(error), "correct the file")
    package = spec.cluster_class.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        return Check("cluster file", "problem", f"{cluster} needs the package {package}", "install it")
    host = str(spec.cluster_kwargs.get("host") or "127.0.0.1").rpartition("://")[2]
    secure = spec.cluster_kwargs.get("security") or str(spec.cluster_kwargs.get("protocol")).startswith("tls")
    if not secure and reach_of([host]) != "this machine":
        advice = "whoever reaches it can change payouts: host: 127.0.0.1, or security: true"
        return Check("cluster file", "problem", f"{cluster} opens a scheduler without TLS on {host}", advice)
    return Check("cluster file", "ok", f"{cluster} starts a {spec.cluster_class}")


def _differences(here: Mapping[str, str], peers: Sequence[Peer]) -> Iterable[str]:
    for package, ours in here.items():
        others: dict[str, list[str]] = {}
        for peer in peers:
            theirs = peer.versions.get(package, "none")
            if theirs != ours and not (peer.name == "scheduler" and theirs == "none"):
                others.setdefault(theirs, []).append(peer.name)
        for theirs, names in others.items():
            yield f"{package} {ours} here, {theirs} on {few(names)}"


def _count(workers: Sequence[Peer]) -> str:
    return f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"
