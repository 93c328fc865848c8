"""A round under a weight policy: the meta model follows it, what is at risk the stakes, and the manifest says so."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scoring.errors import ConflictError
from tasks.publish import read_manifest
from tasks.store import open_store
from tests.flows.in_process import resolve_in_process
from tests.reference import naive
from tests.tasks.fixtures import MODELS, TOURNAMENT, submission, write_round

ROUND = 7
CAPPED = TOURNAMENT + '\n[[weights]]\npolicy = "cap_account"\ncap = "0.6"\n'
WEIGHTS = {"model_b": 0.6 * 17143.5 / 17243.5, "model_c": 0.4, "model_d": 0.6 * 100 / 17243.5}
"""By hand: account_1 holds model_b and model_d and nearly all stakes; model_c, with one atom, takes what is above."""


def published(out: Path, table: str) -> list[dict[str, object]]:
    (path,) = (out / f"{table}/round={ROUND}").iterdir()
    return pq.ParquetFile(path).read().to_pylist()


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The round by stake, and capped by account."""
    folder = tmp_path_factory.mktemp("weights")
    for name, text in (("stake", TOURNAMENT), ("capped", CAPPED)):
        data = write_round(folder / f"{name}-data", tournament=text)
        resolve_in_process(data, folder / name, ROUND)
    return folder / "stake", folder / "capped"


def test_resolve__the_meta_model_is_the_mean_by_the_policys_weights(outs: tuple[Path, Path]) -> None:
    tables = [submission(at).to_pydict() for at in range(len(MODELS))]
    predictions = {
        name: dict(zip(table["id"], table["prediction"], strict=True))
        for name, table in zip(MODELS, tables, strict=True)
    }
    expected = naive.weighted(predictions, WEIGHTS)
    for row in published(outs[1], "meta_model"):
        assert row["meta_model"] == pytest.approx(expected[str(row["id"])], abs=1e-14)


def test_resolve__scores_follow_the_policy_and_what_is_at_risk_does_not(outs: tuple[Path, Path]) -> None:
    by_stake, capped = (published(out, "ledger") for out in outs)
    assert [row["at_risk"] for row in by_stake] == [row["at_risk"] for row in capped]
    assert [row["corr"] for row in by_stake] == [row["corr"] for row in capped]
    assert [row["mmc"] for row in by_stake] != [row["mmc"] for row in capped]
    by_stake, capped = (published(out, "bags") for out in outs)
    assert [row["corr"] for row in by_stake] != [row["corr"] for row in capped]


def test_manifest__names_the_steps(outs: tuple[Path, Path]) -> None:
    found = [read_manifest(open_store(out), ROUND, 1).facts["weights"] for out in outs]
    assert found == [[], [{"policy": "cap_account", "value": "0.6"}]]


def test_plan_round__another_policy_is_another_round(outs: tuple[Path, Path], tmp_path: Path) -> None:
    data = write_round(tmp_path, tournament=CAPPED)
    with pytest.raises(ConflictError, match="already published as revision 1 with other rules, options or version"):
        resolve_in_process(data, outs[0], ROUND)
