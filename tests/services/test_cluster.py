"""Rounds on a real cluster: Dask over TLS, S3, Prefect on PostgreSQL with a process worker, all on loopback."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from infra.certificates import make_certificates
from tasks.synthetic import RULES, write_tournament
from tests.services.commands import last_line, stakeweight
from tests.services.conftest import SPEC, Services
from tests.services.service import run_once

pytestmark = pytest.mark.services

PAID_ON_TC = RULES.replace("mmc =", "tc =") + "\n[portfolio]\n\n[true_contribution]\nbags = 6\nchunk = 2\n"


@pytest.fixture(scope="module")
def expected(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """What one process on this machine publishes for the first round, without any service."""
    out, home = tmp_path_factory.mktemp("local") / "out", tmp_path_factory.mktemp("home")
    done = stakeweight(
        *("resolve", "--data", str(directory), "--out", str(out), "--round", "1", "--workers", "1"),
        environment={"PREFECT_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return files(out)


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def published(services: Services, data: str) -> str:
    """A folder of the store to which the command line has published the first round, on the cluster."""
    address = services.cluster.address
    environment = {name: value for name, value in services.environment.items() if name != "STAKEWEIGHT_SCHEDULER"}
    done = stakeweight(
        *("resolve", "--data", data, "--out", services.store.location("cli"), "--round", "1", "--scheduler", address),
        environment=environment,
    )
    assert done.returncode == 0, done.stderr
    return "cli"


def test_resolve__on_a_tls_cluster_with_s3_publishes_the_bytes_of_a_local_run(
    services: Services, published: str, expected: Mapping[str, bytes]
) -> None:
    found = services.store.files(published)
    assert found.keys() == expected.keys()
    assert {name for name, content in found.items() if content != expected[name]} == set()
    assert sum(name.endswith(".parquet") for name in found) >= 5


def test_verify__finds_nothing_wrong_with_what_lies_in_the_store(services: Services, data: str, published: str) -> None:
    arguments = ("--out", services.store.location(published), "--round", "1", "--data", data)
    done = stakeweight("verify", *arguments, environment=services.environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_resolve__a_second_time_publishes_nothing(services: Services, data: str, published: str) -> None:
    before = services.store.files(published)
    arguments = ("--data", data, "--out", services.store.location(published), "--round", "1")
    done = stakeweight("resolve", *arguments, environment=services.environment)
    assert done.returncode == 0, done.stderr
    assert services.store.files(published) == before


def test_resolve__wrong_credentials_of_the_store_are_one_line(services: Services, data: str) -> None:
    wrong = {**services.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    arguments = ("--data", data, "--out", services.store.location("wrong"), "--round", "1")
    done = stakeweight("resolve", *arguments, environment=wrong)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1
    assert services.store.files("wrong") == {}


@pytest.mark.parametrize("stranger", ["no certificate", "a certificate of another authority"])
def test_resolve__a_stranger_is_turned_away(services: Services, data: str, stranger: str, tmp_path: Path) -> None:
    environment = {**services.environment, "STAKEWEIGHT_CONNECT_LIMIT_S": "5"}
    if stranger == "no certificate":
        del environment["DASK_CONFIG"]
        environment["STAKEWEIGHT_SCHEDULER"] = services.cluster.address.replace("tls://", "tcp://")
    else:
        other = make_certificates(tmp_path / "other", ["127.0.0.1"])
        environment["DASK_CONFIG"] = str(other.dask_file)
    arguments = ("--data", data, "--out", services.store.location("stranger"), "--round", "1")
    done = stakeweight("resolve", *arguments, environment=environment)
    assert done.returncode == 2, done.stderr
    where = environment["STAKEWEIGHT_SCHEDULER"]
    assert last_line(done) == f"stakeweight: no scheduler answered at {where} within 5 s"
    assert services.store.files("stranger") == {}


def test_units_that_need_a_gpu__run_on_the_worker_that_offers_one(services: Services) -> None:
    printed = run_once([sys.executable, "-m", "tests.services.where"], services.environment)
    names = json.loads(printed.strip().splitlines()[-1])
    assert set(names["gpu"]) == {"gpu"}
    assert len(names["gpu"]) == 12
    assert set(names["anywhere"]) & {"cpu-0", "cpu-1"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_resolve__with_gpu_sends_the_portfolio_to_the_worker_that_offers_one(
    services: Services, tmp_path: Path
) -> None:
    """Without CUDA that worker refuses, which shows where the portfolio was sent."""
    write_tournament(tmp_path / "data", SPEC, rules=PAID_ON_TC)
    data, out = services.store.upload(tmp_path / "data", "tc"), services.store.location("tc-out")
    done = stakeweight(
        "resolve", "--data", data, "--out", out, "--round", "1", "--gpu", environment=services.environment
    )
    assert done.returncode == 2, done.stderr
    assert last_line(done) == "stakeweight: a worker offers the resource GPU, but torch finds no CUDA device there"
    failed = {
        worker.spec.name: "optimise-" in worker.log.read_text()
        for worker in (*services.cluster.workers, services.cluster.gpu_worker)
    }
    assert failed == {"dask-cpu-0": False, "dask-cpu-1": False, "dask-gpu": True}
    assert services.store.files("tc-out") == {}
