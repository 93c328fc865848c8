"""The flow of a backfill, for real: on two workers, stopped and resumed, with a bad round, and what it prints."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

from flows.backfill import backfill
from flows.cli import main
from flows.progress import Progress
from flows.resolve import resolve
from flows.session import Session
from flows.verify import verify
from infra.settings import read_settings
from scoring.synthetic import SyntheticSpec
from tasks.backfill import Scored
from tasks.backfill_report import BackfillError, BackfillReport
from tasks.conclude import Work
from tasks.plan import RoundPlan
from tasks.verify import VerifyRequest
from tests.tasks.chained import live, published, resolve_on, resolves_at, round_file, write_chained, write_weekly

SPEC = SyntheticSpec(rounds=6, models=10, stocks=80, seed=8, unstaked_share=0.2)
ROUNDS = list(SPEC.round_numbers)
COMMAND = "from flows.cli import main; main()"


@pytest.fixture(scope="module")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weekly(tmp_path_factory.mktemp("weekly") / "data", SPEC)


@pytest.fixture(scope="module")
def separate(session: Session, weekly: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each round by a `resolve` of its own, the last first."""
    out = tmp_path_factory.mktemp("separate") / "out"
    for number in reversed(ROUNDS):
        resolve(str(weekly), str(out), number)
    return out


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chained(tmp_path_factory.mktemp("chained") / "data", SPEC)


@pytest.fixture(scope="module")
def once(session: Session, weekly: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BackfillReport]:
    out = tmp_path_factory.mktemp("once") / "out"
    return out, backfill(str(weekly), str(out))


def copy(place: Path, folder: Path) -> Path:
    return Path(shutil.copytree(place, folder / place.name))


def statuses(report: BackfillReport) -> dict[int, str]:
    return {line.number: line.status for line in report.lines}


def all_are(status: str) -> dict[int, str]:
    return dict.fromkeys(ROUNDS, status)


def artifact(key: str) -> Artifact | None:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return max(found, key=lambda each: each.created) if found else None


def run(capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch, *arguments: object) -> tuple[object, str, str]:
    """Runs the command; returns exit code, output and error output."""
    patch.setattr(sys, "argv", ["stakeweight", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def truncate_targets(data: Path, number: int) -> None:
    path = round_file(data, number, "targets.parquet")
    path.write_bytes(path.read_bytes()[:-20])


# The same bytes ---------------------------------------------------------------------------------------------------


def test_backfill__rounds_side_by_side_give_the_bytes_of_each_by_itself(
    once: tuple[Path, BackfillReport], separate: Path
) -> None:
    out, report = once
    assert statuses(report) == all_are("published")
    assert published(out) == published(separate)


def test_backfill__shows_every_round_and_its_progress_in_prefect(once: tuple[Path, BackfillReport]) -> None:
    for line in once[1].lines:
        table = artifact(f"round-{line.number}")
        assert table is not None
        assert f"payout {line.totals['payout']}" in str(table.description)
    progress = artifact("backfill")
    assert progress is not None
    assert progress.data == 100.0


def test_backfill__a_second_run_verifies_and_rewrites_nothing(once: tuple[Path, BackfillReport], weekly: Path) -> None:
    out, _ = once
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert statuses(backfill(str(weekly), str(out))) == all_are("verified")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("in_flight", [1, 6])
def test_backfill__chained_stakes_give_the_bytes_of_a_live_run(
    session: Session, chained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    monkeypatch.setattr(session, "settings", session.settings.model_copy(update={"rounds_in_flight": in_flight}))
    assert statuses(backfill(str(chained), str(tmp_path / "out"))) == all_are("published")
    assert published(tmp_path / "out") == published(live(chained, tmp_path / "live", SPEC))


def test_verify__a_chained_round_is_computed_again_from_the_published_history(
    session: Session, chained: Path, tmp_path: Path
) -> None:
    live(chained, tmp_path, SPEC)
    found = verify(VerifyRequest(str(tmp_path), 6, None, str(chained)), read_settings())
    assert found.problems == ()
    assert sum("SHA-256 is that of the recomputed table" in line for line in found.checked) == 5


# Stopped and resumed ----------------------------------------------------------------------------------------------


@contextmanager
def process(data: Path, out: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, none of which is left afterwards."""
    arguments = ["backfill", "--data", str(data), "--out", str(out), "--workers", "2"]
    environment = {**os.environ, "PREFECT_HOME": str(home), "STAKEWEIGHT_ROUNDS_IN_FLIGHT": "2"}
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env=environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        with_group(running, signal.SIGKILL)
        running.communicate(timeout=60)


def with_group(running: subprocess.Popen[str], number: signal.Signals) -> None:
    try:
        os.killpg(running.pid, number)
    except ProcessLookupError:
        return


def manifests(out: Path) -> list[Path]:
    return sorted(out.glob("manifests/round=*/1.json"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_backfill__goes_on_where_it_was_stopped(
    session: Session, weekly: Path, separate: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    with process(weekly, out, tmp_path / "prefect") as running:
        deadline = time.monotonic() + 120
        while not manifests(out):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(running.pid, how)
        code = running.wait(60)
        assert code == (130 if how is signal.SIGINT else -how)
    done = manifests(out)
    assert 0 < len(done) < len(ROUNDS)
    before = {path: path.stat().st_mtime_ns for path in done}
    found = statuses(backfill(str(weekly), str(out)))
    assert sum(status == "verified" for status in found.values()) == len(done)
    assert set(found.values()) == {"verified", "published"}
    assert published(out) == published(separate)
    assert {path: path.stat().st_mtime_ns for path in done} == before


# A bad round ------------------------------------------------------------------------------------------------------


class Watching(Progress):
    """Counts, each time a round has settled, how many rounds' plans and work are in memory."""

    def __init__(self) -> None:
        super().__init__("silent")
        self.alive: list[int] = []

    @contextmanager
    def stage(self, title: str, total: int, *, rate: bool = False) -> Iterator[Callable[[], None]]:
        def count() -> None:
            self.alive.append(in_memory())

        with super().stage(title, total, rate=rate):
            yield count if title == "rounds" else lambda: None


def in_memory() -> int:
    gc.collect()
    return sum(type(each) is RoundPlan for each in gc.get_objects())  # isinstance would ask torch's lazy objects


def test_backfill__a_bad_round_stops_no_other_and_nothing_of_any_stays_in_memory(
    session: Session, weekly: Path, separate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, watching = copy(weekly, tmp_path), tmp_path / "out", Watching()
    for number in (2, 3):  # these fail on the workers, when the plan is made and a part of the work is done
        for path in round_file(data, number, "submissions").iterdir():
            path.write_bytes(b"")
    truncate_targets(data, 4)
    monkeypatch.setattr(session, "progress", watching)
    monkeypatch.setattr(session, "settings", session.settings.model_copy(update={"rounds_in_flight": 2}))
    before = in_memory()
    with pytest.raises(BackfillError) as caught:
        backfill(str(data), str(out))
    report = caught.value.report
    assert statuses(report) == {**all_are("published"), 2: "failed", 3: "failed", 4: "failed"}
    assert [line.exit_code for line in report.lines] == [0, 6, 6, 2, 0, 0]
    assert caught.value.exit_code == 6
    expected = {path: content for path, content in published(separate).items() if good(path)}
    assert published(out) == expected
    assert max(watching.alive) - before <= 2
    del caught, report
    gc.collect()
    assert in_memory() == before
    assert not [each for each in gc.get_objects() if type(each) in (Work, Scored)]
    deadline = time.monotonic() + 20
    while any(session.client.has_what().values()):
        assert time.monotonic() < deadline, session.client.has_what()
        time.sleep(0.1)


def good(path: str) -> bool:
    return any(f"/round={number}/" in path for number in (1, 5, 6))


def test_backfill__a_bad_round_of_a_chain_blocks_what_follows_and_leaves_its_provisional_scores(
    session: Session, chained: Path, tmp_path: Path
) -> None:
    data, out = copy(chained, tmp_path), tmp_path / "out"
    truncate_targets(data, 2)
    with pytest.raises(BackfillError, match="round 2") as caught:
        backfill(str(data), str(out))
    found = caught.value.report
    assert list(statuses(found).values()) == ["published", "failed", *["blocked"] * 4]
    assert (caught.value.exit_code, found.exit_code) == (2, 2)
    assert sorted(path.parent.name for path in manifests(out)) == ["round=1"]
    expected = live(chained, tmp_path / "live", SPEC)
    for number in (3, 4, 5):  # round 6 closed after round 2 resolved
        table = artifact(f"round-{number}-provisional")
        assert table is not None
        assert "round 2" in str(table.description)
        (path,) = (expected / f"scores/round={number}").iterdir()
        shown = {row["model"]: row["corr"] for row in json.loads(str(table.data))}
        for row in pq.ParquetFile(path).read().to_pylist():
            assert shown[row["model"]] == pytest.approx(row["corr"], rel=1e-5) if row["corr"] else True
    sixth = artifact("round-6-provisional")
    assert sixth is None or sixth.flow_run_id != table.flow_run_id  # other runs of this session may have shown it


# The command ------------------------------------------------------------------------------------------------------


def test_command__prints_a_line_a_round_and_ends_with_0(
    session: Session,
    weekly: Path,
    separate: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = copy(separate, tmp_path)
    shutil.rmtree(out / "manifests/round=3")
    code, printed, _ = run(capsys, monkeypatch, "backfill", "--data", weekly, "--out", out, "--rounds", "2-3")
    assert code == 0
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0][:2] == ["round", "status"]
    (line,) = [line for line in lines if line[:2] == ["3", "published"]]
    assert int(line[2]) == 10
    assert printed.splitlines()[-1] == "2 rounds: 1 verified, 1 published"
    assert published(out) == published(separate)


def test_command__ends_with_the_bad_rounds_code_and_names_it(
    session: Session,
    weekly: Path,
    separate: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = copy(separate, tmp_path)
    (path,) = (out / "ledger/round=2").iterdir()
    path.write_bytes(b"")
    arguments = ("backfill", "--data", weekly, "--out", out, "--rounds", "1-3")
    code, printed, error = run(capsys, monkeypatch, *arguments)
    assert code == 5
    assert any(line.lstrip().startswith("2 failed: ") and path.name in line for line in printed.splitlines())
    assert "Traceback" not in error
    code, printed, _ = run(capsys, monkeypatch, *arguments, "--json")
    content = json.loads(printed)
    assert code == 5
    assert content["counts"] == {"verified": 2, "failed": 1}
    assert [(line["number"], line["status"], line["exit_code"]) for line in content["rounds"]] == [
        (1, "verified", 0),
        (2, "failed", 5),
        (3, "verified", 0),
    ]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rounds", "5-3"], 2, "rounds: must be one round or a range such as 101-130, found '5-3'"),
        (["--rounds", "x"], 2, "found 'x'"),
        (["--rounds", "70-80"], 2, "there is no round from 70 to 80; it has rounds 1 to 6"),
        (["--tournament", "nowhere.toml"], 2, "nowhere.toml: cannot be read"),
    ],
)
def test_command__a_mistake_is_one_line_and_starts_nothing(
    weekly: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    message: str,
) -> None:
    arguments = ("backfill", "--data", weekly, "--out", tmp_path / "out", *options)
    found, printed, error = run(capsys, monkeypatch, *arguments)
    assert (found, printed) == (code, "")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_command__nothing_is_due(
    weekly: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    data = copy(weekly, tmp_path)
    for number in ROUNDS:
        resolve_on(data, number, datetime(2100, 1, 1, tzinfo=UTC), SPEC)
    code, printed, _ = run(capsys, monkeypatch, "backfill", "--data", data, "--out", tmp_path / "out", *options)
    assert code == 3
    assert printed.strip() == ('{"counts": {}, "rounds": []}' if options else "no round is due")


def test_command__score_prints_provisional_scores_and_publishes_nothing(
    session: Session, chained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = copy(chained, tmp_path)
    resolve_on(data, 5, datetime(2100, 1, 1, tzinfo=UTC), SPEC)
    out = live(data, tmp_path / "out", SPEC, [1])
    before = published(out), published(data)
    arguments = ("score", "--data", data, "--out", out, "--round", 5)
    code, printed, _ = run(capsys, monkeypatch, *arguments)
    assert code == 0
    assert printed.splitlines()[0] == "round 5: provisional scores, no money"
    assert len(printed.splitlines()) == 2 + SPEC.models
    code, printed, _ = run(capsys, monkeypatch, *arguments, "--json")
    content = json.loads(printed)
    assert (content["round"], content["provisional"], len(content["scores"])) == (5, True, SPEC.models)
    assert (published(out), published(data)) == before


def test_command__score_without_what_is_published_names_the_round_that_is_missing(
    chained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = published(chained)
    code, printed, error = run(capsys, monkeypatch, "score", "--data", chained, "--round", 5)
    assert (code, printed) == (3, "")
    assert "round 1" in error
    assert published(chained) == before


def test_command__resolve_of_a_chained_round_names_the_round_that_must_be_first(
    chained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("resolve", "--data", chained, "--out", live(chained, tmp_path, SPEC, [1]), "--round", 3)
    code, printed, error = run(capsys, monkeypatch, *arguments)
    assert (code, printed, error.count("\n")) == (3, "", 1)
    assert "round 2, which is not published" in error
    assert resolves_at(3, SPEC) < datetime.now(UTC)
