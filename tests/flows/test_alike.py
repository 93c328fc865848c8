"""A round by policies that look at more than stakes: on workers the same bytes as stage after stage in one process."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.resolve import resolve
from flows.session import Session
from scoring.synthetic import SyntheticSpec
from tasks.synthetic import write_tournament
from tasks.tournament import TOURNAMENT_FILE
from tests.flows.in_process import resolve_in_process

ROUND = 1
# More than one block of models (512), so that blocks meet on different workers.
SPEC = SyntheticSpec(rounds=1, models=560, stocks=120, seed=21)
WEIGHTS = """
[[weights]]
policy = "minimum_example_correlation"
minimum = "-0.2"
[[weights]]
policy = "minimum_example_correlation"
minimum = "-0.3"
example = "BENCHMARK"
[[weights]]
policy = "within_account"
[[weights]]
policy = "cap_family"
cap = "0.02"
threshold = "0.8"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tournament") / "data"
    write_tournament(directory, SPEC)
    folder = directory / f"rounds/{ROUND}"
    benchmark = sorted((folder / "benchmarks").iterdir())[0]
    pq.write_table(pq.ParquetFile(benchmark).read(), folder / "example_predictions.parquet")
    accounts = sorted(set(pq.ParquetFile(folder / "stakes.parquet").read().column("account").to_pylist()))
    standings = [Decimal(at % 7 - 1) / 100 for at in range(len(accounts))]
    nobody = pa.array([None] * len(accounts), pa.string())
    table = pa.table({"model": nobody, "account": accounts, "standing": standings})
    pq.write_table(table, folder / "standings.parquet")
    file = directory / TOURNAMENT_FILE
    text = file.read_text().replace("since_round = 0\n", 'since_round = 0\nnet_opposites = "0.7"\n')
    file.write_text(text + WEIGHTS.replace("BENCHMARK", benchmark.stem))
    return directory


def test_resolve__finds_who_is_alike_on_any_number_of_workers(session: Session, data: Path, tmp_path: Path) -> None:
    resolve(str(data), str(tmp_path / "flow"), ROUND)
    resolve_in_process(data, tmp_path / "alone", ROUND)
    manifests = [
        json.loads((tmp_path / out / f"manifests/round={ROUND}/1.json").read_bytes()) for out in ("flow", "alone")
    ]
    assert manifests[0] == manifests[1]
    assert manifests[0]["rules"]["net_opposites"] == "0.7"
    assert [step["policy"] for step in manifests[0]["weights"]][-1] == "cap_family"
