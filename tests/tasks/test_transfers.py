"""Transfers: exact, in the file's order, and refused where money could be misread."""

import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.chain import Transfer
from scoring.errors import OperatorError
from tasks.stakes import parse_stakes, parse_transfers
from tasks.store import open_store
from tasks.tournament import read_tournament
from tests.tasks.chained import transfers_table
from tests.tasks.fixtures import TOURNAMENT, assert_refused, money, round_tables, with_column, with_value, write_round

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ONE = datetime(2026, 1, 5, 13, tzinfo=UTC)
TABLE = transfers_table([(ONE, "b", "1.5"), (NOON, "a", "-0.000000000000000001"), (ONE, "b", "-1.5")])


def parse(table: pa.Table, decimals: int = 18) -> tuple[Transfer, ...]:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return parse_transfers(sink.getvalue(), "transfers.parquet", decimals=decimals)


def test_parse_transfers__keeps_order_sign_and_atom() -> None:
    assert parse(TABLE) == (
        Transfer(ONE, "b", 15 * 10**17),
        Transfer(NOON, "a", -1),
        Transfer(ONE, "b", -15 * 10**17),
    )


def test_parse_transfers__no_rows_are_no_transfers() -> None:
    assert parse(TABLE.slice(0, 0)) == ()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parse_transfers__reads_every_unit_and_zone_of_time(unit: str) -> None:
    times = TABLE.column("time").cast(pa.timestamp(unit, tz="America/New_York"))
    assert [each.at for each in parse(with_column(TABLE, "time", times.combine_chunks()))] == [ONE, NOON, ONE]


def test_parse_transfers__counts_in_the_atoms_of_the_currency() -> None:
    assert [each.atoms for each in parse(transfers_table([(NOON, "a", "12.5")]), decimals=1)] == [125]


WHOLE_DAYS = pa.array([20_000] * 3, pa.int32()).cast(pa.date32())
BAD = {
    "float": (with_column(TABLE, "amount", [1.0, 2.0, 3.0]), ["column amount must hold decimal128(38, 18)", "double"]),
    "null_amount": (with_value(TABLE, "amount", 1, None), ["column amount must not be null", "row 1"]),
    "zero": (with_value(TABLE, "amount", 2, Decimal(0)), ["column amount must not be 0", "row 2"]),
    "null_time": (with_value(TABLE, "time", 0, None), ["column time must not be null", "row 0"]),
    "naive_time": (with_column(TABLE, "time", pa.array([ONE] * 3, pa.timestamp("us"))), ["column time must hold"]),
    "days": (with_column(TABLE, "time", WHOLE_DAYS), ["column time must hold"]),
    "null_model": (with_value(TABLE, "model", 1, None), ["column model must not be null or empty", "row 1"]),
    "empty_model": (with_value(TABLE, "model", 1, ""), ["column model must not be null or empty", "row 1"]),
    "misspelt": (TABLE.rename_columns(["time", "model", "amonut"]), ["column amount is missing", "did you mean"]),
    "unknown": (with_column(TABLE, "note", ["x"] * 3), ["column note is unknown"]),
    "too_much": (with_column(TABLE, "amount", money("4e19", "-2e19", "1")), ["column amount must add up to less"]),
}


@pytest.mark.parametrize(("table", "fragments"), BAD.values(), ids=BAD)
def test_parse_transfers__refuses_what_could_be_misread(table: pa.Table, fragments: list[str]) -> None:
    assert_refused(lambda: parse(table), "transfers.parquet", *fragments)


def test_parse_transfers__refuses_an_amount_finer_than_an_atom() -> None:
    assert_refused(lambda: parse(transfers_table([(NOON, "a", "1.25")]), decimals=1), "at most the tournament's 1 dec")


def test_parse_transfers__refuses_what_is_no_parquet_file() -> None:
    assert_refused(lambda: parse_transfers(b"time,model\n", "transfers.parquet", decimals=18), "must be a parquet file")


@pytest.mark.parametrize(("unit", "ticks"), [("s", 10**15), ("ms", 10**18), ("us", -(10**18))])
def test_parse_transfers__refuses_a_time_that_no_calendar_holds(unit: str, ticks: int) -> None:
    times = pa.array([ticks] * 3, pa.int64()).cast(pa.timestamp(unit, tz="UTC"))
    assert_refused(lambda: parse(with_column(TABLE, "time", times)), "transfers.parquet", "column time")


def test_parse_transfers__names_every_problem_of_the_file() -> None:
    table = with_value(with_value(TABLE, "amount", 1, None), "model", 0, "")
    assert_refused(lambda: parse(table), "column amount", "column model")


# Stakes where they are chained ------------------------------------------------------------------------------------

STAKES = round_tables()["stakes"]


def stakes_of(table: pa.Table) -> dict[str, int]:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    found = parse_stakes(sink.getvalue(), "stakes.parquet", decimals=18, closes_at=NOON, chained=True)
    return {row.model: row.atoms for row in found.rows}


@pytest.mark.parametrize(
    "table",
    [STAKES, STAKES.drop_columns("stake"), with_column(STAKES, "stake", money(None, "-1", "1", "2"))],
    ids=["there", "no_column", "nonsense"],
)
def test_parse_stakes__chained_stakes_are_not_read(table: pa.Table) -> None:
    assert stakes_of(table) == dict.fromkeys(["model_a", "model_b", "model_c", "model_d"], 0)


def test_parse_stakes__a_snapshot_needs_the_column() -> None:
    sink = io.BytesIO()
    pq.write_table(STAKES.drop_columns("stake"), sink)
    with pytest.raises(OperatorError, match="column stake is missing"):
        parse_stakes(sink.getvalue(), "stakes.parquet", decimals=18, closes_at=NOON)


# Which of the two a tournament has --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transfers", "chosen", "chained"),
    [
        (False, "", False),
        (True, "", True),
        (True, "chained", True),
        (True, "snapshot", False),
        (False, "snapshot", False),
    ],
)
def test_read_tournament__is_chained_where_there_are_transfers(
    tmp_path: Path, transfers: bool, chosen: str, chained: bool
) -> None:
    head = f'stakes = "{chosen}"\n' if chosen else ""
    write_round(tmp_path, tournament=head + TOURNAMENT)
    if transfers:
        pq.write_table(TABLE, tmp_path / "transfers.parquet")
    assert read_tournament(open_store(tmp_path)).chained is chained


@pytest.mark.parametrize(
    ("chosen", "fragments"),
    [("chained", ["transfers.parquet: no such file", "chained stakes need it"]), ("linked", ["stakes", "linked"])],
)
def test_read_tournament__refuses_chained_stakes_without_transfers_and_other_words(
    tmp_path: Path, chosen: str, fragments: list[str]
) -> None:
    write_round(tmp_path, tournament=f'stakes = "{chosen}"\n{TOURNAMENT}')
    assert_refused(lambda: read_tournament(open_store(tmp_path)), *fragments)
