"""The flow on real data: published scores, the ledger, and what a second run does."""

import gc
import json
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numerai_tools.scoring import correlation_contribution, feature_neutral_corr
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

from flows.resolve import resolve
from flows.session import Session
from scoring.errors import ConflictError
from scoring.published import SCORE_KEYS
from tasks.conclude import Resolution
from tests.scoring.shared_data import shared_file

ROUNDS = (103, 117, 129)
TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def resolved(session: Session, tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Resolution]]:
    """The three rounds of the golden file, resolved into one store."""
    data, out = shared_file("sp500"), tmp_path_factory.mktemp("out")
    return {number: (out, resolve(str(data), str(out), number)) for number in ROUNDS}


def published(resolved: dict[int, tuple[Path, Resolution]], number: int, table: str) -> pd.DataFrame:
    out, resolution = resolved[number]
    return pq.read_table(out / resolution.manifest.outputs[table]["path"], partitioning=None).to_pandas()


def read_submissions(folder: Path) -> pd.DataFrame:
    columns = {}
    for path in sorted(folder.iterdir()):
        frame = pd.read_csv(path) if path.suffix == ".csv" else pq.read_table(path).to_pandas()
        columns[path.stem] = frame.set_index("id")["prediction"]
    return pd.DataFrame(columns).sort_index()


@pytest.mark.parametrize("number", ROUNDS)
def test_resolve__publishes_the_golden_scores(resolved: dict[int, tuple[Path, Resolution]], number: int) -> None:
    golden = pq.read_table(shared_file("sp500_golden.parquet")).to_pandas()
    golden = golden[golden["round"] == number].set_index("model")
    scores = published(resolved, number, "scores").set_index("model")
    assert set(golden.index) == set(scores.index[scores["corr"].notna()])
    for key in ("corr", "mmc", "bmc", "cwmm"):
        assert (scores.loc[golden.index, key] - golden[key]).abs().max() <= TOLERANCE, key


@pytest.mark.parametrize("number", ROUNDS)
def test_resolve__publishes_what_numerai_tools_says_of_the_published_meta_model(
    resolved: dict[int, tuple[Path, Resolution]], number: int
) -> None:
    folder = shared_file("sp500") / "rounds" / str(number)
    predictions = read_submissions(folder / "submissions")
    table = published(resolved, number, "meta_model").set_index("id")
    features = pq.read_table(folder / "features.parquet").to_pandas().set_index("id").sort_index()
    scores = published(resolved, number, "scores").set_index("model").loc[list(predictions.columns)]
    mmc = correlation_contribution(predictions, table["meta_model"], table["target"])
    fnc = feature_neutral_corr(predictions, features, table["target"].copy())
    assert (scores["mmc"] - mmc).abs().max() <= TOLERANCE
    assert (scores["fnc"] - fnc).abs().max() <= TOLERANCE


@pytest.mark.parametrize("number", ROUNDS)
def test_resolve__publishes_a_ledger_that_follows_from_its_own_columns(
    resolved: dict[int, tuple[Path, Resolution]], number: int
) -> None:
    ledger = published(resolved, number, "ledger")
    models = ledger[ledger["entry"] == "model"]
    atom = Decimal(1).scaleb(-18)
    for row in models[models["status"] == "scored"].to_dict("records"):
        raw = row["corr"] * row["corr_multiplier"] + row["mmc"] * row["mmc_multiplier"]
        rate = max(min(raw * row["factor"], Decimal("0.05")), Decimal("-0.05"))
        assert (raw, rate) == (row["raw_rate"], row["clipped_rate"])
        exact = int(row["at_risk"] / atom) * int(rate.scaleb(36))
        paid = abs(exact) // 10**36 * (1 if exact > 0 else -1)
        assert Decimal(paid) * atom == row["payout"] - row["burn"]
        assert row["stake_after"] == row["stake_before"] + row["payout"] - row["burn"]
    idle = models[models["status"] != "scored"]
    assert (idle["payout"] + idle["burn"] + idle["at_risk"]).sum() == 0
    treasury, burned = ledger[ledger["entry"] == "treasury"], ledger[ledger["entry"] == "burn"]
    assert models["payout"].sum() == treasury["payout"].sum()
    assert models["burn"].sum() == burned["burn"].sum()


def test_resolve__publishes_every_score_and_a_percentile_for_it(resolved: dict[int, tuple[Path, Resolution]]) -> None:
    scores = published(resolved, 103, "scores")
    for key in SCORE_KEYS:
        present, percentile = scores[key].dropna(), scores[f"{key}_percentile"].dropna()
        assert len(present) == (0 if key in ("tc", "tc_raw") else 117)
        assert len(percentile) == len(present)
        if len(present):
            expected = (present.rank(method="average") - 0.5) / len(present)
            assert np.abs(expected - percentile).max() < 1e-15


def test_resolve__names_every_file_of_the_revision_in_the_manifest(
    resolved: dict[int, tuple[Path, Resolution]],
) -> None:
    out, resolution = resolved[117]
    manifest = json.loads((out / "manifests/round=117/1.json").read_bytes())
    published_files = {path.relative_to(out).as_posix() for path in out.glob("*/round=117/*.parquet")}
    assert published_files == {output["path"] for output in manifest["outputs"].values()}
    submissions = {path for path in manifest["inputs"] if "/submissions/" in path}
    assert len(submissions) == 119
    assert manifest["seed"] == resolution.manifest.facts["seed"]
    assert manifest["supersedes"] is None


def test_resolve__leaves_nothing_on_the_workers(session: Session, resolved: dict[int, tuple[Path, Resolution]]) -> None:
    gc.collect()
    deadline = time.monotonic() + 10
    while any(session.client.has_what().values()):
        assert time.monotonic() < deadline, session.client.has_what()
        time.sleep(0.1)


def test_resolve__shows_its_table_and_progress_in_prefect(resolved: dict[int, tuple[Path, Resolution]]) -> None:
    summary = resolved[117][1].summary
    assert summary is not None
    table = artifact("round-117")
    rows = json.loads(table.data)
    assert [row["model"] for row in rows] == [line.model for line in (*summary.best, *reversed(summary.worst))]
    assert rows[0]["change"] == str(summary.best[0].change)
    assert f"payout {summary.payout}" in table.description
    assert artifact("round-117-progress").data == 100.0


def artifact(key: str) -> Artifact:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))[0]


def test_resolve__does_nothing_the_second_time(resolved: dict[int, tuple[Path, Resolution]]) -> None:
    out, first = resolved[103]
    before = sorted(path for path in out.rglob("*"))
    again = resolve(str(shared_file("sp500")), str(out), 103)
    assert again.summary is None
    assert again.manifest == first.manifest
    assert sorted(path for path in out.rglob("*")) == before


def test_resolve__refuses_other_rules_for_a_published_round_unless_a_revision_is_asked_for(
    resolved: dict[int, tuple[Path, Resolution]], tmp_path: Path
) -> None:
    out, _ = resolved[129]
    text = (shared_file("sp500") / "tournament.toml").read_text()
    other = tmp_path / "tournament.toml"
    other.write_text(text.replace('mmc = "2.0"', 'mmc = "1.0"'))
    with pytest.raises(ConflictError, match="already published as revision 1"):
        resolve(str(shared_file("sp500")), str(out), 129, str(other))
    revised = resolve(str(shared_file("sp500")), str(out), 129, str(other), revise=True)
    assert (revised.manifest.revision, revised.manifest.supersedes) == (2, 1)
    assert (out / "manifests/round=129/1.json").exists()
    assert resolve(str(shared_file("sp500")), str(out), 129, str(other)).summary is None
