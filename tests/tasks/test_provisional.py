"""Provisional scores: those that the round will publish once it resolves, and never anything that is paid."""

import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scoring.errors import NotDueError, OperatorError
from tasks.contract import TABLES
from tasks.plan import RoundRequest
from tasks.provisional import plan_provisional, provisional_scores, unresolved_rounds
from tests.flows.in_process import work_in_process
from tests.tasks.chained import (
    SPEC,
    closes_at,
    live,
    models,
    opens_at,
    published,
    resolves_at,
    round_file,
    write_chained,
    write_transfers,
    write_weekly,
)
from tests.tasks.fixtures import money, with_column

HOUR = timedelta(hours=1)
LATEST = SPEC.round_numbers[-1]


@pytest.fixture(scope="module")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weekly(tmp_path_factory.mktemp("weekly") / "data")


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chained(tmp_path_factory.mktemp("chained") / "data")


def scores(data: Path, out: Path, number: int) -> list[dict[str, object]]:
    plan = plan_provisional(RoundRequest(str(data), str(out), number))
    table = provisional_scores(plan, work_in_process(plan))
    assert table.schema.equals(TABLES["scores"])
    return list(table.to_pylist())


def published_scores(out: Path, number: int) -> list[dict[str, object]]:
    (path,) = (out / f"scores/round={number}").iterdir()
    return list(pq.ParquetFile(path).read().to_pylist())


def test_provisional_scores__are_those_that_will_be_published(weekly: Path, tmp_path: Path) -> None:
    out = live(weekly, tmp_path / "out", numbers=[2])
    assert scores(weekly, tmp_path / "nothing", 2) == published_scores(out, 2)


def test_provisional_scores__of_chained_stakes_take_what_was_at_risk(chained: Path, tmp_path: Path) -> None:
    out = live(chained, tmp_path / "out", numbers=[1, 2, 3, 4, 5])
    assert scores(chained, out, 5) == published_scores(out, 5)


@pytest.mark.parametrize(("number", "after"), [(1, []), (4, []), (5, [1]), (8, [1, 2, 3, 4])])
def test_plan_provisional__needs_the_rounds_that_resolved_before_it_closed_and_no_others(
    chained: Path, tmp_path: Path, number: int, after: list[int]
) -> None:
    out = live(chained, tmp_path / "out", numbers=after)
    before = published(out) if after else {}
    assert plan_provisional(RoundRequest(str(chained), str(out), number)).targets is not None
    assert (published(out) if after else {}) == before
    if after:
        shutil.rmtree(out / f"manifests/round={after[-1]}")
        with pytest.raises(NotDueError, match=f"round {number}: .*round {after[-1]}, which is not published"):
            plan_provisional(RoundRequest(str(chained), str(out), number))


def test_plan_provisional__stakes_are_those_of_the_close_whatever_is_published_since(
    chained: Path, tmp_path: Path
) -> None:
    out = live(chained, tmp_path / "out", numbers=[1, 2, 3, 4, 5])
    for number in (1, 5):
        plan = plan_provisional(RoundRequest(str(chained), str(out), number))
        (path,) = (out / f"ledger/round={number}").iterdir()
        at_risk = {row["model"]: row["at_risk"] for row in pq.ParquetFile(path).read().to_pylist() if row["at_risk"]}
        found = {stake.model: stake.atoms for stake in plan.inputs.stakes.rows}
        assert {model: found[model] for model in at_risk} == {
            model: int(amount.scaleb(18)) for model, amount in at_risk.items()
        }


def test_plan_provisional__needs_targets(weekly: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(weekly, tmp_path / "data"))
    round_file(data, 2, "targets.parquet").unlink()
    with pytest.raises(NotDueError, match=r"round 2: no scores yet, rounds/2/targets\.parquet is missing"):
        plan_provisional(RoundRequest(str(data), str(data), 2))


def test_plan_provisional__needs_a_stake(weekly: Path, chained: Path, tmp_path: Path) -> None:
    for name, source in (("weekly", weekly), ("chained", chained)):
        data = Path(shutil.copytree(source, tmp_path / name))
        path = round_file(data, 1, "stakes.parquet")
        pq.write_table(with_column(pq.read_table(path), "stake", money(*["0"] * SPEC.models)), path)
        if name == "chained":
            write_transfers(data, [(closes_at(1) + HOUR, models()[0], "1")])
        with pytest.raises(NotDueError, match="round 1: nothing to pay, all stakes are zero"):
            plan_provisional(RoundRequest(str(data), str(data), 1))


@pytest.mark.parametrize("kind", ["weekly", "chained"])
def test_plan_provisional__a_round_that_is_not_there_is_the_operators_mistake(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    data = request.getfixturevalue(kind)
    with pytest.raises(OperatorError, match="there is no round 99"):
        plan_provisional(RoundRequest(str(data), str(tmp_path), 99))


def test_unresolved_rounds__have_opened_and_not_resolved_in_the_order_in_which_they_will(chained: Path) -> None:
    request = RoundRequest(str(chained), str(chained), 0)
    assert unresolved_rounds(request, opens_at(1) - HOUR) == []
    assert unresolved_rounds(request, opens_at(3)) == [1, 2, 3]
    assert unresolved_rounds(request, resolves_at(1) - HOUR) == [1, 2, 3, 4]
    assert unresolved_rounds(request, resolves_at(1)) == [2, 3, 4]
    assert unresolved_rounds(request, resolves_at(LATEST) - HOUR) == [LATEST]
    assert unresolved_rounds(request, resolves_at(LATEST)) == []
