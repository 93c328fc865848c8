"""True Contribution through the flow: the same bytes on any number of workers, and when one dies among the bags."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import norm

from flows.resolve import resolve
from flows.session import Session
from scoring.synthetic import SyntheticSpec
from tasks.synthetic import RULES, write_tournament
from tests.flows.test_same_bytes import digests, finished, run
from tests.scoring.shared_data import shared_file

ROUND = 1
SPEC = SyntheticSpec(rounds=1, models=560, stocks=900, seed=21)
PAID_ON_TC = RULES.replace("mmc =", "tc =") + "\n[portfolio]\n\n[true_contribution]\nbags = 60\nchunk = 5\n"
COMMAND = "from flows.cli import main; main()"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tournament") / "data"
    write_tournament(directory, SPEC, rules=PAID_ON_TC)
    return directory


@pytest.fixture(scope="module")
def published(session: Session, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    resolve(str(data), str(out), ROUND)
    return out


@pytest.fixture(scope="module")
def expected(published: Path) -> Mapping[str, str]:
    return digests(published)


def table(out: Path, name: str) -> dict[str, list[object]]:
    return pq.read_table(next(out.glob(f"{name}/round={ROUND}/*.parquet")), partitioning=None).to_pydict()


def test_resolve__pays_on_true_contribution_of_every_model_on_time(published: Path) -> None:
    scores, ledger, bags = (table(published, name) for name in ("scores", "ledger", "bags"))
    status = dict(zip(ledger["model"], ledger["status"], strict=True))
    for model, corr, tc in zip(scores["model"], scores["corr"], scores["tc"], strict=True):
        assert (tc is not None) == (corr is not None and status[model] != "late")
    assert any(status[model] == "late" for model in scores["model"])
    assert any(
        status == "scored" and multiplier
        for status, multiplier in zip(ledger["status"], ledger["tc_multiplier"], strict=True)
    )
    tc_bags = [row for row, kind in enumerate(bags["kind"]) if kind == "tc"]
    assert [bags["bag"][row] for row in tc_bags] == list(range(60))
    assert {bags["status"][row] for row in tc_bags} == {"converged"}


def test_resolve__publishes_portfolio_weights_that_keep_the_terms(published: Path) -> None:
    weights = [float(str(weight)) for weight in table(published, "meta_model")["portfolio"]]
    assert sum(map(abs, weights)) <= 1 + 1e-9
    assert abs(sum(weights)) < 1e-9
    assert max(map(abs, weights)) <= 5 / SPEC.stocks + 1e-12


@pytest.mark.parametrize("workers", ["1", "3"])
def test_true_contribution__has_the_same_bytes_on_any_number_of_workers(
    data: Path, tmp_path: Path, prefect_home: Path, expected: Mapping[str, str], workers: str
) -> None:
    arguments = ["resolve", "--data", str(data), "--out", str(tmp_path), "--round", str(ROUND), "--workers", workers]
    assert run(data, tmp_path, "-c", COMMAND, *arguments, PREFECT_HOME=str(prefect_home)) == expected


def test_true_contribution__has_the_same_bytes_when_a_worker_dies_among_its_bags(
    session: Session, data: Path, tmp_path: Path, expected: Mapping[str, str]
) -> None:
    killed: list[int] = []

    def kill_one_among_the_bags() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            for worker, tasks in session.client.processing().items():
                if any(str(key).startswith("pull_back-") for key in tasks):
                    killed.append(session.client.run(os.getpid, workers=[worker])[worker])
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one_among_the_bags)
    killer.start()
    resolve(str(data), str(tmp_path), ROUND)
    killer.join()
    assert killed
    assert digests(tmp_path) == expected


SP500_ON_TC = """\
name = "sp500"
currency = "NMR"
decimals = 18

[[rules]]
since_round = 101
payout = { corr = "0.5", tc = "1.0" }
clip = "0.05"
stake_threshold = "72000"

[portfolio]

[true_contribution]
bags = 8
chunk = 4
"""


def printed_scores(text: str) -> dict[str, dict[str, float]]:
    """The rows of a printed round, by model: the meta model, the best and the worst; its columns by score."""
    lines = text.splitlines()
    head = next(at for at, line in enumerate(lines) if line.split()[:1] == ["model"])
    keys = lines[head].split("NMR")[-1].split()
    rows = {}
    for line in lines[head + 1 :]:
        name, *cells = line.replace("meta model", "meta_model").split()
        if "/round=" in name:
            break
        rows[name] = dict(zip(keys, map(float, cells[-len(keys) :]), strict=True))
    return rows


def test_cli__a_tournament_file_pays_real_data_on_true_contribution_and_prints_it(
    tmp_path: Path, prefect_home: Path
) -> None:
    """`--tournament` alone turns a tournament that pays on CORR and MMC into one that pays on True Contribution."""
    data, number, out = shared_file("sp500"), 103, tmp_path / "out"
    rules = tmp_path / "on_tc.toml"
    rules.write_text(SP500_ON_TC)
    arguments = ["--data", str(data), "--out", str(out), "--round", str(number), "--tournament", str(rules)]
    text = finished("-c", COMMAND, "resolve", *arguments, PREFECT_HOME=str(prefect_home))
    tables = {
        name: pd.read_parquet(next(out.glob(f"{name}/round={number}/*.parquet")), partitioning=None)
        for name in ("scores", "ledger", "meta_model")
    }
    scores, vectors = tables["scores"].set_index("model"), tables["meta_model"]
    ledger = tables["ledger"].dropna(subset="model").set_index("model")
    change = (ledger["payout"] - ledger["burn"]).astype(float)
    rows = printed_scores(text)
    assert set(rows) == {"meta_model", *change.nlargest(5).index, *change.nsmallest(5).index}
    for model, shown in rows.items():
        assert list(shown)[:3] == ["corr", "mmc", "tc"]
        if model != "meta_model":
            for key in ("corr", "mmc", "tc"):
                assert shown[key] == pytest.approx(scores.loc[model, key], abs=5.1e-5), (model, key)
    own = norm.ppf((vectors["meta_model"].rank() - 0.5) / len(vectors)) @ vectors["tc_price"]
    spread = np.sqrt((scores["tc_raw"] ** 2).mean())
    assert rows["meta_model"]["tc"] == pytest.approx(own * 0.04 / spread, abs=5.1e-5)
    assert rows["meta_model"]["mmc"] == 0
    rate = (0.5 * scores["corr"] + scores["tc"]).clip(-0.05, 0.05)
    due = (ledger["at_risk"].astype(float) * rate)[ledger["status"] == "scored"]
    assert change[due.index].to_numpy() == pytest.approx(due.to_numpy(), rel=1e-9, abs=2e-18)
    assert scores["tc"].dropna().nunique() > 100


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cli__a_worker_that_offers_a_gpu_without_cuda_says_so(data: Path, tmp_path: Path, prefect_home: Path) -> None:
    command = ["resolve", "--data", str(data), "--out", str(tmp_path / "out"), "--round", str(ROUND), "--gpu"]
    finished = subprocess.run(
        [sys.executable, "-c", COMMAND, *command],
        env={**os.environ, "PREFECT_HOME": str(prefect_home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 2, finished.stderr
    last = finished.stderr.strip().splitlines()[-1]
    assert last == "stakeweight: a worker offers the resource GPU, but torch finds no CUDA device there"
    assert not (tmp_path / "out" / "manifests").exists()
