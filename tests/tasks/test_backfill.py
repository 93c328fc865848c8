"""A backfill without Prefect: in any order of finishing the bytes of round-by-round runs, and nothing passed over."""

import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError
from tasks.backfill import Backfill, BackfillRequest, begin
from tasks.plan import AlreadyPublished
from tests.tasks.chained import (
    LATER,
    ROUNDS,
    SPEC,
    Spoil,
    all_are,
    backfill,
    column,
    copy,
    ledger,
    live,
    models,
    of_rounds,
    opens_at,
    other_submission,
    published,
    remove,
    report,
    resolve_at,
    resolve_on,
    resolves_at,
    round_file,
    statuses,
    write_transfers,
)
from tests.tasks.fixtures import money, with_column

HOUR = timedelta(hours=1)


# The same bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side_by_side", "seed"), [(1, None), (3, 0), (8, 1), (8, 2)])
def test_backfill__snapshots_give_the_bytes_of_each_round_by_itself(
    weekly: Path, separate: Path, tmp_path: Path, side_by_side: int, seed: int | None
) -> None:
    outcomes = backfill(weekly, tmp_path / "out", side_by_side=side_by_side, seed=seed)
    assert statuses(outcomes) == all_are("published")
    assert report(outcomes).exit_code == 0
    assert published(tmp_path / "out") == published(separate)


@pytest.mark.parametrize(("side_by_side", "seed"), [(1, None), (2, 0), (4, 1), (8, 2)])
def test_backfill__chained_stakes_give_the_bytes_of_a_live_run_week_by_week(
    chained: Path, weekly_run: Path, tmp_path: Path, side_by_side: int, seed: int | None
) -> None:
    outcomes = backfill(chained, tmp_path / "out", side_by_side=side_by_side, seed=seed)
    assert statuses(outcomes) == all_are("published")
    assert published(tmp_path / "out") == published(weekly_run)


def test_backfill__after_missed_weeks_one_run_catches_up_in_the_order_of_settlement(
    chained: Path, weekly_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for now, due in ((resolves_at(2), [1, 2]), (resolves_at(2) + HOUR, []), (resolves_at(5), [3, 4, 5])):
        outcomes = backfill(chained, out, now=now, trust=True, seed=3)
        assert [each for each, status in statuses(outcomes).items() if status == "published"] == due
        assert all(number <= 5 for number in outcomes)
    made = sorted((out / "manifests").iterdir(), key=lambda folder: (folder / "1.json").stat().st_mtime_ns)
    assert [folder.name for folder in made] == [f"round={number}" for number in range(1, 6)]
    assert published(out) == of_rounds(weekly_run, [1, 2, 3, 4, 5])


def test_backfill__rounds_settle_as_they_resolve_and_not_by_number(chained: Path, tmp_path: Path) -> None:
    data = copy(chained, tmp_path)
    resolve_on(data, 2, resolves_at(6))  # at the very instant of round 6, and before it by its number
    outcomes = backfill(data, tmp_path / "out", seed=4)
    assert list(outcomes) == [1, 3, 4, 5, 2, 6, 7, 8]
    for number in outcomes:
        resolve_at(data, tmp_path / "live", number)
    assert published(tmp_path / "live") == published(tmp_path / "out")


# Resumed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("kind", ["snapshot", "chained"])
def test_backfill__a_second_run_computes_and_rewrites_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, trust: bool
) -> None:
    data, out = (
        request.getfixturevalue(name)
        for name in {"snapshot": ("weekly", "separate")}.get(kind, ("chained", "weekly_run"))
    )
    out = copy(out, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert statuses(backfill(data, out, trust=trust, seed=5)) == all_are("published before" if trust else "verified")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    book = Backfill(BackfillRequest(str(data), str(out), trust=trust), LATER)
    start = book.start()
    assert start is not None
    assert isinstance(begin(start), AlreadyPublished)


def test_backfill__goes_on_after_a_stop_at_any_file(chained: Path, weekly_run: Path, tmp_path: Path) -> None:
    """Tables without a manifest are of a run that died: whatever it left, the next one ends with the same files."""
    out = tmp_path / "out"
    shutil.copytree(weekly_run, out)
    for number in range(3, 9):
        shutil.rmtree(out / f"manifests/round={number}")
    for number in range(4, 9):
        shutil.rmtree(out / f"ledger/round={number}")
    outcomes = backfill(chained, out, seed=6)
    assert statuses(outcomes) == {**all_are("published"), 1: "verified", 2: "verified"}
    assert published(out) == published(weekly_run)


# Ranges -----------------------------------------------------------------------------------------------------------


def test_backfill__a_range_of_snapshots_needs_no_others(weekly: Path, separate: Path, tmp_path: Path) -> None:
    assert statuses(backfill(weekly, tmp_path / "out", rounds=(3, 4))) == all_are("published", [3, 4])
    assert published(tmp_path / "out") == of_rounds(separate, [3, 4])


def test_backfill__a_chained_range_follows_from_the_rounds_before_it(
    chained: Path, weekly_run: Path, tmp_path: Path
) -> None:
    out = live(chained, tmp_path / "out", numbers=[1, 2])
    assert statuses(backfill(chained, out, rounds=(3, 6), seed=7)) == all_are("published", [3, 4, 5, 6])
    assert published(out) == of_rounds(weekly_run, [1, 2, 3, 4, 5, 6])


def test_backfill__a_chained_range_after_an_unpublished_round_is_blocked_and_names_it(
    chained: Path, weekly_run: Path, tmp_path: Path
) -> None:
    outcomes = backfill(chained, tmp_path / "out", rounds=(3, 6))
    assert statuses(outcomes) == all_are("blocked", [3, 4, 5, 6])
    assert all("round 1, which is not published" in outcome.message for outcome in outcomes.values())
    assert report(outcomes).exit_code == 3
    assert published(tmp_path / "out") == {}
    # Rounds 3 and 4 closed before round 1 resolved: what was at risk is known, and so are the scores.
    assert [number for number, outcome in outcomes.items() if outcome.scores is not None] == [3, 4]
    for number in (3, 4):
        scores = outcomes[number].scores
        assert scores is not None
        (path,) = (weekly_run / f"scores/round={number}").iterdir()
        assert scores.to_pylist() == pq.ParquetFile(path).read().to_pylist()


def test_backfill__a_range_without_a_round_says_which_there_are(weekly: Path, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no round from 20 to 30; it has rounds 1 to 8"):
        backfill(weekly, tmp_path / "out", rounds=(20, 30))
    assert not (tmp_path / "out").exists()


# A bad round in the middle ----------------------------------------------------------------------------------------


def truncate(name: str) -> Spoil:
    def change(data: Path, number: int) -> None:
        path = round_file(data, number, name)
        path.write_bytes(path.read_bytes()[:-20])

    return change


def refuse_all(data: Path, number: int) -> None:
    """Leaves no submission that can be read: no score can be had."""
    folder = round_file(data, number, "submissions")
    names = {path.stem for path in folder.iterdir()} | set(models())
    shutil.rmtree(folder)
    folder.mkdir()
    for name in names:
        (folder / f"{name}.csv").write_bytes(b"id,prediction\n")


BAD = {
    "targets": (truncate("targets.parquet"), 2, "rounds/3/targets.parquet"),
    "stakes": (truncate("stakes.parquet"), 2, "rounds/3/stakes.parquet"),
    "universe": (remove("universe.parquet"), 2, "rounds/3/universe.parquet"),
    "submissions": (lambda data, at: shutil.rmtree(round_file(data, at, "submissions")), 2, "rounds/3/submissions"),
    "unusable": (refuse_all, 6, "all 8 submissions were refused"),
}


@pytest.mark.parametrize(("spoil", "code", "said"), BAD.values(), ids=BAD)
def test_backfill__a_bad_round_stops_no_other_snapshot(
    weekly: Path, separate: Path, tmp_path: Path, spoil: Spoil, code: int, said: str
) -> None:
    data, out = copy(weekly, tmp_path), tmp_path / "out"
    spoil(data, 3)
    outcomes = backfill(data, out, seed=8)
    assert statuses(outcomes) == {**all_are("published"), 3: "failed"}
    assert (outcomes[3].exit_code, report(outcomes).exit_code) == (code, code)
    assert said in outcomes[3].message
    assert published(out) == of_rounds(separate, [1, 2, 4, 5, 6, 7, 8])


@pytest.mark.parametrize(("spoil", "code", "said"), BAD.values(), ids=BAD)
def test_backfill__a_bad_round_blocks_the_chain_until_it_is_mended(
    chained: Path, weekly_run: Path, tmp_path: Path, spoil: Spoil, code: int, said: str
) -> None:
    data, out = copy(chained, tmp_path), tmp_path / "out"
    spoil(data, 3)
    outcomes = backfill(data, out, seed=9)
    assert list(statuses(outcomes).values()) == ["published"] * 2 + ["failed"] + ["blocked"] * 5
    assert report(outcomes).exit_code == code
    assert said in outcomes[3].message
    assert all("round 3" in outcomes[number].message for number in range(4, 9))
    # Until round 3 settles it is known what was at risk in the rounds that closed before it resolved.
    assert [number for number, outcome in outcomes.items() if outcome.scores is not None] == [4, 5, 6]
    assert published(out) == of_rounds(weekly_run, [1, 2])
    shutil.rmtree(data)
    copy(chained, tmp_path)
    assert statuses(backfill(data, out, seed=9)) == {**all_are("published"), 1: "verified", 2: "verified"}
    assert published(out) == published(weekly_run)


@pytest.mark.parametrize("number", [1, 3, 8])
def test_backfill__a_round_whose_calendar_cannot_be_read_is_told_before_anything_is_done(
    weekly: Path, tmp_path: Path, number: int
) -> None:
    data = copy(weekly, tmp_path)
    round_file(data, number, "round.toml").write_text("round = ")
    with pytest.raises(OperatorError, match=rf"rounds/{number}/round\.toml"):
        backfill(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_backfill__a_bad_round_that_was_not_asked_for_blocks_like_one_that_was(chained: Path, tmp_path: Path) -> None:
    data = copy(chained, tmp_path)
    round_file(data, 1, "universe.parquet").unlink()
    outcomes = backfill(data, tmp_path / "out", rounds=(2, 3))
    assert set(statuses(outcomes).values()) <= {"blocked", "failed"}
    assert report(outcomes).exit_code == 2
    assert "rounds/1/universe.parquet" in outcomes[2].message
    assert all(outcome.scores is not None for outcome in outcomes.values())


# Not due, nothing to pay ------------------------------------------------------------------------------------------


def test_backfill__a_round_without_targets_waits_for_them(weekly: Path, separate: Path, tmp_path: Path) -> None:
    data = copy(weekly, tmp_path)
    round_file(data, 5, "targets.parquet").unlink()
    outcomes = backfill(data, tmp_path / "out", seed=10)
    assert statuses(outcomes) == {**all_are("published"), 5: "not due"}
    assert "rounds/5/targets.parquet is missing" in outcomes[5].message
    assert report(outcomes).exit_code == 0
    assert published(tmp_path / "out") == of_rounds(separate, [1, 2, 3, 4, 6, 7, 8])
    alone = backfill(data, tmp_path / "out", rounds=(5, 5))
    assert report(alone).exit_code == 3


def test_backfill__a_chained_round_without_targets_holds_up_what_follows(chained: Path, tmp_path: Path) -> None:
    data = copy(chained, tmp_path)
    round_file(data, 5, "targets.parquet").unlink()
    outcomes = backfill(data, tmp_path / "out", seed=10)
    assert list(statuses(outcomes).values()) == ["published"] * 4 + ["not due"] + ["blocked"] * 3
    assert all("round 5" in outcomes[number].message for number in (6, 7, 8))


def test_backfill__a_round_without_stakes_has_nothing_to_pay(weekly: Path, separate: Path, tmp_path: Path) -> None:
    data = copy(weekly, tmp_path)
    path = round_file(data, 4, "stakes.parquet")
    pq.write_table(with_column(pq.read_table(path), "stake", money(*["0"] * SPEC.models)), path)
    outcomes = backfill(data, tmp_path / "out", seed=11)
    assert statuses(outcomes) == {**all_are("published"), 4: "nothing to pay"}
    assert report(outcomes).exit_code == 0
    assert published(tmp_path / "out") == of_rounds(separate, [1, 2, 3, 5, 6, 7, 8])


@pytest.mark.parametrize("targets", [True, False], ids=["", "without_targets"])
def test_backfill__a_chained_round_before_the_first_deposit_settles_with_nothing(
    chained: Path, tmp_path: Path, targets: bool
) -> None:
    data = copy(chained, tmp_path)
    write_transfers(data, [(opens_at(3), model, "100") for model in models()])
    if not targets:
        round_file(data, 2, "targets.parquet").unlink()
    outcomes = backfill(data, tmp_path / "out", seed=12)
    assert statuses(outcomes) == {**all_are("published"), 1: "nothing to pay", 2: "nothing to pay"}
    assert report(outcomes).exit_code == 0
    assert published(live(data, tmp_path / "live", numbers=ROUNDS[2:])) == published(tmp_path / "out")
    assert set(column(tmp_path / "out", 3, "stake_before").values()) == {100 * 10**18}


def test_backfill__nothing_is_due_before_the_first_round_resolves(weekly: Path, tmp_path: Path) -> None:
    outcomes = backfill(weekly, tmp_path / "out", now=resolves_at(1) - HOUR)
    assert outcomes == {}
    assert list(backfill(weekly, tmp_path / "out", now=resolves_at(1))) == [1]


def test_backfill__a_withdrawal_above_its_balance_is_told_and_ends_as_the_mistake_it_is(
    chained: Path, weekly_run: Path, tmp_path: Path
) -> None:
    data, out = copy(chained, tmp_path), tmp_path / "out"
    path = data / "transfers.parquet"
    rows = [(row["time"], row["model"], str(row["amount"])) for row in pq.read_table(path).to_pylist()]
    write_transfers(data, [*rows, (resolves_at(2) + HOUR, models()[3], "-5000")])
    outcomes = backfill(data, out, seed=13)
    assert list(statuses(outcomes).values())[:2] == ["published", "published"]
    assert all(status in ("blocked", "failed") for number, status in statuses(outcomes).items() if number > 2)
    assert models()[3] in outcomes[3].message
    assert outcomes[3].scores is not None
    assert report(outcomes).exit_code == 2
    assert published(out) == of_rounds(weekly_run, [1, 2])


# The book and the report ------------------------------------------------------------------------------------------


def test_start__offers_each_round_once_and_chained_ones_as_far_as_their_stakes_are_known(
    weekly: Path, chained: Path, tmp_path: Path
) -> None:
    def offered(data: Path) -> list[int]:
        book = Backfill(BackfillRequest(str(data), str(tmp_path / data.name)), LATER)
        return [start.request.round for start in iter(book.start, None)]

    assert offered(weekly) == ROUNDS
    assert offered(chained) == [1, 2, 3, 4]  # round 5 closes after round 1 has resolved


def test_backfill__a_revision_of_an_earlier_round_counts_in_the_balances(chained: Path, tmp_path: Path) -> None:
    data, out = copy(chained, tmp_path), tmp_path / "out"
    resolve_at(data, out, 1)
    first = column(out, 1, "stake_after")
    other_submission(data, 1)
    resolve_at(data, out, 1, revise=True)
    resolve_at(data, out, 2)
    (newest,) = (out / "ledger/round=1").glob("2-*.parquet")
    rows = {row["model"]: row for row in pq.ParquetFile(newest).read().to_pylist() if row["model"]}
    moved = [model for model in models() if int(rows[model]["stake_after"].scaleb(18)) != first[model]]
    assert moved
    settled = ledger(out, 2)
    untouched = [model for model in moved if model != models()[0]]  # the first withdraws when round 1 resolves
    assert all(settled[model]["stake_before"] == rows[model]["stake_after"] for model in untouched)
