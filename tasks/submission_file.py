"""The file of a submission: from bytes to two columns, whatever the bytes are.

A file may be empty, cut off, of another kind, damaged, or made to unpack to a thousand times its size. It ends as a
table of ids and predictions or as a `Refused`, which carries the verdict out of the checks; its message is one short
printable line, because it is shown on terminals and published.
"""

import csv
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from scoring.errors import Rejection, nearest
from tasks.parquet_pages import unpacked_size

PREDICTION_NAMES = ("prediction", "probability", "signal")
MAX_BYTES_PER_STOCK = 1_000
_SMALLEST_LIMIT = 1_000_000
_ROWS_SHOWN = 5
_COLUMNS_SHOWN = 10
_LONGEST_MESSAGE = 400
_LONGEST_NAME = 30


class Refused(Exception):  # noqa: N818  (it is no error: it carries a verdict)
    """Carries a rejection out of the checks."""

    def __init__(self, code: str, message: str, rows: Any = ()) -> None:
        self.rejection = Rejection(code, printable(message), tuple(int(row) for row in rows[:_ROWS_SHOWN]))


def printable(text: str, longest: int = _LONGEST_MESSAGE) -> str:
    """Returns a text as one line of bounded length, with everything that a terminal would act on escaped."""
    short = text if len(text) <= longest else text[:longest] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in short)


def first_line(error: Exception) -> str:
    """Returns what went wrong on one printable line."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0])


def byte_limit(stocks: int) -> int:
    """Returns how large a submission's file may be, packed or unpacked, before it is refused."""
    return max(_SMALLEST_LIMIT, MAX_BYTES_PER_STOCK * stocks)


def read_parquet(data: bytes, stocks: int) -> pa.Table:
    if not data:
        raise Refused("empty_file", "the file must hold a table, found 0 bytes")
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema, metadata = file.schema_arrow, file.metadata
        names = _choose_columns(schema.names)
        _check_types(names, {name: schema.field(name).type for name in names})
        if metadata.num_rows > 2 * stocks:
            raise Refused("too_many_rows", f"needs {stocks} rows, one a stock, found {metadata.num_rows}")
        _refuse_large(data, byte_limit(stocks))
        # Ids come as a dictionary, so that one long id named by every row is seen before it is copied to every row.
        file = pq.ParquetFile(pa.BufferReader(data), metadata=metadata, read_dictionary=["id"])
        return file.read(columns=list(names), use_threads=False).select(names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _no_parquet(error) from error


def _refuse_large(data: bytes, limit: int) -> None:
    """Refuses what unpacks to more than a file may hold, whatever the sizes in its footer say."""
    size = unpacked_size(data, limit)
    if size > limit:
        raise Refused("too_large", f"the columns must unpack to at most {limit} bytes, found {size}")


def plain_ids(column: pa.ChunkedArray, stocks: int) -> pa.Array:
    """Returns a column of ids as plain strings; a dictionary may name one huge string for every row."""
    try:
        if pa.types.is_dictionary(column.type):
            column.validate(full=True)  # a damaged index would make the cast below read foreign memory
            lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
            size, limit = sum(pc.sum(length).as_py() or 0 for length in lengths), byte_limit(stocks)
            if size > limit:
                raise Refused("too_large", f"the ids must unpack to at most {limit} bytes, found {size}")
        return column.combine_chunks().cast(pa.string())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _no_parquet(error) from error


def _no_parquet(error: Exception) -> Refused:
    return Refused("unreadable", f"the file must be parquet: {first_line(error)}")


def read_csv(data: bytes) -> pa.Table:
    if not data.strip():
        raise Refused("empty_file", "the file must hold a table, found nothing")
    try:
        header = next(iter(data.splitlines())).decode("utf-8-sig")
        names = _choose_columns(next(csv.reader([header]), []))
        return pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(use_threads=False, block_size=max(len(data), 1)),
            convert_options=pacsv.ConvertOptions(
                include_columns=names,
                column_types={names[0]: pa.string(), names[1]: pa.float64()},
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        code = "wrong_type" if "conversion error" in str(error) else "unreadable"
        raise Refused(code, f"the file must be CSV with numbers as predictions: {first_line(error)}") from error
    except (pa.ArrowException, csv.Error, ValueError) as error:
        raise Refused("unreadable", f"the file must be UTF-8 CSV: {first_line(error)}") from error


def _choose_columns(names: list[str]) -> tuple[str, str]:
    """Returns the names of the id column and of the prediction column; other columns are nobody's business."""
    for name in ("id", *PREDICTION_NAMES):
        if names.count(name) > 1:
            raise Refused("duplicate_column", f"column {name!r} must appear once, found {names.count(name)}")
    found = [name for name in PREDICTION_NAMES if name in names]
    if len(found) > 1:
        raise Refused("duplicate_column", f"one column must hold the predictions, found {found}")
    if "id" not in names:
        raise Refused("missing_column", f"needs a column 'id', found {_few(names)}{nearest('id', names)}")
    if not found:
        close = nearest("prediction", names)
        raise Refused("missing_column", f"needs a column {' or '.join(PREDICTION_NAMES)}, found {_few(names)}{close}")
    return "id", found[0]


def _check_types(names: tuple[str, str], kinds: dict[str, pa.DataType]) -> None:
    identifier, prediction = kinds[names[0]], kinds[names[1]]
    if pa.types.is_dictionary(identifier):
        identifier = identifier.value_type
    if not (pa.types.is_string(identifier) or pa.types.is_large_string(identifier)):
        raise Refused("wrong_type", f"column 'id' must hold strings, found {identifier}")
    if not (pa.types.is_float64(prediction) or pa.types.is_float32(prediction)):
        raise Refused("wrong_type", f"column {names[1]!r} must hold floating-point numbers, found {prediction}")


def _few(names: list[str]) -> str:
    return str([name[:_LONGEST_NAME] for name in names[:_COLUMNS_SHOWN]])
