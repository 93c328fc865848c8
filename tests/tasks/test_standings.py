"""The standings table: read exactly, or refused with every row that is wrong; read only where a policy looks at it."""

import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.weight_policies import Standings
from tasks.inputs import RoundInputs, read_round
from tasks.standings import STANDINGS, parse_standings
from tasks.store import open_store
from tasks.tournament import read_tournament
from tests.tasks.fixtures import TOURNAMENT, assert_refused, write_round

BY_STANDING = TOURNAMENT + '\n[[weights]]\npolicy = "reputation"\n'
EXACT, LONG = STANDINGS.field("standing").type, pa.decimal128(38, 13)


def table(*rows: tuple[str | None, str | None, str | None], kind: pa.DataType = EXACT) -> pa.Table:
    models, accounts, standings = zip(*rows, strict=True)
    exact = [None if each is None else Decimal(each) for each in standings]
    columns = [pa.array(models, pa.string()), pa.array(accounts, pa.string()), pa.array(exact, kind)]
    return pa.Table.from_arrays(columns, ["model", "account", "standing"])


def parse(of: pa.Table) -> Standings:
    sink = io.BytesIO()
    pq.write_table(of, sink)
    return parse_standings(sink.getvalue(), "standings.parquet")


GOOD = table(("m", None, "0.02"), ("a", None, "-1.000000000001"), (None, "m", "0"), (None, "x", "12345"))


def test_parse_standings__tells_models_from_accounts_to_the_last_decimal() -> None:
    assert parse(GOOD) == Standings({"m": 2 * 10**10, "a": -(10**12) - 1}, {"m": 0, "x": 12345 * 10**12})
    assert parse(GOOD.select([2, 1, 0])) == parse(GOOD)


def test_parse_standings__a_table_of_models_alone_needs_no_column_of_accounts() -> None:
    assert parse(table(("m", None, "0.5")).drop_columns("account")) == parse(table(("m", None, "0.5")))


@pytest.mark.parametrize("kind", [pa.decimal128(20, 2), pa.decimal256(60, 20), pa.string()])
def test_parse_standings__takes_any_exact_number(kind: pa.DataType) -> None:
    values = pa.array([Decimal("0.25")], pa.decimal128(10, 2)).cast(kind)
    of = table(("m", None, "0")).set_column(2, "standing", values)
    assert parse(of) == Standings({"m": 25 * 10**10})


BAD = {
    "nobody": (
        table(("m", None, "1"), (None, None, "1")),
        "exactly one of the two, must be named, found null in row 1",
    ),
    "both": (table(("m", "x", "1")), "model or account, exactly one of the two, must be named, found 'm' in row 0"),
    "model_twice": (
        table(("m", None, "1"), ("m", None, "2")),
        "column model must name each only once, found 'm' in row 1",
    ),
    "account_twice": (table((None, "x", "1"), (None, "x", "1")), "column account must name each only once"),
    "null": (
        table(("m", None, None)),
        "column standing must be a number below 1e+20 with at most 12 decimals, found null",
    ),
    "fine": (table(("m", None, "0.0000000000001"), kind=LONG), "at most 12 decimals, found 0.0000000000001 in row 0"),
    "large": (table(("m", None, "1" + 20 * "0")), "must be a number below 1e+20"),
    "float": (GOOD.set_column(2, "standing", pa.array([0.1] * 4)), "column standing must hold decimals or strings"),
    "no_account": (GOOD.drop_columns("account"), "model or account, exactly one of the two, must be named, found null"),
    "no_names": (GOOD.drop_columns(["model", "account"]), "exactly one of the two, must be named"),
    "no_standing": (GOOD.drop_columns("standing"), "column standing is missing"),
    "unknown": (GOOD.append_column("rank", pa.array([1] * 4)), "column rank is unknown"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_parse_standings__refuses(case: tuple[pa.Table, str]) -> None:
    assert_refused(lambda: parse(case[0]), "standings.parquet: ", case[1])


# In a round ---------------------------------------------------------------------------------------------------------


def inputs(directory: Path, tournament: str) -> RoundInputs:
    store = open_store(write_round(directory, tournament=tournament, standings=GOOD))
    return read_round(store, read_tournament(store), 7)


def test_read_round__reads_standings_only_where_a_policy_looks_at_them(tmp_path: Path) -> None:
    read, ignored = inputs(tmp_path / "a", BY_STANDING), inputs(tmp_path / "b", TOURNAMENT)
    assert read.standings == parse(GOOD)
    assert ignored.standings is None
    assert read.hashes.keys() - ignored.hashes.keys() == {"rounds/7/standings.parquet"}


def test_read_round__reads_the_example_only_where_a_policy_looks_at_it(tmp_path: Path) -> None:
    near = TOURNAMENT + '\n[weights]\npolicy = "minimum_example_correlation"\nminimum = 0\n'
    read = inputs(tmp_path / "a", near)
    assert read.example is not None
    assert read.example.doubled.shape == (1, 20)
    assert "rounds/7/example_predictions.parquet" in read.hashes
    benchmark = inputs(tmp_path / "b", near + 'example = "bench_one"\n')
    assert benchmark.example is None
    assert "rounds/7/example_predictions.parquet" not in benchmark.hashes


def test_read_round__an_example_is_held_to_what_submissions_are(tmp_path: Path) -> None:
    near = TOURNAMENT + '\n[weights]\npolicy = "minimum_example_correlation"\nminimum = 0\n'
    wrong = pa.table({"id": ["stock_00"], "prediction": [0.5]})
    store = open_store(write_round(tmp_path, tournament=near, example_predictions=wrong))
    assert_refused(
        lambda: read_round(store, read_tournament(store), 7), "rounds/7/example_predictions.parquet: ", "missing_id"
    )
