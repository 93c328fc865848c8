"""The deployed flows: a missed week catches up in order, provisional scores are shown, and failures are told."""

import importlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
)
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from flows.deployments import backfill, resolve_due, score_open
from flows.session import Session
from scoring.errors import StakeweightError
from scoring.synthetic import SyntheticSpec
from tasks.backfill_report import BackfillError, BackfillReport
from tests.tasks.chained import (
    live,
    published,
    resolve_at,
    resolve_on,
    resolves_at,
    round_file,
    write_chained,
    write_weekly,
)

SPEC = SyntheticSpec(rounds=7, models=8, stocks=60, seed=9, unstaked_share=0.2)
FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
YAML = Path(__file__).parents[2] / "infra" / "prefect.yaml"


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rounds 1 to 5 have resolved, 6 is open, 7 has not opened."""
    data = write_chained(tmp_path_factory.mktemp("chained") / "data", SPEC)
    resolve_on(data, 6, FUTURE, SPEC)
    not_open(data, 7)
    return data


def not_open(data: Path, number: int) -> None:
    path = round_file(data, number, "round.toml")
    dates = {"opens_at": FUTURE, "closes_at": FUTURE + timedelta(2), "resolves_at": FUTURE + timedelta(30)}
    kept = [line for line in path.read_text().splitlines() if line.split(" = ")[0] not in dates]
    path.write_text("\n".join([*kept, *(f"{key} = {time:%Y-%m-%dT%H:%M:%SZ}" for key, time in dates.items()), ""]))


@pytest.fixture
def two_weeks(chained: Path, tmp_path: Path) -> Path:
    """What is published: rounds 1 and 2."""
    return live(chained, tmp_path / "out", SPEC, [1, 2])


def statuses(report: BackfillReport) -> dict[int, str]:
    return {line.number: line.status for line in report.lines}


def artifacts(key: str) -> list[Artifact]:
    """All of a key, the latest last; other modules' runs may have left some too."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return sorted(found, key=lambda each: each.created)


def last_run(flow: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        name = FlowFilter(name=FlowFilterName(any_=[flow]))
        (found,) = client.read_flow_runs(flow_filter=name, sort=FlowRunSort.START_TIME_DESC, limit=1)
    return found


def order_of_publication(out: Path) -> list[str]:
    folders = sorted((out / "manifests").iterdir(), key=lambda folder: (folder / "1.json").stat().st_mtime_ns)
    return [folder.name for folder in folders]


# The weekly run ---------------------------------------------------------------------------------------------------


def test_resolve_due__after_three_missed_weeks_one_run_resolves_three_rounds_in_order(
    session: Session, chained: Path, two_weeks: Path, tmp_path: Path
) -> None:
    report = resolve_due(str(chained), str(two_weeks))
    assert statuses(report) == {
        1: "published before",
        2: "published before",
        3: "published",
        4: "published",
        5: "published",
    }
    assert order_of_publication(two_weeks) == [f"round={number}" for number in (1, 2, 3, 4, 5)]
    assert published(two_weeks) == published(live(chained, tmp_path / "live", SPEC, [1, 2, 3, 4, 5]))
    assert last_run("resolve-due").state_name == "Completed"
    for number in (3, 4, 5):
        assert f"payout {report.lines[number - 1].totals['payout']}" in str(
            artifacts(f"round-{number}")[-1].description
        )
        assert artifacts(f"round-{number}-progress")[-1].data == 100.0


def test_resolve_due__has_nothing_to_do_the_week_after(session: Session, chained: Path, two_weeks: Path) -> None:
    resolve_due(str(chained), str(two_weeks))
    before = published(two_weeks)
    assert set(statuses(resolve_due(str(chained), str(two_weeks))).values()) == {"published before"}
    assert published(two_weeks) == before


def test_resolve_due__ends_as_failed_and_names_the_round_when_the_others_are_published(
    session: Session, tmp_path: Path
) -> None:
    data, out = write_weekly(tmp_path / "data", SPEC), tmp_path / "out"
    resolve_on(data, 7, FUTURE, SPEC)
    round_file(data, 2, "targets.parquet").write_bytes(b"not parquet")
    with pytest.raises(BackfillError, match=r"round 2 failed: rounds/2/targets\.parquet"):
        resolve_due(str(data), str(out))
    assert sorted(order_of_publication(out)) == [f"round={number}" for number in (1, 3, 4, 5, 6)]
    assert last_run("resolve-due").state_name == "Failed"


def test_resolve_due__takes_another_tournament_file(session: Session, chained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text((chained / "tournament.toml").read_text().replace('mmc = "2.0"', 'mmc = "1.0"'))
    out = tmp_path / "out"
    resolve_due(str(chained), str(out), str(other))
    rules = json.loads((out / "manifests/round=1/1.json").read_bytes())["rules"]
    assert rules["payout"]["mmc"] == "1.0"


def test_resolve_due__the_same_as_a_backfill_but_for_what_is_published(
    session: Session, chained: Path, two_weeks: Path
) -> None:
    """The weekly run would else read years of submissions; a backfill does."""
    data = two_weeks.parent / "data"
    shutil.copytree(chained, data)
    files = sorted(round_file(data, 2, "submissions").glob("*.parquet"))
    shutil.copy(files[0], files[1])
    report = resolve_due(str(data), str(two_weeks))
    assert statuses(report)[5] == "published"
    with pytest.raises(BackfillError, match="round 2: already published") as caught:
        backfill(str(data), str(two_weeks), "1-2")
    assert caught.value.exit_code == 4


# The daily scores -------------------------------------------------------------------------------------------------


@pytest.fixture
def open_rounds(chained: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Rounds 3 to 6 are open, 5 has no targets yet; published are 1 and 2."""
    data = Path(shutil.copytree(chained, tmp_path / "data"))
    for number in (3, 4, 5):
        resolve_on(data, number, FUTURE + timedelta(number), SPEC)
    round_file(data, 5, "targets.parquet").unlink()
    return data, live(data, tmp_path / "out", SPEC, [1, 2])


def test_score_open__leaves_a_table_for_every_open_round_that_has_targets(
    session: Session, open_rounds: tuple[Path, Path], tmp_path: Path
) -> None:
    data, out = open_rounds
    before = published(out), published(data)
    counts = {number: len(artifacts(f"round-{number}-provisional")) for number in range(1, 8)}
    score_open(str(data), str(out))
    shown = {number: artifacts(f"round-{number}-provisional")[counts[number] :] for number in counts}
    assert [number for number, tables in shown.items() if tables] == [3, 4, 6]
    assert (published(out), published(data)) == before
    for number in (3, 4):  # these closed before any round resolved, so a run without a history pays the same
        resolve_on(data, number, resolves_at(number, SPEC), SPEC)
        resolve_at(data, out, number)
        (path,) = (out / f"scores/round={number}").iterdir()
        (table,) = shown[number]
        assert "no money" in str(table.description)
        rows = {row["model"]: row for row in json.loads(str(table.data))}
        final = pq.ParquetFile(path).read().to_pylist()
        assert rows.keys() == {row["model"] for row in final}
        for row in final:
            assert rows[row["model"]]["mmc"] == (None if row["mmc"] is None else pytest.approx(row["mmc"], rel=1e-5))
    assert last_run("score-open").state_name == "Completed"


def test_score_open__a_bad_round_is_told_when_the_others_are_shown(
    session: Session, open_rounds: tuple[Path, Path]
) -> None:
    data, out = open_rounds
    round_file(data, 3, "stakes.parquet").write_bytes(b"not parquet")
    before = len(artifacts("round-4-provisional")), len(artifacts("round-3-provisional"))
    with pytest.raises(StakeweightError, match=r"rounds/3/stakes\.parquet") as caught:
        score_open(str(data), str(out))
    assert "rounds/4" not in str(caught.value)
    assert (len(artifacts("round-4-provisional")), len(artifacts("round-3-provisional"))) == (before[0] + 1, before[1])
    assert last_run("score-open").state_name == "Failed"


def test_score_open__before_anything_is_published_shows_what_can_be_known(
    session: Session, open_rounds: tuple[Path, Path], tmp_path: Path
) -> None:
    before = {number: len(artifacts(f"round-{number}-provisional")) for number in (3, 4, 6)}
    score_open(str(open_rounds[0]), str(tmp_path / "nothing"))
    shown = [number for number, count in before.items() if len(artifacts(f"round-{number}-provisional")) > count]
    assert shown == [3, 4]  # round 6 closed after round 1 resolved


# What is deployed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", yaml.safe_load(YAML.read_text())["deployments"], ids=lambda each: each["name"])
def test_prefect_yaml__names_a_flow_that_takes_these_parameters(deployment: dict[str, object]) -> None:
    module, _, name = str(deployment["entrypoint"]).rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    parameters = flow.parameters
    assert set(deployment["parameters"]) <= parameters.properties.keys()
    assert set(parameters.required) <= set(deployment["parameters"])
    assert flow.name == deployment["name"]
