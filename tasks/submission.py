"""One submission: from the bytes of a file to predictions in the universe's order, or the reason why not.

A participant can send anything. Whatever it is, it ends as predictions for exactly the universe's ids or as one
`Rejection` with a rule code; it never raises, so that no file can harm another model. The fast path costs nothing but a
comparison: most files list the ids in the universe's own order.

Rule codes, in the order in which they are checked: `too_large`, `empty_file`, `unreadable`, `duplicate_column`,
`missing_column`, `wrong_type`, `too_many_rows`, `null_id`, `duplicate_id`, `unknown_id`, `missing_id`, `not_finite`,
`out_of_range`, `constant`.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64

from scoring.errors import Rejection, nearest

PREDICTION_NAMES = ("prediction", "probability", "signal")
MAX_BYTES_PER_STOCK = 1_000
_SMALLEST_LIMIT = 1_000_000
_ROWS_SHOWN = 5
_CSV_NULLS = ["", "nan", "NaN", "NAN"]


class _Refused(Exception):  # noqa: N818  (it is no error: it carries a verdict)
    """Carries a rejection out of the checks."""

    def __init__(self, code: str, message: str, rows: Any = ()) -> None:
        self.rejection = Rejection(code, message, tuple(int(row) for row in rows[:_ROWS_SHOWN]))


@dataclass(frozen=True, slots=True)
class Submission:
    """A valid submission.

    Attributes:
        predictions: (stock,) float64 inside [0, 1], in the universe's order.
        digest: hexadecimal SHA-256 of its canonical form (`canonical_digest`).
    """

    predictions: Float64[np.ndarray, " stock"]
    digest: str


def parse_submission(data: bytes, *, csv: bool, ids: tuple[str, ...]) -> Submission | Rejection:
    """Returns what a file says about the universe's stocks, or why it is refused.

    Args:
        data: the file's bytes.
        csv: whether it is CSV; parquet otherwise.
        ids: the universe, sorted.
    """
    try:
        table = _read_csv(data) if csv else _read_parquet(data, len(ids))
        column, predictions = table.column(0), table.column(1)
        place = _places(column, ids)
        return check_predictions(predictions, place, ids)
    except _Refused as refused:
        return refused.rejection


def check_predictions(
    predictions: pa.ChunkedArray, place: np.ndarray | None, ids: tuple[str, ...]
) -> Submission | Rejection:
    """Checks the values of a submission whose ids are right.

    Args:
        predictions: one value a row of the file, floating point.
        place: (row,) where each row stands in the universe; None where the order is the same.
        ids: the universe, sorted.
    """
    values = np.asarray(predictions.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)
    try:
        _refuse_rows(~np.isfinite(values), "not_finite", "every prediction must be a finite number", values)
        _refuse_rows((values < 0) | (values > 1), "out_of_range", "every prediction must lie in [0, 1]", values)
        if values.min() == values.max():
            raise _Refused("constant", f"predictions must differ between stocks, all are {values[0]!r}")
    except _Refused as refused:
        return refused.rejection
    ordered = values
    if place is not None:
        ordered = np.empty_like(values)
        ordered[place] = values
    return Submission(ordered, canonical_digest(ids, ordered))


def canonical_digest(ids: tuple[str, ...], predictions: Float64[np.ndarray, " stock"]) -> str:
    """Returns the SHA-256 of a submission's canonical form, the same however its file was written.

    The canonical form is each id in sorted order as UTF-8 followed by a newline, then each prediction in that order as
    a little-endian IEEE 754 double.
    """
    digest = _digest_of_ids(ids).copy()
    digest.update(np.ascontiguousarray(predictions, dtype="<f8").tobytes())
    return digest.hexdigest()


def byte_limit(stocks: int) -> int:
    """Returns how large a submission's file may be before it is refused unread."""
    return max(_SMALLEST_LIMIT, MAX_BYTES_PER_STOCK * stocks)


@lru_cache(maxsize=8)
def _digest_of_ids(ids: tuple[str, ...]) -> Any:
    return hashlib.sha256("".join(f"{stock}\n" for stock in ids).encode())


@lru_cache(maxsize=8)
def universe_array(ids: tuple[str, ...]) -> pa.Array:
    """Returns the universe's ids as an Arrow array, made once a process."""
    return pa.array(ids, pa.string())


def _read_parquet(data: bytes, stocks: int) -> pa.Table:
    if not data:
        raise _Refused("empty_file", "the file must hold a table, found 0 bytes")
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = _choose_columns(file.schema_arrow.names)
        kinds = {name: file.schema_arrow.field(name).type for name in names}
        _check_types(names, kinds)
        if file.metadata.num_rows > 2 * stocks:
            raise _Refused("too_many_rows", f"needs {stocks} rows, one a stock, found {file.metadata.num_rows}")
        return file.read(columns=list(names), use_threads=False).select(names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _Refused("unreadable", f"the file must be parquet: {_first_line(error)}") from error


def _read_csv(data: bytes) -> pa.Table:
    if not data.strip():
        raise _Refused("empty_file", "the file must hold a table, found nothing")
    try:
        header = next(iter(data.splitlines())).decode("utf-8-sig")
        names = _choose_columns([name.strip().strip('"') for name in header.split(",")])
        return pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(use_threads=False, block_size=max(len(data), 1)),
            convert_options=pacsv.ConvertOptions(
                include_columns=names,
                column_types={names[0]: pa.string(), names[1]: pa.float64()},
                null_values=_CSV_NULLS,
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        code = "wrong_type" if "conversion error" in str(error) else "unreadable"
        raise _Refused(code, f"the file must be CSV with numbers as predictions: {_first_line(error)}") from error
    except (pa.ArrowException, ValueError) as error:
        raise _Refused("unreadable", f"the file must be UTF-8 CSV: {_first_line(error)}") from error


def _choose_columns(names: list[str]) -> tuple[str, str]:
    """Returns the names of the id column and of the prediction column; other columns are nobody's business."""
    for name in ("id", *PREDICTION_NAMES):
        if names.count(name) > 1:
            raise _Refused("duplicate_column", f"column {name!r} must appear once, found {names.count(name)}")
    found = [name for name in PREDICTION_NAMES if name in names]
    if len(found) > 1:
        raise _Refused("duplicate_column", f"one column must hold the predictions, found {found}")
    if "id" not in names:
        raise _Refused("missing_column", f"needs a column 'id', found {names[:10]}{nearest('id', names)}")
    if not found:
        close = nearest("prediction", names)
        raise _Refused("missing_column", f"needs a column {' or '.join(PREDICTION_NAMES)}, found {names[:10]}{close}")
    return "id", found[0]


def _check_types(names: tuple[str, str], kinds: dict[str, pa.DataType]) -> None:
    identifier, prediction = kinds[names[0]], kinds[names[1]]
    if pa.types.is_dictionary(identifier):
        identifier = identifier.value_type
    if not (pa.types.is_string(identifier) or pa.types.is_large_string(identifier)):
        raise _Refused("wrong_type", f"column 'id' must hold strings, found {identifier}")
    if not (pa.types.is_float64(prediction) or pa.types.is_float32(prediction)):
        raise _Refused("wrong_type", f"column {names[1]!r} must hold floating-point numbers, found {prediction}")


def _places(column: pa.ChunkedArray, ids: tuple[str, ...]) -> np.ndarray | None:
    """Returns where each row stands in the universe, None for the universe's own order."""
    universe = universe_array(ids)
    found = column.combine_chunks()
    if found.type != pa.string():
        found = found.cast(pa.string())
    if found.null_count:
        _refuse_rows(np.asarray(found.is_null()), "null_id", "every row needs an id", found)
    if found.equals(universe):
        return None
    place = pc.index_in(found, value_set=universe)
    counts = np.bincount(np.asarray(place.drop_null()), minlength=len(ids))
    if (counts > 1).any():
        rows = np.flatnonzero(np.asarray(pc.is_in(found, value_set=universe.filter(pa.array(counts > 1)))))
        repeated = int((counts > 1).sum())
        raise _Refused("duplicate_id", f"every id must appear once; {repeated} appear more often{_see(rows)}", rows)
    if place.null_count:
        _refuse_rows(np.asarray(place.is_null()), "unknown_id", "every id must belong to the round's universe", found)
    if len(found) < len(ids):
        lacking = ids[int(np.flatnonzero(counts == 0)[0])]
        raise _Refused(
            "missing_id",
            f"needs all {len(ids)} ids of the universe; {len(ids) - len(found)} are missing, e.g. {lacking}",
        )
    return np.asarray(place)


def _refuse_rows(wrong: Bool[np.ndarray, " row"], code: str, must: str, column: Any) -> None:
    rows = np.flatnonzero(wrong)
    if rows.size:
        example = column[int(rows[0])]
        shown = example.as_py() if isinstance(example, pa.Scalar) else float(example)
        raise _Refused(code, f"{must}; {rows.size} of {wrong.size} do not, e.g. {shown!r}{_see(rows)}", rows)


def _see(rows: np.ndarray) -> str:
    return f" in row {int(rows[0])}" if rows.size else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
