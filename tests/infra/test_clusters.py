import signal
import socket
import threading
import time
from pathlib import Path

import dask
import psutil
import pytest
import yaml

from infra.clusters import open_cluster, read_spec
from infra.errors import InfraError
from infra.settings import Settings, read_settings

ANY_PORT = {"dashboard_address": "127.0.0.1:0"}
"""Dask's own default, port 8787, may be taken by a test beside this one, which Dask tells as a warning."""


def _children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True) if "spawn_main" in _command(process)}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _spec_file(folder: Path, **changes: object) -> str:
    spec = {
        "cluster_class": "distributed.LocalCluster",
        "cluster_kwargs": {"n_workers": 1, **ANY_PORT},
    }
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump({**spec, **changes}))
    return str(path)


def _worker_facts() -> tuple[bool, str]:
    import os

    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), os.environ["NUMBA_NUM_THREADS"]


def test_open_cluster__local_workers_see_no_ctrl_c_use_one_thread_and_listen_on_this_machine_only() -> None:
    before = _children()
    with open_cluster(read_settings(workers=2)) as client:
        assert list(client.run(_worker_facts).values()) == [(True, "1")] * 2
        workers = _children() - before
        sockets = [entry for pid in workers for entry in psutil.Process(pid).net_connections("inet")]
        sockets += psutil.Process().net_connections("inet")
        assert {entry.laddr.ip for entry in sockets if entry.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert not _children() - before


def test_open_cluster__stops_its_workers_after_an_exception() -> None:
    before = _children()
    with pytest.raises(ZeroDivisionError), open_cluster(read_settings(workers=1)):
        _ = len(_children() - before) // 0
    assert not _children() - before


def test_open_cluster__gives_dask_its_settings_back(tmp_path: Path) -> None:
    file = _spec_file(tmp_path, dask_config={"distributed.scheduler.allowed-failures": 77})
    before = dask.config.get("distributed.scheduler.allowed-failures")
    with open_cluster(Settings(cluster=file)) as client:
        assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures) == 77
    assert dask.config.get("distributed.scheduler.allowed-failures") == before


def test_open_cluster__connects_to_a_running_scheduler_and_leaves_it_running() -> None:
    with open_cluster(read_settings(workers=1)) as owner:
        with open_cluster(Settings(scheduler=owner.scheduler.address)) as client:
            assert client.submit(int, "7").result(timeout=20) == 7
        assert owner.submit(int, "8").result(timeout=20) == 8


def test_open_cluster__a_scheduler_that_does_not_answer_is_named_within_the_limit() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with (
            pytest.raises(InfraError, match=f"no scheduler answered at {address} within 1 s"),
            open_cluster(Settings(scheduler=address, connect_limit_s=1)),
        ):
            pass
    assert time.monotonic() - started < 10


def test_open_cluster__a_cluster_without_workers_is_named(tmp_path: Path) -> None:
    kwargs = {"processes": False, "n_workers": 0, "dashboard_address": "127.0.0.1:0"}
    file = _spec_file(tmp_path, cluster_kwargs=kwargs)
    with (
        pytest.raises(InfraError, match="showed no worker within 1 s"),
        open_cluster(Settings(cluster=file, connect_limit_s=1)),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster_class: [\n a: b", r"cluster\.yaml': line 2, column 6: expected ',' or '\]'"),
        ("cluster_class: 2026-99-99", "month must be in"),
        ("cluster_class: 3", "cluster_class must be an import path, found 3"),
        ("{cluster_class: a.B, cluster_kwargs: [1]}", r"cluster_kwargs must be a mapping .* found \[1\]"),
        ("{cluster_class: a.B, dask_config: {1: 2}}", "dask_config must be a mapping"),
        ("cluster_kwargs: {}", "needs cluster_class"),
        ("{cluster_class: distributed.LocalCluster, workers: 3}", "nothing else"),
        ("just a word", "needs cluster_class"),
    ],
)
def test_read_spec__refuses_a_file_of_another_form(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(InfraError, match=message) as caught:
        read_spec(str(path))
    assert "\n" not in str(caught.value)


def test_read_spec__names_a_missing_file() -> None:
    with pytest.raises(InfraError, match=r"nowhere\.yaml"):
        read_spec("nowhere.yaml")


@pytest.mark.parametrize("cluster_class", ["distributed.NoSuchCluster", "no_such_module.Cluster", "LocalCluster"])
def test_open_cluster__names_a_class_that_does_not_exist(tmp_path: Path, cluster_class: str) -> None:
    settings = Settings(cluster=_spec_file(tmp_path, cluster_class=cluster_class))
    with pytest.raises(InfraError, match=cluster_class), open_cluster(settings):
        pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://", "missing port number"),
        ("tcp://127.0.0.1:port", "invalid literal"),
        ("tls://127.0.0.1:9", r"tls://127\.0\.0\.1:9 needs the certificates .*distributed\.comm\.tls\)$"),
    ],
)
def test_open_cluster__an_impossible_address_is_one_line(address: str, message: str) -> None:
    settings = Settings(scheduler=address, connect_limit_s=1)
    with pytest.raises(InfraError, match=message) as caught, open_cluster(settings):
        pass
    assert "\n" not in str(caught.value)


def test_open_cluster__names_a_missing_certificate(tmp_path: Path) -> None:
    settings = Settings(scheduler="tls://127.0.0.1:9", connect_limit_s=1)
    with (
        dask.config.set(
            {f"distributed.comm.tls.{name}": str(tmp_path / "own.pem") for name in ("ca-file", "client.cert")}
        ),
        pytest.raises(InfraError, match=r"needs the certificates .*No such file"),
        open_cluster(settings),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cluster_kwargs": {"n_workers": 2, "no_such": 3, **ANY_PORT}}, "unexpected keyword argument 'no_such'"),
        (
            {"cluster_kwargs": {"n_workers": 1, "preload": "no_such_module", **ANY_PORT}},
            "No module named 'no_such_module'",
        ),
        ({"cluster_kwargs": {"n_workers": 1, "scheduler_kwargs": {"no_such": 3}, **ANY_PORT}}, "argument 'no_such'"),
        ({"cluster_class": "builtins.dict"}, "builtins.dict: is no Dask cluster"),
        ({"dask_config": {"distributed.version.no_such": 3}}, "LocalCluster: dask_config: "),
    ],
)
def test_open_cluster__a_failed_start_is_one_line_and_leaves_no_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, object], message: str
) -> None:
    before = _children()
    settings = Settings(cluster=_spec_file(tmp_path, **changes))
    with pytest.raises(InfraError, match=message) as caught, open_cluster(settings):
        pass
    assert "\n" not in str(caught.value)
    assert not _children() - before
    assert capfd.readouterr() == ("", "")  # neither the driver nor a worker shows a traceback of its own


def test_open_cluster__does_not_wait_for_ever_for_a_listener_that_says_nothing() -> None:
    """As a stopped scheduler process does, or the end of a tunnel: the connection stands, the answer never comes."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        settings = Settings(scheduler=address, connect_limit_s=1)
        started = time.monotonic()
        with pytest.raises(InfraError, match=f"no scheduler answered at {address} within 1 s"), open_cluster(settings):
            pass
        assert time.monotonic() - started < 10


def test_open_cluster__does_not_wait_for_ever_for_a_cluster_that_does_not_start(tmp_path: Path) -> None:
    """As one on other machines does whose program never says that it is there."""
    file = tmp_path / "cluster.yaml"
    file.write_text("cluster_class: tests.infra.test_clusters.Silent\n")
    started = time.monotonic()
    with (
        pytest.raises(InfraError, match=r"cluster tests.infra.test_clusters.Silent: no answer within 1 s$"),
        open_cluster(Settings(cluster=str(file), cluster_start_limit_s=1)),
    ):
        pass
    assert time.monotonic() - started < 10


class Silent:
    """A cluster that never stands."""

    def __init__(self) -> None:
        threading.Event().wait(60)
