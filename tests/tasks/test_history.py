"""A chained tournament resolved live, week after week: what follows from what, and what does not disturb what."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import ConflictError, NotDueError, OperatorError, StorageError
from scoring.synthetic import SyntheticSpec
from tasks.history import round_dates
from tasks.plan import AlreadyPublished, RoundRequest, plan_round
from tasks.publish import read_manifest
from tasks.store import open_store
from tasks.tournament import read_tournament
from tasks.verify import VerifyRequest, verify_published
from tasks.verify_submission import OwnFiles
from tests.tasks.chained import (
    LATER,
    SPEC,
    Row,
    atoms,
    backfill,
    changes,
    closes_at,
    column,
    deposits,
    ledger,
    live,
    models,
    published,
    resolve_at,
    resolve_on,
    resolves_at,
    round_file,
    statuses,
    write_chained,
    write_transfers,
)
from tests.tasks.fixtures import money, with_column

ROUNDS = SPEC.round_numbers
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight weekly rounds; each model deposits once."""
    return write_chained(tmp_path_factory.mktemp("chained") / "data")


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live(data, tmp_path_factory.mktemp("published") / "out")


def copied(folder: Path, *places: Path) -> list[Path]:
    return [Path(shutil.copytree(place, folder / place.name)) for place in places]


def at_close(out: Path, number: int) -> dict[str, int]:
    """What was at risk, of the models with a valid submission on time."""
    return {model: amount for model, amount in column(out, number, "at_risk").items() if amount}


def added_up(out: Path, rows: list[Row], number: int, until: datetime, *, settled: list[int]) -> dict[str, int]:
    """Each balance from scratch: its transfers until a moment, and what these rounds paid and burned."""
    held = dict.fromkeys(models(), 0)
    for at, model, amount in rows:
        held[model] += atoms(amount) if at <= until else 0
    for earlier in settled:
        for model, change in changes(out, earlier).items():
            held[model] += change
    return held


# What a round is paid on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ROUNDS)
def test_resolve__stakes_are_the_balance_at_the_close_and_at_the_settlement(out: Path, number: int) -> None:
    by_close = [each for each in ROUNDS if resolves_at(each) <= closes_at(number)]
    earlier = [each for each in ROUNDS if each < number]
    closed = added_up(out, deposits(), number, closes_at(number), settled=by_close)
    assert at_close(out, number) == {model: closed[model] for model in at_close(out, number)}
    before = added_up(out, deposits(), number, resolves_at(number), settled=earlier)
    assert column(out, number, "stake_before") == before
    after = {model: before[model] + change for model, change in changes(out, number).items()}
    assert column(out, number, "stake_after") == after


def test_resolve__stakes_compound_as_weekly_rounds_that_overlap_by_four_do(out: Path) -> None:
    seen = 0
    for number in ROUNDS[1:]:
        now, last = at_close(out, number), at_close(out, number - 1)
        paid = changes(out, number - 4) if number - 4 in ROUNDS else {}
        for model in now.keys() & last.keys():
            assert now[model] == last[model] + paid.get(model, 0)
            seen += bool(paid.get(model))
    assert seen > 10  # payouts and burns that really moved a stake


def test_resolve__a_longer_horizon_compounds_a_round_later(tmp_path: Path) -> None:
    spec = SyntheticSpec(rounds=7, models=6, stocks=60, seed=6, unstaked_share=0, skip_share=0, late_share=0)
    data = write_chained(tmp_path / "data", spec)
    for number in spec.round_numbers:  # the Wednesday after: the fourth round that follows has closed
        resolve_on(data, number, closes_at(number, spec) + timedelta(days=30), spec)
    for number in spec.round_numbers:
        resolve_at(data, tmp_path / "out", number)
    for number in (6, 7):
        now, last = (column(tmp_path / "out", each, "at_risk") for each in (number, number - 1))
        paid = changes(tmp_path / "out", number - 5)
        assert {model: now[model] - last[model] for model in now} == paid
        assert any(paid.values())


def test_resolve__a_model_without_a_transfer_has_a_row_and_nothing_at_risk(out: Path) -> None:
    for number in ROUNDS:
        row = ledger(out, number)[models()[-1]]
        assert (row["status"], row["stake_before"], row["at_risk"]) == ("unstaked", 0, 0)


def test_resolve__a_burn_takes_no_more_than_a_withdrawal_has_left(data: Path, tmp_path: Path) -> None:
    (data,) = copied(tmp_path, data)
    rows = [(at, model, "100") for at, model, _ in deposits()]
    rows += [(closes_at(1) + HOUR, model, "-99.999999999999999999") for _, model, _ in deposits()]
    write_transfers(data, rows)
    out = tmp_path / "out"
    resolve_at(data, out, 1)
    burned = {model: atom for model, atom in column(out, 1, "burn").items() if atom}
    assert set(burned.values()) == {1}
    assert set(at_close(out, 1).values()) == {100 * 10**18}
    assert all(column(out, 1, "stake_after")[model] == 0 for model in burned)
    assert verify_published(VerifyRequest(str(out), 1)).findings.problems == ()
    for model in burned:  # who verifies his own part finds the same
        file = round_file(data, 1, f"submissions/{model}.parquet")
        own = OwnFiles(model, file, round_file(data, 1, "features.parquet"))
        assert verify_published(VerifyRequest(str(out), 1, own)).findings.problems == ()


# What comes before what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 5, 8])
def test_plan_round__a_round_whose_predecessor_is_not_published_is_not_due_and_names_it(
    data: Path, out: Path, tmp_path: Path, number: int
) -> None:
    (out,) = copied(tmp_path, out)
    shutil.rmtree(out / f"manifests/round={number - 1}")
    with pytest.raises(NotDueError, match=f"round {number}: not due, .* round {number - 1}, which is not") as caught:
        plan_round(RoundRequest(str(data), str(out), number), LATER)
    assert caught.value.exit_code == 3


def test_plan_round__a_round_that_is_not_there_is_the_operators_mistake(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="there is no round 99"):
        plan_round(RoundRequest(str(data), str(tmp_path / "out"), 99), LATER)


def test_plan_round__a_round_that_has_not_resolved_is_not_due(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotDueError, match="round 3: not due"):
        plan_round(RoundRequest(str(data), str(tmp_path / "out"), 3), closes_at(3))


@pytest.mark.parametrize("targets", [True, False], ids=["", "without_targets"])
def test_plan_round__a_round_that_nobody_had_a_stake_in_holds_nobody_up(
    data: Path, tmp_path: Path, targets: bool
) -> None:
    (data,) = copied(tmp_path, data)
    write_transfers(data, [(closes_at(2), models()[0], "5")])
    if not targets:
        round_file(data, 1, "targets.parquet").unlink()
    with pytest.raises(NotDueError, match="round 1: nothing to pay, all stakes are zero"):
        plan_round(RoundRequest(str(data), str(tmp_path / "out"), 1), LATER)
    resolve_at(data, tmp_path / "out", 2)
    assert at_close(tmp_path / "out", 2) == {models()[0]: 5 * 10**18}


def leave(data: Path, number: int, *kept: str) -> None:
    """Removes all submissions of a round but those of some models."""
    for path in round_file(data, number, "submissions").iterdir():
        if path.stem not in kept:
            path.unlink()


def test_plan_round__a_round_to_which_no_staker_submitted_holds_nobody_up(data: Path, tmp_path: Path) -> None:
    (data,) = copied(tmp_path, data)
    leave(data, 1, models()[-1])  # who has no stake
    for number in (1, 2):
        write_own(data, number, models()[-1])
    with pytest.raises(NotDueError, match="nothing to pay"):
        resolve_at(data, tmp_path / "live", 1)
    resolve_at(data, tmp_path / "live", 2)
    assert statuses(backfill(data, tmp_path / "once", rounds=(1, 2))) == {1: "nothing to pay", 2: "published"}
    assert statuses(backfill(data, tmp_path / "range", rounds=(2, 2))) == {2: "published"}
    assert published(tmp_path / "live") == published(tmp_path / "once") == published(tmp_path / "range")


def write_own(data: Path, number: int, model: str) -> None:
    ids = pq.read_table(round_file(data, number, "universe.parquet")).column("id")
    values = [(at + 1) / (len(ids) + 1) for at in range(len(ids))]
    pq.write_table(
        pa.table({"id": ids, "prediction": values}), round_file(data, number, f"submissions/{model}.parquet")
    )


def test_plan_round__a_damaged_ledger_of_an_earlier_round_is_no_stake(data: Path, out: Path, tmp_path: Path) -> None:
    (out,) = copied(tmp_path, out)
    (path,) = (out / "ledger/round=2").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StorageError, match="ledger/round=2"):
        plan_round(RoundRequest(str(data), str(out), 3), LATER)


# What does not disturb a published round --------------------------------------------------------------------------


def again(data: Path, out: Path, number: int) -> object:
    return plan_round(RoundRequest(str(data), str(out), number), LATER)


def test_plan_round__later_transfers_leave_a_published_round_as_it_is(data: Path, out: Path, tmp_path: Path) -> None:
    (data,) = copied(tmp_path, data)
    later = [(resolves_at(3), models()[0], "1000"), (resolves_at(3) + HOUR, models()[1], "-1")]
    write_transfers(data, [*deposits(), *later])
    for number in (1, 2, 3):
        assert isinstance(again(data, out, number), AlreadyPublished)
    with pytest.raises(ConflictError, match="round 4: already published"):
        again(data, out, 4)


@pytest.mark.parametrize("at", [closes_at(3), closes_at(3) + HOUR, resolves_at(3) - HOUR])
def test_plan_round__an_earlier_transfer_is_another_round(data: Path, out: Path, tmp_path: Path, at: datetime) -> None:
    (data,) = copied(tmp_path, data)
    write_transfers(data, [*deposits(), (at, models()[0], "1")])
    with pytest.raises(ConflictError, match="round 3: already published"):
        again(data, out, 3)


def test_plan_round__what_stands_in_the_column_stake_changes_no_money(data: Path, out: Path, tmp_path: Path) -> None:
    (data,) = copied(tmp_path, data)
    path = round_file(data, 1, "stakes.parquet")
    pq.write_table(with_column(pq.read_table(path), "stake", money(*["77"] * SPEC.models)), path)
    resolve_at(data, tmp_path / "other", 1)
    assert ledger(tmp_path / "other", 1) == ledger(out, 1)


def test_resolve__in_another_place_with_this_history_gives_the_same_bytes(
    data: Path, out: Path, tmp_path: Path
) -> None:
    resolve_at(data, tmp_path / "again", 6, history=str(out))
    found = published(tmp_path / "again")
    assert found == {path: content for path, content in published(out).items() if "/round=6/" in path}
    assert len(found) == 6


@pytest.mark.parametrize("number", ROUNDS)
def test_verify_published__finds_nothing_wrong_with_a_chained_round(out: Path, number: int) -> None:
    found = verify_published(VerifyRequest(str(out), number)).findings
    assert found.problems == ()


def test_manifest__says_whether_stakes_are_chained(data: Path, out: Path, tmp_path: Path) -> None:
    facts = read_manifest(open_store(out), 1, 1).facts["stakes"]
    assert facts.keys() == {"at_close_sha256", "before_sha256"}
    (data,) = copied(tmp_path, data)
    (data / "transfers.parquet").unlink()
    assert resolve_at(data, tmp_path / "snapshot", 1).manifest.facts["stakes"] == "snapshot"


# The calendar -----------------------------------------------------------------------------------------------------


def dates(data: Path) -> list[int]:
    store = open_store(data)
    return [each.number for each in round_dates(store, read_tournament(store))]


def test_round_dates__are_in_the_order_of_settlement(data: Path, tmp_path: Path) -> None:
    (data,) = copied(tmp_path, data)
    resolve_on(data, 2, resolves_at(5))
    assert dates(data) == [1, 3, 4, 2, 5, 6, 7, 8]


@pytest.mark.parametrize("content", [None, b"round = 4\n"], ids=["missing", "unfinished"])
def test_round_dates__a_round_without_its_calendar_is_the_operators_mistake(
    data: Path, tmp_path: Path, content: bytes | None
) -> None:
    (data,) = copied(tmp_path, data)
    path = round_file(data, 4, "round.toml")
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(OperatorError, match=r"rounds/4/round\.toml"):
        dates(data)
