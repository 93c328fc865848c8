"""An operator's own portfolio problem through the command: his module lies in the folder where he calls it."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from tests.tasks.published_round import NUMBER, TRUE_CONTRIBUTION, publish

MODULE = "fund_in_the_working_directory"
COMMAND = Path(sys.executable).with_name("stakeweight")
SOURCE = "from scoring.portfolio.default_problem import build\n"


def test_cli__finds_an_operators_module_in_the_working_directory_on_workers_too(
    tmp_path: Path, prefect_home: Path
) -> None:
    data, _ = publish(tmp_path, TRUE_CONTRIBUTION)
    terms = tmp_path / "mine.toml"
    terms.write_text(TRUE_CONTRIBUTION.replace("[portfolio]\n", f'[portfolio]\nsolver = "{MODULE}:build"\n'))
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    out = tmp_path / "by_cvxpy"
    command = [str(COMMAND), "resolve", "--data", str(data), "--out", str(out), "--round", str(NUMBER)]
    finished = subprocess.run(
        [*command, "--tournament", str(terms), "--workers", "1"],
        cwd=tmp_path,
        env={**os.environ, "PREFECT_HOME": str(prefect_home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    bags = pq.read_table(next(out.glob("bags/*/*.parquet")), partitioning=None).to_pylist()
    assert {row["status"] for row in bags if row["kind"] == "tc"} == {"converged"}
