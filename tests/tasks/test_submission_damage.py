"""Hostile and damaged submissions: every truncation, every flipped bit, and files made to exhaust a worker."""

import csv
import gzip
import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scoring.errors import Rejection
from tasks.submission import Submission, parse_submission
from tasks.submission_file import PREDICTION_NAMES, byte_limit
from tests.tasks.fixtures import STOCKS, csv_bytes, with_value
from tests.tasks.test_submission import (
    GOOD,
    IDS,
    LINES,
    SAME_CSV,
    SAME_PARQUET,
    TEXT,
    VECTOR,
    assert_sound,
    parquet_bytes,
    refused,
)

ROOT = Path(__file__).parents[2]

# ---------------------------------------------------------------------------------------------- files that are no table


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\t "])
def test_parse_submission__refuses_an_empty_file(data: bytes) -> None:
    refused(data, "empty_file", "the file must hold a table", csv=True)
    refused(data, "unreadable" if data else "empty_file", csv=False)


_PARQUET = SAME_PARQUET["as_it_is"]
JUNK = {
    "zeros": bytes(1000),
    "magic_only": b"PAR1",
    "magic_twice": b"PAR1PAR1",
    "footer_of_nonsense": b"PAR1" + b"\x15" * 64 + struct.pack("<I", 64) + b"PAR1",
    "footer_too_long": b"PAR1" + struct.pack("<I", 2**32 - 1) + b"PAR1",
    "gzipped": gzip.compress(_PARQUET),
    "gzipped_csv": gzip.compress(TEXT.encode()),
    "zip_head": b"PK\x03\x04" + bytes(200),
    "encrypted": _PARQUET[:-4] + b"PARE",
    "web_page": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
    "json": b'[{"id": "stock_00", "prediction": 0.5}]',
    "utf_16": TEXT.encode("utf-16"),
    "latin_1": ("naïve," + TEXT).encode("latin-1"),
    "cut_in_half": _PARQUET[: len(_PARQUET) // 2],
    "two_files_in_one": _PARQUET + _PARQUET[:100],
}


@pytest.mark.parametrize("data", JUNK.values(), ids=JUNK.keys())
def test_parse_submission__refuses_what_is_no_table(data: bytes) -> None:
    refused(data, "unreadable", "the file must be parquet")
    outcome = parse_submission(data, csv=True, ids=IDS)
    assert_sound(outcome)
    assert isinstance(outcome, Rejection)
    assert outcome.code in {"unreadable", "missing_column"}


def test_parse_submission__a_renamed_file_is_not_what_its_name_says() -> None:
    refused(TEXT.encode(), "unreadable", "the file must be parquet", csv=False)
    refused(_PARQUET, "unreadable", "the file must be UTF-8 CSV", csv=True)


@pytest.mark.parametrize(
    ("text", "code", "fragment"),
    [
        (TEXT.replace(",", ";"), "missing_column", "needs a column 'id', found ['id;"),
        (TEXT.replace(",", "\t"), "missing_column", "needs a column 'id'"),
        (TEXT.replace("0.", "0,"), "unreadable", "Expected 2 columns, got 3"),
        ("\n".join([*LINES[:3], LINES[3] + ",", *LINES[4:]]), "unreadable", "Row #4: Expected 2 columns, got 3"),
        ("\n".join(LINES[1:]), "missing_column", "needs a column 'id'"),
        (TEXT.replace('"stock_05"', '"stock_05'), "unknown_id", "1 of 19 do not"),
    ],
    ids=["semicolons", "tabs", "decimal_commas", "ragged_row", "no_header", "open_quote"],
)
def test_parse_submission__refuses_other_dialects_of_csv(text: str, code: str, fragment: str) -> None:
    refused(text.encode(), code, fragment, csv=True)


def test_parse_submission__spaces_in_a_csv_header_are_ignored_or_named() -> None:
    outcome = parse_submission(TEXT.replace('"id","prediction"', "id, prediction").encode(), csv=True, ids=IDS)
    assert_sound(outcome)
    assert isinstance(outcome, Submission) or outcome.code == "missing_column"


def test_parse_submission__ids_that_are_not_utf_8_are_refused() -> None:
    data = parquet_bytes(GOOD, compression="none", use_dictionary=False, store_schema=False, write_statistics=False)
    broken = data.replace(b"stock_07", b"stock\xff\xfe7")
    assert broken != data
    outcome = parse_submission(broken, csv=False, ids=IDS)
    assert_sound(outcome)
    assert isinstance(outcome, Rejection)
    assert outcome.code in {"unreadable", "unknown_id"}
    refused(TEXT.encode().replace(b"stock_07", b"stock\xff\xfe7"), "wrong_type", "invalid UTF8", csv=True)


# ---------------------------------------------------------------------------------------------- files made to exhaust


def test_parse_submission__many_rows_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 2_000_000
    data = parquet_bytes(pa.table({"id": pa.repeat("x", rows), "prediction": pa.repeat(0.5, rows)}))
    assert len(data) < byte_limit(STOCKS)
    monkeypatch.delattr(pq.ParquetFile, "read")
    monkeypatch.delattr(pq.ParquetFile, "iter_batches")
    outcome = refused(data, "too_many_rows", f"needs {STOCKS} rows, one a stock, found {rows}")
    assert outcome.rows == ()


def test_parse_submission__up_to_twice_the_rows_are_looked_at() -> None:
    doubled = pa.concat_tables([GOOD, GOOD])
    refused(parquet_bytes(doubled), "duplicate_id", "20 appear more often in row 0")
    one_more = pa.concat_tables([doubled, GOOD.slice(0, 1)])
    refused(parquet_bytes(one_more), "too_many_rows", "needs 20 rows, one a stock, found 41")
    assert refused(csv_bytes(one_more), "duplicate_id", csv=True).rows == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("which", ["first", "all"])
def test_parse_submission__a_false_row_count_is_no_way_in(which: str) -> None:
    """The footer says 20 rows, the pages hold 2 000; the same bytes length through a padded varint."""
    rows = 2_000
    table = pa.table({"id": [f"stock_{at % STOCKS:02d}" for at in range(rows)], "prediction": np.linspace(0, 1, rows)})
    data = parquet_bytes(table, compression="none", write_statistics=False, store_schema=False)
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    true_count, false_count = b"\xa0\x1f", b"\xa8\x00"  # zigzag varints of 2 000 and, padded, of 20
    assert true_count in data[footer:]
    forged = data[:footer] + data[footer:].replace(true_count, false_count, 1 if which == "first" else -1)
    outcome = parse_submission(forged, csv=False, ids=IDS)
    assert_sound(outcome)
    if isinstance(outcome, Submission):  # then it is made of the first 20 rows, all of them right
        assert outcome.predictions.tolist() == table.column("prediction").to_pylist()[:STOCKS]


PEAK = """
import sys, pyarrow, pathlib
from tasks.submission import parse_submission
data, ids = pathlib.Path(sys.argv[1]).read_bytes(), tuple(f"stock_{at:03d}" for at in range(100))
print(parse_submission(data, csv=False, ids=ids).code, pyarrow.default_memory_pool().max_memory())
"""


@pytest.mark.parametrize("encoding", ["dictionary", "zstd"])
def test_parse_submission__a_small_file_cannot_unpack_to_a_large_one(tmp_path: Path, encoding: str) -> None:
    """In a process of its own, because the most that Arrow ever held is counted a process."""
    stocks, long = 100, "x" * 900_000
    if encoding == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 2 * stocks, pa.int32()), pa.array([long]))
        table = pa.table({"id": column, "prediction": np.linspace(0, 1, 2 * stocks)})
        data = parquet_bytes(table, compression="none", write_statistics=False, store_schema=False)
    else:
        table = pa.table({"id": [f"{at}{long}" for at in range(stocks)], "prediction": np.linspace(0, 1, stocks)})
        data = parquet_bytes(table, compression="zstd", use_dictionary=False, write_statistics=False)
    assert len(data) <= byte_limit(stocks)
    (tmp_path / "file").write_bytes(data)
    arguments = [sys.executable, "-c", PEAK, str(tmp_path / "file")]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    code, peak = ended.stdout.split()
    assert code in {"too_large", "unknown_id", "duplicate_id"}
    assert int(peak) < 20 * byte_limit(stocks)


@pytest.mark.parametrize(
    "table",
    [
        with_value(GOOD, "id", 3, "x" * 100_000),
        pa.table({f"{'c' * 50_000}{at}": VECTOR for at in range(12)}),
        GOOD.rename_columns(["id", "line\nbreak"]),
        with_value(GOOD, "id", 3, "line\nbreak \x1b[31m"),
    ],
    ids=["long_id", "long_column_names", "line_break_in_name", "escape_in_id"],
)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_parse_submission__the_message_stays_one_short_line(table: pa.Table, form: str) -> None:
    outcome = parse_submission(csv_bytes(table) if form == "csv" else parquet_bytes(table), csv=form == "csv", ids=IDS)
    assert isinstance(outcome, Rejection)
    assert_sound(outcome)


# ---------------------------------------------------------------------------------------------- damaged files

FUZZED = {
    "plain": parquet_bytes(GOOD, compression="none", use_dictionary=False, store_schema=False),
    "snappy": parquet_bytes(GOOD),
    "zstd": parquet_bytes(GOOD, compression="zstd", data_page_version="2.0", store_schema=False),
    "groups": parquet_bytes(GOOD, compression="none", row_group_size=7, store_schema=False),
    "single": parquet_bytes(pa.table({"id": IDS, "signal": pa.array(VECTOR, pa.float32())}), store_schema=False),
    "checked": parquet_bytes(GOOD, compression="none", write_page_checksum=True, store_schema=False),
    "csv": SAME_CSV["as_it_is"],
    "csv_windows": SAME_CSV["bom_and_crlf"],
}


def read_independently(data: bytes, *, is_csv: bool) -> dict[str, float]:
    """What another reader finds in a file that was accepted."""
    if not is_csv:
        table = pq.ParquetFile(io.BytesIO(data)).read()
        name = next(name for name in PREDICTION_NAMES if name in table.column_names)
        return dict(zip(table.column("id").to_pylist(), table.column(name).to_pylist(), strict=True))
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    name = next(name for name in PREDICTION_NAMES if name in rows[0])
    return {row["id"]: float(row[name]) for row in rows}


def assert_right(data: bytes, *, is_csv: bool) -> bool:
    """A damaged file is refused with a code, or says what another reader finds in it; returns whether accepted."""
    outcome = parse_submission(data, csv=is_csv, ids=IDS)
    assert_sound(outcome)
    if isinstance(outcome, Rejection):
        return False
    found = read_independently(data, is_csv=is_csv)
    assert outcome.predictions.tolist() == [found[stock] for stock in IDS]
    return True


@pytest.mark.parametrize("name", FUZZED)
def test_parse_submission__every_truncation_is_refused_or_right(name: str) -> None:
    data, is_csv = FUZZED[name], name.startswith("csv")
    whole = [length for length in range(len(data)) if assert_right(data[:length], is_csv=is_csv)]
    last_value = len(data.rstrip()) - data.rstrip().rindex(b",") if is_csv else 0
    assert len(whole) <= last_value + 2  # a CSV file cut within its very last number still is one
    assert not whole or is_csv


@pytest.mark.parametrize("name", ["plain", "snappy", "zstd", "csv"])
def test_parse_submission__every_flipped_bit_is_refused_or_right(name: str) -> None:
    data, is_csv = bytearray(FUZZED[name]), name.startswith("csv")
    failed: dict[str, tuple[int, int]] = {}
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            try:
                assert_right(bytes(data), is_csv=is_csv)
            except Exception as error:
                failed.setdefault(f"{type(error).__name__}: {error}"[:100], (at, bit))
            data[at] ^= 1 << bit
    assert not failed


Edit = tuple[str, float, bytes]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["overwrite", "insert", "delete", "repeat", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    for kind, where, content in edits:
        at = int(where * len(data))
        if kind == "overwrite":
            data = data[:at] + content + data[at + len(content) :]
        elif kind == "insert":
            data = data[:at] + content + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + len(content) :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + 4 * len(content)] + data[at:]
        else:
            data = data[:at]
    return data


@given(name=st.sampled_from(sorted(FUZZED)), edits=EDITS)
@settings(max_examples=1500, deadline=None)
def test_parse_submission__damage_is_refused_or_right(name: str, edits: list[Edit]) -> None:
    assert_right(edited(FUZZED[name], edits), is_csv=name.startswith("csv"))


@given(data=st.binary(max_size=2000), is_csv=st.booleans())
@settings(max_examples=500, deadline=None)
@example(data=b"id,prediction", is_csv=True)
@example(data=b"id,prediction\n", is_csv=True)
@example(data=b"id,prediction\r\r\r", is_csv=True)
@example(data=b"\xef\xbb\xbf", is_csv=True)
@example(data=b"\x00", is_csv=True)
@example(data=b"\x00", is_csv=False)
def test_parse_submission__garbage_is_refused(data: bytes, is_csv: bool) -> None:
    for wrapped in (data, b"id,prediction\n" + data, b"PAR1" + data + struct.pack("<I", len(data)) + b"PAR1"):
        outcome = parse_submission(wrapped, csv=is_csv, ids=IDS)
        assert_sound(outcome)
        assert isinstance(outcome, Rejection)


CELLS = st.one_of(
    st.sampled_from(["", "nan", "inf", "-inf", "0.5", "1", "2", "-1", "1e-9", "x", '"', '"0.5"', "0,5", " 0.25 "]),
    st.floats(width=64).map(repr),
)


@given(
    rows=st.lists(st.tuples(st.sampled_from([*IDS, "", "x", '"stock_00"', "stock_00 "]), CELLS), max_size=STOCKS + 3),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    spoiled=st.dictionaries(st.integers(0, STOCKS - 1), CELLS, max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_parse_submission__odd_cells_are_refused_or_right(
    rows: list[tuple[str, str]], end: str, spoiled: dict[int, str]
) -> None:
    whole = [(stock, spoiled.get(at, repr(VECTOR[at].item()))) for at, stock in enumerate(IDS)]
    for lines in (rows, whole):
        text = end.join(["id,prediction", *(f"{stock},{cell}" for stock, cell in lines)]) + end
        assert_right(text.encode(), is_csv=True)
