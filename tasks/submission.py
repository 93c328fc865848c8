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
from jaxtyping import Bool, Float64

from scoring.errors import Rejection
from tasks.submission_file import Refused, first_line, plain_ids, read_csv, read_parquet


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
        table = read_csv(data) if csv else read_parquet(data, len(ids))
        column, predictions = table.column(0), table.column(1)
        place = _places(column, ids)
        return check_predictions(predictions, place, ids)
    except Refused as refused:
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
    if not 0 <= values.min() < values.max() <= 1:  # false for NaN too
        return _wrong_values(values)
    ordered = values
    if place is not None:
        ordered = np.empty_like(values)
        ordered[place] = values
    return Submission(ordered, canonical_digest(ids, ordered))


def _wrong_values(values: Float64[np.ndarray, " row"]) -> Rejection:
    """Returns why values are refused that do not go from 0 to 1."""
    try:
        _refuse_rows(~np.isfinite(values), "not_finite", "every prediction must be a finite number", values)
        _refuse_rows((values < 0) | (values > 1), "out_of_range", "every prediction must lie in [0, 1]", values)
    except Refused as refused:
        return refused.rejection
    return Rejection("constant", f"predictions must differ between stocks, all are {float(values[0])!r}")


def canonical_digest(ids: tuple[str, ...], predictions: Float64[np.ndarray, " stock"]) -> str:
    """Returns the SHA-256 of a submission's canonical form, the same however its file was written.

    The canonical form is each id in sorted order as UTF-8 followed by a newline, then each prediction in that order as
    a little-endian IEEE 754 double.
    """
    digest = _digest_of_ids(ids).copy()
    digest.update(np.ascontiguousarray(predictions, dtype="<f8").tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _digest_of_ids(ids: tuple[str, ...]) -> Any:
    return hashlib.sha256("".join(f"{stock}\n" for stock in ids).encode())


@lru_cache(maxsize=8)
def universe_array(ids: tuple[str, ...]) -> pa.Array:
    """Returns the universe's ids as an Arrow array, made once a process."""
    return pa.array(ids, pa.string())


def _places(column: pa.ChunkedArray, ids: tuple[str, ...]) -> np.ndarray | None:
    """Returns where each row stands in the universe, None for the universe's own order."""
    universe = universe_array(ids)
    if _is_dictionary_of(column, universe):
        return None
    found = plain_ids(column, len(ids))
    if found.equals(universe):
        return None
    _refuse_bytes(found)
    if found.null_count:
        _refuse_rows(np.asarray(found.is_null()), "null_id", "every row needs an id", found)
    place = pc.index_in(found, value_set=universe)
    counts = np.bincount(np.asarray(place.drop_null()), minlength=len(ids))
    if (counts > 1).any():
        rows = np.flatnonzero(np.asarray(pc.is_in(found, value_set=universe.filter(pa.array(counts > 1)))))
        repeated = int((counts > 1).sum())
        raise Refused("duplicate_id", f"every id must appear once; {repeated} appear more often{_see(rows)}", rows)
    if place.null_count:
        _refuse_rows(np.asarray(place.is_null()), "unknown_id", "every id must belong to the round's universe", found)
    if len(found) < len(ids):
        lacking = ids[int(np.flatnonzero(counts == 0)[0])]
        raise Refused(
            "missing_id",
            f"needs all {len(ids)} ids of the universe; {len(ids) - len(found)} are missing, e.g. {lacking}",
        )
    return np.asarray(place)


def _is_dictionary_of(column: pa.ChunkedArray, universe: pa.Array) -> bool:
    """Says whether a column lists the universe in its own order: as parquet stores it, nothing has to be unpacked."""
    if column.num_chunks != 1 or not pa.types.is_dictionary(column.type):
        return False
    chunk = column.chunk(0)
    return bool(
        chunk.dictionary.equals(universe)
        and chunk.null_count == 0
        and np.array_equal(chunk.indices, np.arange(len(universe)))
    )


def _refuse_bytes(found: pa.Array) -> None:
    try:
        found.validate(full=True)
    except pa.ArrowInvalid as error:
        raise Refused("unreadable", f"every id must be UTF-8 text: {first_line(error)}") from error


def _refuse_rows(wrong: Bool[np.ndarray, " row"], code: str, must: str, column: Any) -> None:
    rows = np.flatnonzero(wrong)
    if rows.size:
        example = column[int(rows[0])]
        shown = example.as_py() if isinstance(example, pa.Scalar) else float(example)
        raise Refused(code, f"{must}; {rows.size} of {wrong.size} do not, e.g. {shown!r}{_see(rows)}", rows)


def _see(rows: np.ndarray) -> str:
    return f" in row {int(rows[0])}" if rows.size else ""
