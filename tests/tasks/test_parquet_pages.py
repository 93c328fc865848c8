"""What a parquet file unpacks to: honest files are measured right, and no file that lies about itself gets in."""

import contextlib
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.parquet_pages import DamagedError, unpacked_size
from tasks.submission_file import Refused, byte_limit, read_parquet
from tests.tasks.test_submission import parquet_bytes
from tests.tasks.test_submission_damage import FUZZED, PEAK, ROOT

COMPRESSIONS = ("none", "snappy", "gzip", "brotli", "lz4", "zstd")
ROWS = 5_000
STOCKS = 100
LIMIT = byte_limit(STOCKS)
NO_LIMIT = 2**62


def table(rows: int, width: int = 8) -> pa.Table:
    ids = [f"stock_{at:0{width}d}" for at in range(rows)]
    return pa.table({"id": ids, "prediction": np.linspace(0, 1, rows)})


def zigzag(number: int, length: int = 0) -> bytes:
    """A number as the footer holds it, padded to a length that a writer would not use but every reader accepts."""
    number, digits = 2 * number, []
    while number or not digits:
        digits.append(number & 127)
        number >>= 7
    digits += [0] * (length - len(digits))
    return bytes([digit | 128 for digit in digits[:-1]] + digits[-1:])


def footer_start(data: bytes) -> int:
    return len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]


def forged(data: bytes, true: int, false: int) -> bytes:
    """The file with every such number of its footer replaced."""
    start, found = footer_start(data), zigzag(true)
    assert found in data[start:]
    return data[:start] + data[start:].replace(found, zigzag(false, len(found)))


def total(data: bytes) -> int:
    metadata = pq.read_metadata(pa.BufferReader(data))
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


# ---------------------------------------------------------------------------------------------- honest files


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("group", [ROWS, 700])
def test_unpacked_size__is_what_an_honest_footer_says(
    compression: str, version: str, dictionary: bool, group: int
) -> None:
    data = parquet_bytes(
        table(ROWS),
        compression=compression,
        data_page_version=version,
        use_dictionary=dictionary,
        row_group_size=group,
        data_page_size=4_000,
        write_batch_size=100,
    )
    stated = total(data)  # with the pages' headers, which are some 20 bytes to 4 000
    assert 0.97 * stated < unpacked_size(data, NO_LIMIT) < stated
    assert read_parquet(data, ROWS).num_rows == ROWS


@pytest.mark.parametrize(
    "more",
    [
        {"write_page_index": True, "store_decimal_as_integer": True, "write_page_checksum": True},
        {"sorting_columns": [pq.SortingColumn(0), pq.SortingColumn(1)], "write_statistics": False},
        {"column_encoding": {"prediction": "BYTE_STREAM_SPLIT"}, "use_dictionary": False},
        {"bloom_filter_options": {"id": True}},
    ],
    ids=["page_index", "sorting", "byte_stream_split", "bloom_filter"],
)
def test_unpacked_size__knows_every_field_that_a_writer_may_add(more: dict[str, Any]) -> None:
    data = parquet_bytes(table(ROWS), **more)
    assert 0.97 * total(data) < unpacked_size(data, NO_LIMIT) < total(data)


def test_unpacked_size__counts_columns_of_every_kind() -> None:
    others = {
        "truth": pa.array([at % 3 == 0 for at in range(ROWS)]),
        "lists": pa.array([[at, at + 1] for at in range(ROWS)]),
        "struct": pa.array([{"id": "x", "day": at} for at in range(ROWS)]),
        "nothing": pa.nulls(ROWS),
        "time": pa.array(range(ROWS), pa.timestamp("ns", "UTC")),
        "text": pa.array(["é" * (at % 50) for at in range(ROWS)]).dictionary_encode(),
        "money": pa.array(range(ROWS)).cast(pa.decimal128(30, 5)),
    }
    whole = pa.table({**dict(zip(["id", "prediction"], table(ROWS).columns, strict=True)), **others})
    data = parquet_bytes(whole.replace_schema_metadata({"pandas": "x" * 5_000}))
    few_bytes = 6 * ROWS  # truth, nothing and repetitions take fewer bytes than they have values
    assert 0.97 * total(data) < unpacked_size(data, NO_LIMIT) < total(data) + few_bytes
    assert read_parquet(data, ROWS).num_rows == ROWS


def test_unpacked_size__of_no_rows_is_nothing() -> None:
    assert unpacked_size(parquet_bytes(table(0)), NO_LIMIT) == 0


def test_unpacked_size__stops_at_the_limit() -> None:
    data = parquet_bytes(table(ROWS), row_group_size=100)
    assert 10_000 < unpacked_size(data, 10_000) < 20_000


# ---------------------------------------------------------------------------------------------- files that lie


def assert_refused_in_little_memory(data: bytes, where: Path, code: str) -> None:
    """In a process of its own, because the most that Arrow ever held is counted a process."""
    assert len(data) <= LIMIT
    where.write_bytes(data)
    arguments = [sys.executable, "-c", PEAK, str(where)]
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found, peak = ended.stdout.split()
    assert found == code
    assert int(peak) < 3 * LIMIT


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parse_submission__a_footer_cannot_hide_what_unpacks(tmp_path: Path, version: str, dictionary: bool) -> None:
    data = parquet_bytes(
        table(STOCKS, width=400_000),
        compression="zstd",
        use_dictionary=dictionary,
        dictionary_pagesize_limit=2**30,
        data_page_version=version,
        write_statistics=False,
        store_schema=False,
    )
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    for size in {group.total_byte_size, *(group.column(at).total_uncompressed_size for at in range(2))}:
        data = forged(data, size, 1)
    assert total(data) == 1
    assert_refused_in_little_memory(data, tmp_path / "file", "too_large")


def test_parse_submission__a_run_of_one_value_cannot_hide_its_rows(tmp_path: Path) -> None:
    """The footer says 100 rows, and the columns of its only row group say 5 million in a few kB of pages."""
    rows = 5_000_000
    long = pa.table({"id": pa.repeat("x", rows), "prediction": pa.repeat(0.5, rows)})
    data = parquet_bytes(long, compression="none", row_group_size=rows, write_statistics=False, store_schema=False)
    start, found = footer_start(data), zigzag(rows)
    data = data[:start] + data[start:].replace(found, zigzag(STOCKS, len(found)), 1)
    metadata = pq.read_metadata(pa.BufferReader(data))
    assert (metadata.num_rows, metadata.row_group(0).num_rows) == (STOCKS, rows)
    assert_refused_in_little_memory(data, tmp_path / "file", "too_large")


@pytest.mark.parametrize("compression", COMPRESSIONS[1:])
def test_read_parquet__a_page_that_unpacks_to_more_than_its_header_says_is_refused(compression: str) -> None:
    """pyarrow does this: it unpacks into the stated size. All of the above rests on it."""
    data = parquet_bytes(
        table(STOCKS, 4_000), compression=compression, use_dictionary=False, write_statistics=False, store_schema=False
    )
    assert data[4:7] == b"\x15\x00\x15"  # the first page's header: a page of data, and then its size in three bytes
    size = (data[7] & 127 | (data[8] & 127) << 7 | data[9] << 14) // 2
    assert zigzag(size) == data[7:10]
    assert size > STOCKS * 4_000
    for less in (1_000, size // 2, size - 1):
        with pytest.raises(Refused) as refused:
            read_parquet(data[:7] + zigzag(less, 3) + data[10:], STOCKS)
        assert refused.value.rejection.code == "unreadable"
    assert read_parquet(data, STOCKS).num_rows == STOCKS


def test_unpacked_size__pages_that_are_named_again_and_again_are_refused() -> None:
    sink = pa.BufferOutputStream()
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "store_schema": False}
    with pq.ParquetWriter(sink, table(1).schema, write_statistics=False, **options) as writer:
        for rows in (1_000, *[1] * 20):
            writer.write_table(table(rows))
    data = sink.getvalue().to_pybytes()
    metadata = pq.read_metadata(pa.BufferReader(data))
    first = metadata.row_group(0).column(0).data_page_offset
    for group in range(1, metadata.num_row_groups):
        data = forged(data, metadata.row_group(group).column(0).data_page_offset, first)
    with pytest.raises(DamagedError, match="share bytes"):
        unpacked_size(data, NO_LIMIT)


# ---------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("name", [name for name in FUZZED if not name.startswith("csv")])
def test_unpacked_size__raises_nothing_but_damaged_error(name: str) -> None:
    data = bytearray(FUZZED[name])
    odd = []
    for at in range(4, len(data) - 8):
        for value in {0, 0x10, 0x19, 0x1C, 0x7F, 0xFF, data[at] ^ 1, data[at] ^ 64}:
            kept, data[at] = data[at], value
            try:
                unpacked_size(bytes(data), LIMIT)
            except DamagedError:
                pass
            except Exception as error:
                odd.append(f"{at}: {error!r}")
            data[at] = kept
    assert odd == []


@given(footer=st.binary(max_size=300))
@settings(max_examples=1_000, deadline=None)
def test_unpacked_size__of_any_footer_is_a_size_or_damage(footer: bytes) -> None:
    with contextlib.suppress(DamagedError):
        assert unpacked_size(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1", LIMIT) >= 0


@pytest.mark.parametrize(
    "footer",
    [
        b"\x19" * 200_000,  # lists in lists
        b"\x1c" * 200_000,  # structs in structs
        b"\x15" + b"\x80" * 200_000,  # a number without an end
        b"\x59\xf1" + b"\xff" * 8 + b"\x01" + bytes(8),  # 2**63 truth values
        b"\x29\x15\x00\x00",  # the schema as a list of numbers
        b"\x49\x0c\x09\x08\x0c\x00",  # the row groups twice, once by its number
        b"\x01\x88\x80\x08",  # a field's number that pyarrow would take for 4
    ],
    ids=["lists", "structs", "number", "truth_values", "list_of_another_kind", "twice", "field_number"],
)
def test_unpacked_size__footers_made_to_confuse_are_damage(footer: bytes) -> None:
    with pytest.raises(DamagedError):
        unpacked_size(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1", LIMIT)


def test_unpacked_size__a_number_of_another_type_is_damage() -> None:
    """pyarrow passes over it: here it would begin at the data page, and this module at the dictionary."""
    data = parquet_bytes(table(STOCKS), store_schema=False)
    start, field = footer_start(data), b"\x26" + zigzag(4)  # its head: two fields after the last, 64 bits wide
    at = data.index(field, start)
    assert pq.read_metadata(pa.BufferReader(data)).row_group(0).column(0).has_dictionary_page
    other = data[:at] + b"\x25" + data[at + 1 :]
    assert not pq.read_metadata(pa.BufferReader(other)).row_group(0).column(0).has_dictionary_page
    with pytest.raises(DamagedError, match="another type"):
        unpacked_size(other, LIMIT)


@pytest.mark.parametrize("false", [2**20, 2**21 - 1])
def test_read_parquet__pages_outside_the_file_are_unreadable(false: int) -> None:
    data = parquet_bytes(table(STOCKS, 500), compression="none", use_dictionary=False, store_schema=False)
    true = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(1).data_page_offset
    at = data.index(zigzag(true), footer_start(data))
    longer = data[:at] + zigzag(false) + data[at + len(zigzag(true)) : -8]
    length = len(longer) - footer_start(data)
    with pytest.raises(Refused) as refused:
        read_parquet(longer + struct.pack("<I", length) + b"PAR1", STOCKS)
    assert refused.value.rejection.code == "unreadable"
