"""A cluster with everything that may be wrong with a worker, each found and named; and one where nothing is."""

import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from distributed import Client

from infra.doctor import Check
from infra.doctor_cluster import ClusterAnswer, Peer, ask_cluster
from infra.doctor_facts import Facts, find_facts
from infra.doctor_workers import check_cluster, check_cluster_file, check_exposure, check_gpu
from infra.errors import InfraError
from infra.settings import Settings
from tests.infra.doctor_rig import ROOT, scheduler, wait_for_workers, worker

LAYERS = ("flows", "infra", "scoring", "tasks")


@dataclass(frozen=True, slots=True)
class Examined:
    """What the doctor asked and found; workers by what is wrong with them."""

    cluster: ClusterAnswer
    checks: dict[str, Check]
    names: dict[str, str]


def _examine(address: str, wants_gpu: bool = False, limit_s: float = 30.0) -> tuple[ClusterAnswer, dict[str, Check]]:
    cluster = ask_cluster(Settings(scheduler=address), limit_s)
    checks = check_cluster(find_facts(), cluster, scoring_bytes=0, wants_gpu=wants_gpu)
    return cluster, {check.name: check for check in checks}


def _other_version(folder: Path) -> str:
    """A second installation of the same distribution, found before the real one."""
    info = folder / "stakeweight-9.9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stakeweight\nVersion: 9.9.9\n")
    return str(folder)


def _other_code(folder: Path) -> str:
    """Another checkout of the same version, with one line changed."""
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, folder / layer, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "scoring" / "ranks.py").open("a") as file:
        file.write("# a change\n")
    return str(folder)


def _no_engine(folder: Path) -> str:
    """Another program's module, found before the engine's package of the same name."""
    (folder / "infra.py").touch()
    return str(folder)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examined]:
    """A scheduler open to everybody, and five workers, all but one of them with something wrong."""
    folder = tmp_path_factory.mktemp("crowd")
    places = {name: folder / name for name in ("good", "version", "code", "engine", "gpu")}
    code = {name: folder / f"{name}_code" for name in places}
    for path in (*places.values(), *code.values()):
        path.mkdir()
    paths = {
        "version": _other_version(code["version"]),
        "code": _other_code(code["code"]),
        "engine": _no_engine(code["engine"]),
    }
    with ExitStack() as stack:
        address = stack.enter_context(scheduler(folder, "0.0.0.0"))
        for name, place in places.items():
            environment = {"PYTHONPATH": paths[name]} if name in paths else {"CUDA_VISIBLE_DEVICES": ""}
            environment |= {"TZ": "Asia/Tokyo", "NUMBA_NUM_THREADS": "999"} if name == "code" else {}
            options = ["--resources", "GPU=1", "--memory-limit", "500MB"] if name == "gpu" else []
            stack.enter_context(worker(address, place, *options, environment=environment))
        wait_for_workers(address, len(places))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Mismatched versions found")
            cluster, checks = _examine(address)
        yield Examined(cluster, checks, _names(address))


def _names(address: str) -> dict[str, str]:
    """The workers' addresses by their names, as the scheduler knows them."""
    with Client(address, timeout=30) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    return {str(worker["name"]): each for each, worker in workers.items()}


def test_check_versions__names_the_worker_with_another_version(crowd: Examined) -> None:
    ours = find_facts().versions["stakeweight"]
    check = crowd.checks["versions"]
    assert (check.status, check.found) == (
        "problem",
        f"stakeweight {ours} here, 9.9.9 on {crowd.names['version']}",
    )


def test_check_code__names_the_worker_with_other_code_of_the_same_version(crowd: Examined) -> None:
    check = crowd.checks["code"]
    assert check.status == "problem"
    assert crowd.names["code"] in check.found
    assert not any(crowd.names[name] in check.found for name in ("good", "gpu", "version"))


def test_check_answers__names_the_worker_without_the_engine(crowd: Examined) -> None:
    check = crowd.checks["workers"]
    assert check.status == "problem"
    assert check.found.startswith(f"{crowd.names['engine']}: ")
    assert "No module named 'infra.doctor_facts'" in check.found
    assert not any(crowd.names[name] in check.found for name in ("good", "gpu", "version", "code"))


def test_ask_cluster__versions_are_known_where_the_engine_is_not(crowd: Examined) -> None:
    peer = next(peer for peer in crowd.cluster.workers if peer.name == crowd.names["engine"])
    assert peer.facts is None
    assert peer.versions == find_facts().versions


def test_check_gpu__names_the_worker_that_offers_one_and_has_none(crowd: Examined) -> None:
    check = crowd.checks["gpu"]
    assert (check.status, check.found) == ("problem", f"offered without a CUDA device by {crowd.names['gpu']}")


def test_check_exposure__a_scheduler_on_every_interface_without_tls_is_a_problem(crowd: Examined) -> None:
    check = crowd.checks["scheduler"]
    assert check.status == "problem"
    assert check.found.startswith("listens on tcp://0.0.0.0:")


def test_check_memory__the_smallest_worker_decides(crowd: Examined) -> None:
    check = crowd.checks["memory, workers"]
    assert (check.status, check.found) == (
        "problem",
        "500 MB a worker, a round needs 540 MB: Dask would pause it",
    )


def test_ask_cluster__leaves_the_cluster_as_it_was(crowd: Examined) -> None:
    assert sorted(peer.name for peer in crowd.cluster.workers) == sorted(crowd.names.values())


def test_check_cluster__has_nothing_to_say_where_nothing_is_wrong(tmp_path: Path) -> None:
    with scheduler(tmp_path) as address, worker(address, tmp_path):
        wait_for_workers(address, 1)
        cluster, checks = _examine(address)
    disk = checks.pop("disk, workers")  # this machine's own
    assert {check.status for check in checks.values()} == {"ok"}
    assert disk.status in ("ok", "warning")
    assert [len(peer.versions) > 10 and peer.skew_s == 0.0 for peer in (cluster.scheduler, *cluster.workers)] == [
        True,
        True,
    ]


def test_check_cluster__a_worker_that_hangs_is_named_within_the_limit(tmp_path: Path) -> None:
    (tmp_path / "alive").mkdir()
    (tmp_path / "hung").mkdir()
    with (
        scheduler(tmp_path) as address,
        worker(address, tmp_path / "alive"),
        worker(address, tmp_path / "hung") as hung,
    ):
        wait_for_workers(address, 2)
        name = _names(address)["hung"]
        hung.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        cluster, checks = _examine(address, wants_gpu=True, limit_s=4.0)
        took_s = time.monotonic() - started
    assert (checks["workers"].status, checks["workers"].found) == ("problem", f"{name}: no answer within 4 s")
    assert checks["versions"].status == "warning"
    assert name in checks["versions"].found
    assert checks["gpu"].found == "asked for, but no worker offers it"
    assert [peer.facts is not None for peer in cluster.workers if peer.name != name] == [True]
    assert took_s < 20


def test_check_threads__more_threads_than_processors_are_a_warning(crowd: Examined) -> None:
    check = crowd.checks["threads"]
    assert check.status == "warning"
    assert check.found.startswith("1002 threads for ")


def test_ask_cluster__tells_the_time_zone_of_each_process(crowd: Examined) -> None:
    zones = {peer.name: peer.facts.zone for peer in crowd.cluster.workers if peer.facts is not None}
    assert zones[crowd.names["code"]] == "UTC+0900"
    assert len(set(zones.values())) == 2


def test_ask_cluster__an_address_without_a_scheduler_is_one_line() -> None:
    with pytest.raises(InfraError, match=r"no scheduler answered at tcp://127\.0\.0\.1:9 within 1 s") as caught:
        ask_cluster(Settings(scheduler="tcp://127.0.0.1:9"), 1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "reach", "status"),
    [
        ("tls://0.0.0.0:8786", "everywhere", "ok"),
        ("tcp://127.0.0.1:8786", "this machine", "ok"),
        ("tcp://10.1.2.3:8786", "a private network", "warning"),
        ("tcp://8.8.8.8:8786", "everywhere", "problem"),
    ],
)
def test_check_exposure__tells_who_may_connect(address: str, reach: str, status: str) -> None:
    cluster = ClusterAnswer(reach, Peer("scheduler", {}, listens=(address,)), ())
    assert check_exposure(cluster).status == status


def _with_cuda(device: str) -> Facts:
    return replace(find_facts(), cuda=device)


def test_check_gpu__names_the_devices(tmp_path: Path) -> None:
    workers = tuple(Peer(f"tcp://127.0.0.1:{port}", {}, _with_cuda("a device"), offers_gpu=True) for port in (1, 2))
    check = check_gpu(ClusterAnswer("this machine", Peer("scheduler", {}), workers), wanted=True)
    assert (check.status, check.found) == ("ok", "a device on 2 workers")


@pytest.mark.parametrize(
    ("text", "status", "found"),
    [
        ("cluster_class: distributed.LocalCluster", "ok", "starts a distributed.LocalCluster"),
        ("cluster_class: no_such_package.Cluster", "problem", "needs the package no_such_package"),
        ("cluster_class: 3", "problem", "must be an import path, found 3"),
        (
            "{cluster_class: distributed.LocalCluster, cluster_kwargs: {host: 0.0.0.0}}",
            "problem",
            "opens a scheduler without TLS on 0.0.0.0",
        ),
        (
            "{cluster_class: distributed.LocalCluster, cluster_kwargs: {host: 'tls://0.0.0.0', security: true}}",
            "ok",
            "starts a",
        ),
    ],
)
def test_check_cluster_file__is_only_read(tmp_path: Path, text: str, status: str, found: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    check = check_cluster_file(str(tmp_path / "cluster.yaml"))
    assert check.status == status
    assert found in check.found
