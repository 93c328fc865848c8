"""Stakes: exact to the atom, late only after the close, and refused where money could be misread."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from tests.tasks.fixtures import TOURNAMENT, assert_refused, bad, money, read, round_tables, with_column, with_value

STAKES, BENCHMARK_STAKES = (round_tables()[name] for name in ("stakes", "benchmark_stakes"))
FLOAT_STAKES = pa.array([100.0, 0.5, 3.25, 0.0])
FINE_STAKES = pa.array([Decimal("0.0000000000000000001")] * 4, pa.decimal128(38, 19))
NAIVE = pa.array([datetime(2026, 1, 5)] * 4, pa.timestamp("us"))
BAD_TABLES = [
    bad(
        "stakes_float",
        with_column(STAKES, "stake", FLOAT_STAKES),
        "column stake must hold decimal128(38, 18)",
        "pa.array([Decimal(",
        "found double",
    ),
    bad(
        "stakes_19_decimals",
        with_column(STAKES, "stake", FINE_STAKES),
        "column stake must hold decimal128(38, 18)",
        "found decimal128(38, 19)",
    ),
    bad(
        "stakes_negative",
        with_column(STAKES, "stake", money("1", "-0.5", "1", "-2")),
        "column stake must be ≥ 0, found -0.500000000000000000 in row 1, -2.000000000000000000 in row 3",
    ),
    bad(
        "stakes_null",
        with_column(STAKES, "stake", money("1", None, "1", "2")),
        "column stake must not be null; write 0 for no stake, found null in row 1",
    ),
    bad(
        "stakes_same_model",
        with_value(STAKES, "model", 3, "model_b"),
        "column model must name each only once, found 'model_b' in row 3",
    ),
    bad(
        "stakes_null_model",
        with_value(STAKES, "model", 3, None),
        "column model must not be null or empty, found null in row 3",
    ),
    bad(
        "stakes_null_account",
        with_value(STAKES, "account", 3, None),
        "column account must not be null or empty, found null in row 3",
    ),
    bad(
        "stakes_empty_account",
        with_value(STAKES, "account", 3, ""),
        "column account must not be null or empty, found '' in row 3",
    ),
    bad(
        "stakes_misspelt",
        STAKES.rename_columns({"stake": "stakes"}),
        "column stake is missing",
        "column stakes is unknown (did you mean 'stake'?)",
    ),
    bad(
        "stakes_misspelt_multiplier",
        with_column(STAKES, "mcm_multiplier", ["1"] * 4),
        "column mcm_multiplier is unknown (did you mean 'mmc_multiplier'?)",
    ),
    bad(
        "stakes_float_multiplier",
        with_column(STAKES, "mmc_multiplier", [0.5] * 4),
        "column mmc_multiplier must hold decimals or strings",
        "found double",
    ),
    bad(
        "stakes_word_multiplier",
        with_column(STAKES, "mmc_multiplier", ["1", "two", "1", "1"]),
        "column mmc_multiplier must be from 0 to 1000",
        "found 'two' in row 1",
    ),
    bad("stakes_nan_multiplier", with_column(STAKES, "mmc_multiplier", ["1", "NaN", "1", "1"]), "found 'NaN' in row 1"),
    bad(
        "stakes_null_multiplier",
        with_column(STAKES, "mmc_multiplier", ["1", None, "1", "1"]),
        "0 for no choice, found null in row 1",
    ),
    bad(
        "stakes_fine_multiplier",
        with_column(STAKES, "mmc_multiplier", ["1", "0.0000001", "1", "1"]),
        "with at most 6 decimals",
        "row 1",
    ),
    bad(
        "stakes_negative_multiplier",
        with_column(STAKES, "mmc_multiplier", ["1", "-1", "1", "1"]),
        "must be from 0 to 1000",
        "'-1' in row 1",
    ),
    bad(
        "stakes_huge_multiplier",
        with_column(STAKES, "mmc_multiplier", ["1", "1e999999", "1", "1"]),
        "must be from 0 to 1000",
        "row 1",
    ),
    bad(
        "stakes_naive_time",
        with_column(STAKES, "submitted_at", NAIVE),
        "column submitted_at must hold timestamps with a time zone",
        "found timestamp[us]",
    ),
    bad(
        "benchmark_float",
        with_column(BENCHMARK_STAKES, "stake", [1.0, 2.0]),
        "column stake must hold decimal128(38, 18)",
    ),
    bad(
        "benchmark_same",
        with_column(BENCHMARK_STAKES, "model", ["one", "one"]),
        "column model must name each only once",
    ),
    bad("benchmark_account", with_column(BENCHMARK_STAKES, "account", ["a", "b"]), "column account is unknown"),
]


def test_read_round__stakes_are_exact_atoms(tmp_path: Path) -> None:
    atoms = {stake.model: stake.atoms for stake in read(tmp_path).stakes.rows}
    assert atoms == {"model_a": 0, "model_b": 17143500000000000000000, "model_c": 1, "model_d": 100 * 10**18}


def test_read_round__largest_stake_is_exact(tmp_path: Path) -> None:
    largest = "4" + "9" * 19 + "." + "9" * 18  # 38 digits; Decimal keeps 28 by default
    inputs = read(tmp_path, stakes=with_column(STAKES, "stake", money(largest, "0", "0", "0")))
    assert inputs.stakes.by_model()["model_d"].atoms == 5 * 10**37 - 1


def test_read_round__refuses_stakes_that_no_ledger_could_hold(tmp_path: Path) -> None:
    half = "25000000000000000000"
    stakes = with_column(STAKES, "stake", money(half, half, "0", "0"))
    assert_refused(lambda: read(tmp_path, stakes=stakes), "stakes.parquet: column stake must add up to less than 5e19")


def test_read_round__stakes_in_the_tournaments_decimals(tmp_path: Path) -> None:
    stakes = with_column(STAKES, "stake", money("100", "0.25", "3", "0"))
    inputs = read(tmp_path, tournament=TOURNAMENT.replace("18", "2"), stakes=stakes)
    assert [stake.atoms for stake in inputs.stakes.rows] == [0, 300, 25, 10_000]


def test_read_round__benchmark_stakes_have_no_account(tmp_path: Path) -> None:
    rows = read(tmp_path).benchmark_stakes.rows
    assert [(row.model, row.account, row.atoms) for row in rows] == [
        ("bench_one", None, 3 * 10**18),
        ("bench_two", None, 10**18),
    ]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_read_round__late_is_after_the_close_and_not_at_it(tmp_path: Path, unit: str) -> None:
    close = datetime(2026, 1, 5, 13, tzinfo=UTC)
    times = pa.array([close, close.replace(second=1), None, close.replace(day=4)], pa.timestamp(unit, "Asia/Tokyo"))
    stakes = read(tmp_path, stakes=with_column(STAKES, "submitted_at", times)).stakes
    assert [stake.late for stake in stakes.rows] == [False, False, True, False]  # model_c submitted second


@pytest.mark.parametrize("kind", [pa.string(), pa.decimal128(38, 6), pa.decimal128(10, 1)])
def test_read_round__multipliers_are_exact(tmp_path: Path, kind: pa.DataType) -> None:
    chosen = [Decimal(each) for each in ("0.5", "0", "2", "1")]
    column = pa.array([str(each) for each in chosen]) if kind == pa.string() else pa.array(chosen, kind)
    stakes = read(tmp_path, stakes=with_column(STAKES, "mmc_multiplier", column)).stakes
    assert [stake.multipliers for stake in stakes.rows] == [{"mmc": each} for each in reversed(chosen)]


@pytest.mark.parametrize(("name", "table", "fragments"), BAD_TABLES)
def test_read_round__refuses_stakes(tmp_path: Path, name: str, table: pa.Table, fragments: tuple[str, ...]) -> None:
    assert_refused(lambda: read(tmp_path, **{name: table}), f"rounds/7/{name}.parquet: ", *fragments)


def test_read_round__refuses_decimals_that_the_currency_lacks(tmp_path: Path) -> None:
    text = TOURNAMENT.replace("18", "6")
    fragment = "column stake must have at most the tournament's 6 decimals, found 0.000000000000000001 in row 1"
    assert_refused(lambda: read(tmp_path, tournament=text), fragment)


def test_read_round__tells_all_problems_of_a_table_at_once(tmp_path: Path) -> None:
    stakes = with_value(with_value(STAKES, "model", 0, ""), "account", 1, None)
    stakes = with_column(stakes, "stake", money("1", "-1", None, "1"))
    expected = ("column model must not", "column account must not", "must not be null; write 0", "must be ≥ 0")
    assert_refused(lambda: read(tmp_path, stakes=stakes), *expected)
