"""One submission: whatever the bytes, it ends as the right predictions or as one rule code, and never raises."""

import hashlib
import io
import math
import struct
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import Rejection
from tasks.submission import Submission, canonical_digest, check_predictions, parse_submission
from tasks.submission_file import PREDICTION_NAMES, byte_limit
from tests.tasks.fixtures import STOCKS, csv_bytes, stock_ids, submission, with_column, with_value

IDS = tuple(sorted(stock_ids()))
CODES = {
    "too_large",
    "empty_file",
    "unreadable",
    "duplicate_column",
    "missing_column",
    "wrong_type",
    "too_many_rows",
    "null_id",
    "duplicate_id",
    "unknown_id",
    "missing_id",
    "not_finite",
    "out_of_range",
    "constant",
}
LONGEST_MESSAGE = 1_000
ROWS_SHOWN = 5

GOOD = submission(1)
EXPECTED = dict(zip(GOOD.column("id").to_pylist(), GOOD.column("prediction").to_pylist(), strict=True))
VECTOR = np.array([EXPECTED[stock] for stock in IDS])


def parquet_bytes(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def by_hand(ids: tuple[str, ...], predictions: list[float]) -> str:
    """The canonical digest as documented, made without the module under test."""
    canonical = b"".join(stock.encode() + b"\n" for stock in ids) + b"".join(struct.pack("<d", p) for p in predictions)
    return hashlib.sha256(canonical).hexdigest()


def assert_sound(outcome: Submission | Rejection) -> None:
    """What holds for every outcome, whatever the file."""
    if isinstance(outcome, Rejection):
        assert outcome.code in CODES
        assert 0 < len(outcome.message) <= LONGEST_MESSAGE
        assert outcome.message.isprintable()
        assert len(outcome.rows) <= ROWS_SHOWN
        assert all(type(row) is int and row >= 0 for row in outcome.rows)
        return
    found = outcome.predictions
    assert (found.dtype, found.shape) == (np.float64, (STOCKS,))
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.min() < found.max()
    assert outcome.digest == by_hand(IDS, found.tolist())


def accepted(data: bytes, *, csv: bool, ids: tuple[str, ...] = IDS) -> Submission:
    outcome = parse_submission(data, csv=csv, ids=ids)
    assert isinstance(outcome, Submission), outcome
    return outcome


def refused(data: bytes, code: str, *fragments: str, csv: bool = False) -> Rejection:
    outcome = parse_submission(data, csv=csv, ids=IDS)
    assert isinstance(outcome, Rejection), f"accepted, must be {code}"
    assert_sound(outcome)
    assert outcome.code == code, outcome
    for fragment in fragments:
        assert fragment in outcome.message
    return outcome


# ---------------------------------------------------------------------------------------------- what is accepted

RENAMED = {name: GOOD.rename_columns(["id", name]) for name in PREDICTION_NAMES}
EXTRA = with_column(with_column(GOOD, "note", ["ab"] * STOCKS), "era", [1] * STOCKS)
FRAME = GOOD.to_pandas()

SAME_PARQUET = {
    "as_it_is": parquet_bytes(GOOD),
    "uncompressed": parquet_bytes(GOOD, compression="none"),
    "zstd": parquet_bytes(GOOD, compression="zstd"),
    "gzip": parquet_bytes(GOOD, compression="gzip"),
    "brotli": parquet_bytes(GOOD, compression="brotli"),
    "plain_encoding": parquet_bytes(GOOD, use_dictionary=False),
    "byte_stream_split": parquet_bytes(
        GOOD, use_dictionary=False, column_encoding={"id": "PLAIN", "prediction": "BYTE_STREAM_SPLIT"}
    ),
    "row_groups": parquet_bytes(GOOD, row_group_size=3),
    "old_version": parquet_bytes(GOOD, version="1.0"),
    "data_page_2": parquet_bytes(GOOD, data_page_version="2.0"),
    "without_arrow_schema": parquet_bytes(GOOD, store_schema=False),
    "probability": parquet_bytes(RENAMED["probability"]),
    "signal": parquet_bytes(RENAMED["signal"]),
    "extra_columns": parquet_bytes(EXTRA),
    "columns_swapped": parquet_bytes(GOOD.select(["prediction", "id"])),
    "nested_neighbour": parquet_bytes(with_column(GOOD, "prediction.x", [0.5] * STOCKS)),
    "sorted_rows": parquet_bytes(GOOD.sort_by("id")),
    "reversed_rows": parquet_bytes(GOOD.take(list(reversed(range(STOCKS))))),
    "dictionary_ids": parquet_bytes(with_column(GOOD, "id", GOOD.column("id").combine_chunks().dictionary_encode())),
    "large_string_ids": parquet_bytes(with_column(GOOD, "id", pa.array(stock_ids(), pa.large_string()))),
    "large_dictionary_ids": parquet_bytes(
        with_column(GOOD, "id", pa.array(stock_ids(), pa.large_string()).dictionary_encode())
    ),
    "pandas": FRAME.to_parquet(),
    "pandas_index_kept": FRAME.set_index(pd.Index(range(100, 100 + STOCKS), name="row")).to_parquet(index=True),
    "pandas_ids_as_index": FRAME.set_index("id").to_parquet(),
    "pandas_shuffled": FRAME.sample(frac=1, random_state=3).to_parquet(),
    "pandas_categories": FRAME.astype({"id": "category"}).to_parquet(),
}

TEXT = csv_bytes(GOOD).decode()
LINES = TEXT.splitlines()
SAME_CSV = {
    "as_it_is": TEXT.encode(),
    "bom": b"\xef\xbb\xbf" + TEXT.encode(),
    "bom_bare_header": b"\xef\xbb\xbf" + TEXT.replace('"', "").encode(),
    "crlf": TEXT.replace("\n", "\r\n").encode(),
    "cr": TEXT.replace("\n", "\r").encode(),
    "bom_and_crlf": b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode(),
    "nothing_quoted": TEXT.replace('"', "").encode(),
    "everything_quoted": "\n".join(
        ",".join(f'"{cell.strip(chr(34))}"' for cell in ln.split(",")) for ln in LINES
    ).encode(),
    "no_newline_at_end": TEXT.rstrip().encode(),
    "blank_lines_at_end": (TEXT + "\n\n").encode(),
    "probability": csv_bytes(RENAMED["probability"]),
    "signal": csv_bytes(RENAMED["signal"]),
    "extra_columns": csv_bytes(EXTRA),
    "columns_swapped": csv_bytes(GOOD.select(["prediction", "id"])),
    "shuffled_rows": csv_bytes(GOOD.take(np.random.default_rng(5).permutation(STOCKS))),
    "pandas": FRAME.to_csv(index=False).encode(),
    "pandas_with_index": FRAME.to_csv().encode(),
    "seventeen_digits": FRAME.to_csv(index=False, float_format="%.17g").encode(),
    "exponents": FRAME.to_csv(index=False, float_format="%.17e").encode(),
}


@pytest.mark.parametrize("data", SAME_PARQUET.values(), ids=SAME_PARQUET.keys())
def test_parse_submission__parquet_says_the_same_however_it_is_written(data: bytes) -> None:
    found = accepted(data, csv=False)
    assert found.predictions.tolist() == VECTOR.tolist()
    assert found.digest == by_hand(IDS, VECTOR.tolist())


@pytest.mark.parametrize("data", SAME_CSV.values(), ids=SAME_CSV.keys())
def test_parse_submission__csv_says_the_same_however_it_is_written(data: bytes) -> None:
    found = accepted(data, csv=True)
    assert found.predictions.tolist() == VECTOR.tolist()
    assert found.digest == by_hand(IDS, VECTOR.tolist())


def test_parse_submission__float32_is_taken_for_the_double_that_it_is() -> None:
    single = VECTOR.astype(np.float32)
    table = pa.table({"id": list(IDS), "prediction": single})
    found = accepted(parquet_bytes(table), csv=False)
    assert found.predictions.tolist() == single.astype(np.float64).tolist()
    assert found.digest == by_hand(IDS, [float(each) for each in single])
    assert (
        found.digest == accepted(csv_bytes(table.cast(pa.schema({"id": "str", "prediction": "f8"}))), csv=True).digest
    )


def test_parse_submission__the_ends_of_the_range_belong_to_it() -> None:
    for values in ([0.0] + [1.0] * (STOCKS - 1), [5e-324] + [1 - 2**-53] * (STOCKS - 1)):
        table = pa.table({"id": list(IDS), "prediction": values})
        assert accepted(parquet_bytes(table), csv=False).predictions.tolist() == values
        assert accepted(csv_bytes(table), csv=True).predictions.tolist() == values


def test_parse_submission__csv_may_write_whole_numbers() -> None:
    text = "id,prediction\n" + "".join(f"{stock},{at % 2}\n" for at, stock in enumerate(IDS))
    assert accepted(text.encode(), csv=True).predictions.tolist() == [0.0, 1.0] * (STOCKS // 2)


def test_parse_submission__ids_may_be_any_text() -> None:
    ids = tuple(
        sorted(["", " ", "AAPL US", "BRK.B", "a,b", "naïve", "日本", "0700", "1e5", "NA", "null", "None", 'q"q'])
    )
    values = (np.arange(len(ids)) + 1) / 100
    table = pa.table({"id": list(reversed(ids)), "prediction": values[::-1]})
    named = tuple(stock for stock in ids if stock)  # CSV cannot tell an empty id from none
    assert accepted(parquet_bytes(table), csv=False, ids=ids).digest == by_hand(ids, values.tolist())
    short = table.filter(pa.compute.not_equal(table["id"], ""))
    expected = by_hand(named, values[1:].tolist())
    assert accepted(parquet_bytes(short), csv=False, ids=named).digest == expected
    assert accepted(csv_bytes(short), csv=True, ids=named).digest == expected


@pytest.mark.parametrize("name", ["NAN", "NaN", "nan"])
@pytest.mark.parametrize("quoted", [False, True])
def test_parse_submission__a_stock_may_be_called_nan(name: str, quoted: bool) -> None:
    ids = tuple(sorted((name, *IDS[1:])))
    shown = f'"{name}"' if quoted else name
    text = "id,prediction\n" + "".join(
        f"{shown if stock == name else stock},{at / STOCKS!r}\n" for at, stock in enumerate(ids)
    )
    assert accepted(text.encode(), csv=True, ids=ids).predictions.tolist() == [at / STOCKS for at in range(STOCKS)]


@given(order=st.permutations(range(STOCKS)), compression=st.sampled_from(["none", "snappy", "zstd"]))
@settings(max_examples=40, deadline=None)
def test_parse_submission__order_of_the_rows_is_nobodys_business(order: list[int], compression: str) -> None:
    table = GOOD.take(order)
    for found in (
        accepted(parquet_bytes(table, compression=compression), csv=False),
        accepted(csv_bytes(table), csv=True),
    ):
        assert found.predictions.tolist() == VECTOR.tolist()
        assert found.digest == by_hand(IDS, VECTOR.tolist())


@given(
    values=st.lists(st.floats(0, 1, allow_nan=False), min_size=STOCKS, max_size=STOCKS).filter(
        lambda each: min(each) < max(each)
    )
)
@settings(max_examples=60, deadline=None)
def test_parse_submission__no_bit_of_a_prediction_is_lost(values: list[float]) -> None:
    table = pa.table({"id": list(IDS), "prediction": pa.array(values, pa.float64())})
    text = "id,prediction\n" + "".join(f"{stock},{value!r}\n" for stock, value in zip(IDS, values, strict=True))
    for found in (accepted(parquet_bytes(table), csv=False), accepted(text.encode(), csv=True)):
        assert found.predictions.tobytes() == np.array(values).tobytes()
        assert found.digest == by_hand(IDS, values)


# ---------------------------------------------------------------------------------------------- the digest


def test_canonical_digest__is_defined_as_documented() -> None:
    expected = hashlib.sha256(b"a\nb\n" + struct.pack("<dd", 0.25, 0.75)).hexdigest()
    assert canonical_digest(("a", "b"), np.array([0.25, 0.75])) == expected
    assert expected == "bca97a2cf4f1911d8eaa42e7ab979d633f9d8c0eb9397d6390de9f261d3ef4c4"


def test_canonical_digest__changes_with_every_part() -> None:
    values = np.array([0.25, 0.5, 0.75])
    digests = {
        canonical_digest(("a", "b", "c"), values),
        canonical_digest(("a", "b", "d"), values),
        canonical_digest(("a", "b", "c"), values[::-1]),
        canonical_digest(("a", "b", "c"), np.nextafter(values, 1)),
        canonical_digest(("ab", "c", "d"), values),
    }
    assert len(digests) == 5


def test_canonical_digest__is_not_moved_by_memory_layout() -> None:
    strided = np.repeat(VECTOR, 2)[::2]
    assert not strided.flags.c_contiguous
    assert canonical_digest(IDS, strided) == canonical_digest(IDS, VECTOR)
    assert canonical_digest(IDS, VECTOR.astype(">f8")) == canonical_digest(IDS, VECTOR)


# ---------------------------------------------------------------------------------------------- what is refused

_LONGER = pa.concat_tables([GOOD, pa.table({"id": ["other"], "prediction": [0.5]})])
_TWICE = pa.concat_tables([GOOD, GOOD.slice(3, 2)])
_IDS_OF_EACH_ROW = stock_ids()

BAD_TABLES = {
    "no_columns": (GOOD.select([]), "missing_column", "needs a column 'id', found []"),
    "no_id": (GOOD.drop_columns(["id"]), "missing_column", "needs a column 'id', found ['prediction']"),
    "misspelt_id": (GOOD.rename_columns(["ids", "prediction"]), "missing_column", "(did you mean 'ids'?)"),
    "no_prediction": (
        GOOD.drop_columns(["prediction"]),
        "missing_column",
        "needs a column prediction or probability or signal, found ['id']",
    ),
    "misspelt_prediction": (
        GOOD.rename_columns(["id", "predicton"]),
        "missing_column",
        "found ['id', 'predicton'] (did you mean 'predicton'?)",
    ),
    "upper_case": (GOOD.rename_columns(["ID", "PREDICTION"]), "missing_column", "needs a column 'id', found ['ID'"),
    "id_twice": (
        GOOD.append_column("id", GOOD.column("id")),
        "duplicate_column",
        "column 'id' must appear once, found 2",
    ),
    "prediction_twice": (
        GOOD.append_column("prediction", GOOD.column("prediction")),
        "duplicate_column",
        "column 'prediction' must appear once, found 2",
    ),
    "two_aliases": (
        GOOD.append_column("signal", GOOD.column("prediction")),
        "duplicate_column",
        "one column must hold the predictions, found ['prediction', 'signal']",
    ),
    "null_id": (
        with_value(GOOD, "id", 4, None),
        "null_id",
        "every row needs an id; 1 of 20 do not, e.g. None in row 4",
        4,
    ),
    "duplicate_id": (
        with_value(GOOD, "id", 7, _IDS_OF_EACH_ROW[2]),
        "duplicate_id",
        "every id must appear once; 1 appear more often in row 2",
        2,
        7,
    ),
    "rows_twice": (_TWICE, "duplicate_id", "2 appear more often in row 3", 3, 4, 20, 21),
    "unknown_id": (
        with_value(GOOD, "id", 9, "stock_99"),
        "unknown_id",
        "every id must belong to the round's universe; 1 of 20 do not, e.g. 'stock_99' in row 9",
        9,
    ),
    "one_id_more": (_LONGER, "unknown_id", "1 of 21 do not, e.g. 'other' in row 20", 20),
    "missing_id": (
        GOOD.slice(0, STOCKS - 2),
        "missing_id",
        f"needs all 20 ids of the universe; 2 are missing, e.g. {min(_IDS_OF_EACH_ROW[-2:])}",
    ),
    "no_rows": (GOOD.slice(0, 0), "missing_id", "20 are missing, e.g. stock_00"),
    "nan": (
        with_value(GOOD, "prediction", 3, math.nan),
        "not_finite",
        "every prediction must be a finite number; 1 of 20 do not, e.g. nan in row 3",
        3,
    ),
    "null": (with_value(GOOD, "prediction", 6, None), "not_finite", "e.g. nan in row 6", 6),
    "all_null": (
        with_column(GOOD, "prediction", pa.array([None] * STOCKS, pa.float64())),
        "not_finite",
        "20 of 20 do not",
        0,
        1,
        2,
        3,
        4,
    ),
    "inf": (with_value(GOOD, "prediction", 0, math.inf), "not_finite", "e.g. inf in row 0", 0),
    "minus_inf": (with_value(GOOD, "prediction", 19, -math.inf), "not_finite", "e.g. -inf in row 19", 19),
    "below_0": (
        with_value(GOOD, "prediction", 5, -1e-300),
        "out_of_range",
        "every prediction must lie in [0, 1]; 1 of 20 do not, e.g. -1e-300 in row 5",
        5,
    ),
    "above_1": (with_value(GOOD, "prediction", 5, 1.0000000000000002), "out_of_range", "e.g. 1.0000000000000002", 5),
    "percentages": (
        with_column(GOOD, "prediction", np.arange(STOCKS) + 2.5),
        "out_of_range",
        "20 of 20 do not, e.g. 2.5 in row 0",
        0,
        1,
        2,
        3,
        4,
    ),
    "constant": (
        with_column(GOOD, "prediction", [0.5] * STOCKS),
        "constant",
        "predictions must differ between stocks, all are ",
    ),
    "signed_zeros": (with_column(GOOD, "prediction", [0.0, -0.0] * (STOCKS // 2)), "constant", "must differ"),
}


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("case", BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_parse_submission__refuses_a_bad_table(case: tuple, form: str) -> None:
    table, code, fragment, *rows = case
    data = csv_bytes(table) if form == "csv" else parquet_bytes(table)
    if form == "csv" and not table.column_names:
        code, fragment = "empty_file", "must hold a table"
    assert refused(data, code, fragment, csv=form == "csv").rows == tuple(rows)


WRONG_TYPES = {
    "whole_numbers": ("prediction", pa.array([0, 1] * 10), "must hold floating-point numbers, found int64"),
    "text": ("prediction", pa.array(["0.5"] * STOCKS), "must hold floating-point numbers, found string"),
    "decimals": ("prediction", pa.array([1] * STOCKS).cast(pa.decimal128(30, 2)), "found decimal128(30, 2)"),
    "half_floats": ("prediction", pa.array(VECTOR.astype(np.float16)), "found halffloat"),
    "flags": ("prediction", pa.array([True, False] * 10), "found bool"),
    "nulls_of_no_type": ("prediction", pa.nulls(STOCKS), "found null"),
    "lists": ("prediction", pa.array([[0.5]] * STOCKS), "found list<"),
    "number_ids": ("id", pa.array(range(STOCKS)), "column 'id' must hold strings, found int64"),
    "binary_ids": ("id", pa.array([stock.encode() for stock in IDS]), "column 'id' must hold strings, found binary"),
    "record_ids": ("id", pa.array([{"id": stock} for stock in IDS]), "column 'id' must hold strings, found struct<"),
}


@pytest.mark.parametrize("case", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_parse_submission__refuses_a_wrong_type_in_parquet(case: tuple[str, pa.Array, str]) -> None:
    name, column, fragment = case
    assert refused(parquet_bytes(with_column(GOOD, name, column)), "wrong_type", fragment).rows == ()


@pytest.mark.parametrize("cell", ["high", "0.5x", "0.5%", "1/2", "true", "0x1p-1", "N/A", "0.5 0.6"])
def test_parse_submission__refuses_text_for_a_number_in_csv(cell: str) -> None:
    text = "\n".join([*LINES[:6], f"stock_99,{cell}", *LINES[7:]])
    refused(text.encode(), "wrong_type", "must be CSV with numbers as predictions", "Row #7", repr(cell), csv=True)


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NAN", "inf", "-inf", "Infinity"])
def test_parse_submission__refuses_a_number_that_is_none_in_csv(cell: str) -> None:
    stock = LINES[6].split(",")[0]
    text = "\n".join([*LINES[:6], f"{stock},{cell}", *LINES[7:]])
    assert refused(text.encode(), "not_finite", "1 of 20", "row 5", csv=True).rows == (5,)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_parse_submission__tells_the_first_rule_that_is_broken(form: str) -> None:
    """Every step repairs what the message said and meets the next rule, in the documented order."""
    everything = pa.table(
        {
            "id": [None, "stock_03", "stock_03", "unknown", *IDS[6:]],
            "prediction": [math.nan, 2.0, *([0.5] * (STOCKS - 4))],
        }
    )
    steps: list[tuple[str, Callable[[pa.Table], pa.Table]]] = [
        ("null_id", lambda table: with_value(table, "id", 0, "stock_00")),
        ("duplicate_id", lambda table: with_value(table, "id", 2, "stock_04")),
        ("unknown_id", lambda table: with_value(table, "id", 3, "stock_05")),
        (
            "missing_id",
            lambda table: pa.concat_tables([table, pa.table({"id": list(IDS[1:3]), "prediction": [0.5] * 2})]),
        ),
        ("not_finite", lambda table: with_value(table, "prediction", 0, 0.5)),
        ("out_of_range", lambda table: with_value(table, "prediction", 1, 0.5)),
        ("constant", lambda table: with_value(table, "prediction", 2, 0.6)),
    ]
    table = everything
    for code, repair in steps:
        data = csv_bytes(table) if form == "csv" else parquet_bytes(table)
        refused(data, code, csv=form == "csv")
        table = repair(table)
    accepted(csv_bytes(table) if form == "csv" else parquet_bytes(table), csv=form == "csv")


# ---------------------------------------------------------------------------------------------- parts


def test_byte_limit__grows_with_the_universe() -> None:
    assert byte_limit(1) == byte_limit(1_000) == 1_000_000
    assert byte_limit(6_000) == 6_000_000


def test_check_predictions__puts_the_rows_in_their_places() -> None:
    column = pa.chunked_array([pa.array([0.1, 0.2]), pa.array([0.3])])
    found = check_predictions(column, np.array([2, 0, 1]), ("a", "b", "c"))
    assert isinstance(found, Submission)
    assert found.predictions.tolist() == [0.2, 0.3, 0.1]
    assert found.digest == by_hand(("a", "b", "c"), [0.2, 0.3, 0.1])


def test_check_predictions__tells_the_rows_of_the_file_not_of_the_universe() -> None:
    found = check_predictions(pa.chunked_array([[0.1, 2.0, 0.3]]), np.array([2, 0, 1]), ("a", "b", "c"))
    assert isinstance(found, Rejection)
    assert (found.code, found.rows) == ("out_of_range", (1,))
