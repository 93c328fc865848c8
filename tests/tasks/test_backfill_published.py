"""A backfill over rounds that are published: verified, told apart from what they were, and never a false word."""

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scoring.errors import OtherVersionError
from tasks.backfill import Backfill, BackfillRequest, begin
from tasks.conclude import Resolution, Work, conclude
from tasks.plan import AlreadyPublished, RoundPlan
from tests.tasks.chained import (
    LATER,
    ROUNDS,
    SPEC,
    Spoil,
    all_are,
    backfill,
    copy,
    models,
    of_rounds,
    other_submission,
    other_targets,
    published,
    remove,
    report,
    resolve_at,
    resolves_at,
    round_file,
    statuses,
    write_transfers,
)
from tests.tasks.fixtures import money, with_column

HOUR = timedelta(hours=1)


def overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("table", ["scores", "ledger", "meta_model", "bags", "rejects"])
@pytest.mark.parametrize("spoil", [overwrite, os.unlink], ids=["changed", "missing"])
def test_backfill__a_damaged_table_is_named(
    weekly: Path, separate: Path, tmp_path: Path, table: str, spoil: Callable[[Path], object]
) -> None:
    out = copy(separate, tmp_path)
    (path,) = (out / f"{table}/round=3").iterdir()
    spoil(path)
    outcomes = backfill(weekly, out, rounds=(2, 4))
    assert statuses(outcomes) == {2: "verified", 3: "failed", 4: "verified"}
    assert (outcomes[3].exit_code, report(outcomes).exit_code) == (5, 5)
    assert f"{table}/round=3/{path.name}" in outcomes[3].message
    assert statuses(backfill(weekly, out, rounds=(2, 4), trust=True)) == all_are("published before", [2, 3, 4])


def test_backfill__a_damaged_ledger_blocks_the_chain_without_a_false_word(
    chained: Path, weekly_run: Path, tmp_path: Path
) -> None:
    out = copy(weekly_run, tmp_path)
    (path,) = (out / "ledger/round=3").iterdir()
    overwrite(path)
    outcomes = backfill(chained, out)
    assert list(statuses(outcomes).values()) == ["verified"] * 2 + ["failed"] + ["blocked"] * 5
    assert report(outcomes).exit_code == 5
    for number in range(4, 9):
        assert "round 3" in outcomes[number].message
        assert "not published" not in outcomes[number].message  # it is


def stake_less(data: Path, number: int) -> None:
    path = round_file(data, number, "stakes.parquet")
    pq.write_table(with_column(pq.read_table(path), "stake", money(*["0"] * SPEC.models)), path)


CHANGED = {"submission": other_submission, "targets": other_targets, "no_targets": remove("targets.parquet")}


@pytest.mark.parametrize("change", [*CHANGED.values(), stake_less], ids=[*CHANGED, "stakes"])
def test_backfill__a_changed_input_of_a_published_round_is_a_conflict(
    weekly: Path, separate: Path, tmp_path: Path, change: Spoil
) -> None:
    data, out = copy(weekly, tmp_path), copy(separate, tmp_path)
    change(data, 3)
    outcomes = backfill(data, out, rounds=(2, 4))
    assert statuses(outcomes) == {2: "verified", 3: "failed", 4: "verified"}
    assert (outcomes[3].exit_code, report(outcomes).exit_code) == (4, 4)
    assert published(out) == published(separate)


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_backfill__a_changed_input_of_a_published_chained_round_is_a_conflict(
    chained: Path, weekly_run: Path, tmp_path: Path, change: Spoil
) -> None:
    data, out = copy(chained, tmp_path), copy(weekly_run, tmp_path)
    change(data, 3)
    outcomes = backfill(data, out)
    assert statuses(outcomes) == {**all_are("verified"), 3: "failed"}  # what it paid stands in its ledger
    assert (outcomes[3].exit_code, report(outcomes).exit_code) == (4, 4)
    assert published(out) == published(weekly_run)


def test_backfill__transfers_that_come_later_disturb_no_published_round(
    chained: Path, weekly_run: Path, tmp_path: Path
) -> None:
    data, out = copy(chained, tmp_path), copy(weekly_run, tmp_path)
    path = data / "transfers.parquet"
    rows = [(row["time"], row["model"], str(row["amount"])) for row in pq.read_table(path).to_pylist()]
    write_transfers(data, [*rows, (resolves_at(8), models()[0], "9")])
    assert statuses(backfill(data, out)) == all_are("verified")
    write_transfers(data, [*rows, (resolves_at(7) + HOUR, models()[0], "9")])
    late = backfill(data, out)
    assert statuses(late) == {**all_are("verified"), 8: "failed"}
    assert late[8].exit_code == 4


@pytest.mark.parametrize("kind", ["snapshot", "chained"])
def test_backfill__rounds_of_another_version_are_told_and_left_and_hold_up_nobody(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    names = {"snapshot": ("weekly", "separate")}.get(kind, ("chained", "weekly_run"))
    data, before = (request.getfixturevalue(name) for name in names)
    out = copy(before, tmp_path)
    shutil.rmtree(out / "manifests/round=8")
    monkeypatch.setattr("tasks.plan.version", lambda name: "99.0" if name == "stakeweight" else version(name))
    outcomes = backfill(data, out, seed=14)
    assert statuses(outcomes) == {**all_are("verified"), 8: "published"}
    assert report(outcomes).exit_code == 0
    assert all(f"by stakeweight {version('stakeweight')}" in outcomes[number].message for number in ROUNDS[:-1])
    assert of_rounds(out, ROUNDS[:-1]) == of_rounds(before, ROUNDS[:-1])
    with pytest.raises(OtherVersionError, match="round 3: already published as revision 1 by stakeweight"):
        resolve_at(data, out, 3)


def test_begin__a_chained_round_that_another_run_publishes_meanwhile_is_no_conflict(
    chained: Path, weekly_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its balances before settlement are not known yet, so nothing can be compared: that happens when it settles."""
    start = Backfill(BackfillRequest(str(chained), str(weekly_run)), LATER).start()
    assert start is not None
    monkeypatch.setattr("tasks.backfill.latest_manifest", lambda *_: None)  # it looked, and then came the other run
    assert isinstance(begin(start), AlreadyPublished)


def test_backfill__a_bug_in_the_settlement_of_one_round_stops_no_other(
    weekly: Path, separate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conclude_but_three(resolving: RoundPlan, work: Work) -> Resolution:
        if resolving.request.round == 3:
            raise KeyError("corr")
        return conclude(resolving, work)

    monkeypatch.setattr("tasks.backfill.conclude", conclude_but_three)
    outcomes = backfill(weekly, tmp_path / "out", seed=15)
    assert statuses(outcomes) == {**all_are("published"), 3: "failed"}
    assert (outcomes[3].message, report(outcomes).exit_code) == ("round 3: KeyError: 'corr'", 1)
    assert published(tmp_path / "out") == of_rounds(separate, [1, 2, 4, 5, 6, 7, 8])
