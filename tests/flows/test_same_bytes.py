"""One SHA-256 for each published table, whatever computes it and however the same submissions were written.

Numbers of workers and threads: the command line, for real, against the session of the other tests. Processor features,
BLAS kernels and `python -O`: the same stages in a process of their own, without Prefect and Dask (which take 10 s each
time and compute nothing). Order and form of the files: the session.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from numpy._core import _multiarray_umath as numpy_core

from flows.resolve import resolve
from flows.session import Session
from scoring.synthetic import SyntheticSpec
from tasks.synthetic import write_tournament
from tests.flows.alone import glibc_features

TABLES = ("scores", "ledger", "meta_model", "bags")
ROUND = 1
# More than one block of models (512), so that blocks meet on different workers.
SPEC = SyntheticSpec(rounds=1, models=560, stocks=240, seed=20)
COMMAND = "from flows.cli import main; main()"
LATEST_X86 = ("X86_V4", "AVX512_ICL", "AVX512_SPR")
KERNELS = {"Sandybridge": ["AVX"], "Haswell": ["AVX2", "FMA3"], "SkylakeX": ["AVX512_SKX"]}
"""Kernels of OpenBLAS, and the features of a processor that they need, in numpy's words."""
TWO_THREADS = """\
cluster_class: distributed.LocalCluster
cluster_kwargs: {n_workers: 1, threads_per_worker: 2, processes: true, dashboard_address: null}
"""


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of each published table, read from the files and not from the manifest that names them."""
    outputs = json.loads((out / f"manifests/round={ROUND}/1.json").read_bytes())["outputs"]
    return {name: hashlib.sha256((out / outputs[name]["path"]).read_bytes()).hexdigest() for name in TABLES}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tournament") / "data"
    write_tournament(directory, SPEC)
    return directory


@pytest.fixture(scope="module")
def expected(session: Session, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of two workers with one thread each."""
    out = tmp_path_factory.mktemp("expected")
    resolve(str(data), str(out), ROUND)
    return digests(out)


def finished(*arguments: str, **environment: str) -> str:
    """Runs a Python process of its own, to its end, and returns what it printed."""
    process = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def run(data: Path, out: Path, *arguments: str, **environment: str) -> dict[str, str]:
    """Resolves the round in a Python process of its own."""
    finished(*arguments, **environment)
    return digests(out)


def run_command(data: Path, out: Path, home: Path, *options: str) -> dict[str, str]:
    """Resolves the round by the command line."""
    arguments = ["resolve", "--data", str(data), "--out", str(out), "--round", str(ROUND), *options]
    return run(data, out, "-c", COMMAND, *arguments, PREFECT_HOME=str(home))


def run_alone(data: Path, out: Path, *python: str, **environment: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Resolves the round in one process, under an environment of its own; returns also what that process ran on."""
    printed = finished(*python, "-m", "tests.flows.alone", str(data), str(out), str(ROUND), **environment)
    return digests(out), json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("workers", ["1", "3"])
def test_published_bytes__do_not_depend_on_the_number_of_workers(
    data: Path, tmp_path: Path, prefect_home: Path, expected: Mapping[str, str], workers: str
) -> None:
    assert run_command(data, tmp_path, prefect_home, "--workers", workers) == expected


def test_published_bytes__do_not_depend_on_the_number_of_threads(
    data: Path, tmp_path: Path, prefect_home: Path, expected: Mapping[str, str]
) -> None:
    spec = tmp_path / "cluster.yaml"
    spec.write_text(TWO_THREADS)
    assert run_command(data, tmp_path / "out", prefect_home, "--cluster", str(spec)) == expected


@pytest.mark.parametrize("core", KERNELS)
def test_published_bytes__do_not_depend_on_the_blas_kernel(
    data: Path, tmp_path: Path, expected: Mapping[str, str], core: str
) -> None:
    lacking = [feature for feature in KERNELS[core] if not numpy_core.__cpu_features__.get(feature)]
    if lacking:
        pytest.skip(f"this processor has no {' and no '.join(lacking)}, which the BLAS kernel {core} needs")
    found, ran_on = run_alone(data, tmp_path, OPENBLAS_CORETYPE=core)
    assert ran_on["blas"] == [core]
    assert found == expected


def test_published_bytes__do_not_depend_on_what_numpy_may_use(
    data: Path, tmp_path: Path, expected: Mapping[str, str]
) -> None:
    here = [f for f in numpy_core.__cpu_dispatch__ if f in LATEST_X86 and numpy_core.__cpu_features__.get(f)]
    if not here:
        pytest.skip("needs a processor with AVX-512: without it numpy uses none of the newest features anyway")
    found, ran_on = run_alone(data, tmp_path, NPY_DISABLE_CPU_FEATURES=" ".join(here))
    assert "X86_V2" in ran_on["numpy"]
    assert not set(here) & set(ran_on["numpy"])
    assert found == expected


def test_published_bytes__do_not_depend_on_what_the_c_library_may_use(
    data: Path, tmp_path: Path, expected: Mapping[str, str]
) -> None:
    here = glibc_features()
    if not here:
        pytest.skip("needs glibc 2.33 or later on x86, to see what it uses, and a processor with something to turn off")
    off = ",".join(f"-{feature}" for feature in here)
    found, ran_on = run_alone(data, tmp_path, GLIBC_TUNABLES=f"glibc.cpu.hwcaps={off}")
    assert ran_on["glibc"] == []
    assert found == expected


def test_published_bytes__do_not_depend_on_what_numba_may_use(
    data: Path, tmp_path: Path, expected: Mapping[str, str]
) -> None:
    found, ran_on = run_alone(data, tmp_path, NUMBA_CPU_NAME="generic")
    assert ran_on["numba"] == ["generic", ""]
    assert found == expected


def test_published_bytes__do_not_depend_on_assertions(data: Path, tmp_path: Path, expected: Mapping[str, str]) -> None:
    found, ran_on = run_alone(data, tmp_path, "-O")
    assert not ran_on["asserts"]
    assert found == expected


def rewrite(data: Path, copy: Path) -> list[Path]:
    """Copies a tournament and returns its submissions, the last first."""
    shutil.copytree(data, copy)
    return sorted((copy / f"rounds/{ROUND}/submissions").iterdir(), reverse=True)


def read(path: Path) -> pa.Table:
    return pacsv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)


def test_published_bytes__do_not_depend_on_the_order_of_files_and_rows(
    session: Session, data: Path, tmp_path: Path, expected: Mapping[str, str]
) -> None:
    random = np.random.default_rng(5)
    files = rewrite(data, tmp_path / "data")
    shuffled = {path: read(path).take(random.permutation(SPEC.stocks)) for path in files}
    for path in files:
        path.unlink()
    for path, table in shuffled.items():  # the last model is written first
        pq.write_table(table, path.with_suffix(".parquet"), compression="snappy")
    resolve(str(tmp_path / "data"), str(tmp_path / "out"), ROUND)
    assert digests(tmp_path / "out") == expected


def test_published_bytes__do_not_depend_on_one_wide_table_or_a_file_a_model(
    session: Session, data: Path, tmp_path: Path, expected: Mapping[str, str]
) -> None:
    files = rewrite(data, tmp_path / "data")
    tables = {path.stem: read(path).sort_by("id") for path in files}
    wide = {"id": next(iter(tables.values())).column("id")}
    wide |= {model: table.column("prediction") for model, table in tables.items()}
    shutil.rmtree(files[0].parent)
    pq.write_table(pa.table(wide), files[0].parent.with_suffix(".parquet"))
    resolve(str(tmp_path / "data"), str(tmp_path / "out"), ROUND)
    assert digests(tmp_path / "out") == expected
