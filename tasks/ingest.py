"""Ingest: a round's submissions, from files to ranks.

Submissions lie in the store as one file a model or as one wide table. Either way they are read in blocks of models
sorted by name: each worker reads its block's files, each once (the digest is of the very bytes that are parsed), turns
each into ranks at once and keeps nothing else, so a block of 512 models takes 6 MB at 6 000 stocks. The ranks stay
where they were made; only receipts travel: name, digests, and the reason where a submission is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import OperatorError, Rejection
from scoring.pairwise import PANEL_MODELS
from scoring.ranks import MAX_STOCKS_16_BIT, Ranks, rank
from tasks.store import Entry, Store
from tasks.submission import Submission, check_predictions, parse_submission, universe_array
from tasks.submission_file import byte_limit, first_line

BLOCK_MODELS = PANEL_MODELS
"""Models a block; a block is also the panel that meets other panels in `cwmm_max`."""
_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Source:
    """Where one model's predictions lie.

    Attributes:
        model: the model's name: the file's name without its ending, or the column's name.
        files: the model's files in the store (more than one is refused), or the wide table that holds its column.
        wide: whether the predictions are a column of a wide table.
        rejection: why the submission is refused before it is read.
    """

    model: str
    files: tuple[Entry, ...]
    wide: bool = False
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one submission; neither digest nor rejection means that there is none.

    Attributes:
        model: whose it is.
        file: the path of its (first) file.
        hashes: SHA-256 of the model's own files by path; empty for a column of a wide table.
        digest: digest of the canonical submission.
        rejection: why it is refused.
    """

    model: str
    file: str
    hashes: Mapping[str, str]
    digest: str | None
    rejection: Rejection | None


@dataclass(frozen=True, slots=True)
class Block:
    """Some models' valid submissions as ranks, and the receipts of all of them."""

    ranks: Ranks
    receipts: tuple[Receipt, ...]


def find_sources(store: Store, folder: str) -> list[Source]:
    """Returns all submissions below `folder` (or in the wide table `folder`.parquet), sorted by model.

    Raises:
        OperatorError: both a folder and a wide table exist, so that it is not clear which one counts.
    """
    entries = store.list(folder)
    if not store.exists(f"{folder}.parquet"):
        by_model: dict[str, list[Entry]] = {}
        for entry in entries:
            by_model.setdefault(PurePosixPath(entry.path).stem, []).append(entry)
        return [_file_source(model, tuple(by_model[model])) for model in sorted(by_model)]
    if entries:
        raise OperatorError(f"{folder}: there must be either this folder or {folder}.parquet, found both; remove one")
    return _wide_sources(store, store.entry(f"{folder}.parquet"))


def cut_blocks(sources: Sequence[Source]) -> list[tuple[Source, ...]]:
    """Returns the sources in blocks; where the cuts fall changes no published bit."""
    return [tuple(sources[at : at + BLOCK_MODELS]) for at in range(0, len(sources), BLOCK_MODELS)]


def ingest_block(sources: Sequence[Source], store: Store, ids: tuple[str, ...]) -> Block:
    """Reads, checks and ranks a block of submissions.

    Args:
        sources: the block's.
        store: where they lie.
        ids: the universe, sorted.

    Raises:
        StorageError: the store does not give a file that it listed.
    """
    columns = _wide_columns(store, sources, ids)
    doubled = np.empty((len(sources), len(ids)), np.uint16 if len(ids) <= MAX_STOCKS_16_BIT else np.uint32)
    valid: list[str] = []
    receipts = []
    for source in sources:
        hashes, found = ({}, columns[source.model]) if source.wide else _read(store, source, ids)
        digest, rejection = None, None
        if isinstance(found, Submission):
            doubled[len(valid)] = rank((source.model,), found.predictions[None, :]).doubled[0]
            valid.append(source.model)
            digest = found.digest
        else:
            rejection = found
        receipts.append(Receipt(source.model, source.files[0].path, hashes, digest, rejection))
    return Block(Ranks(tuple(valid), doubled[: len(valid)]), tuple(receipts))


def receipts_of(block: Block) -> tuple[Receipt, ...]:
    """Returns what the rest of the round needs to know of a block."""
    return block.receipts


def file_hashes(store: Store, source: Source) -> dict[str, str]:
    """Returns the SHA-256 of each of the model's own files, read in bounded memory."""
    return {} if source.wide else {entry.path: store.sha256_of(entry.path) for entry in source.files}


def _read(store: Store, source: Source, ids: tuple[str, ...]) -> tuple[Mapping[str, str], Submission | Rejection]:
    file = source.files[0]
    rejection, limit = source.rejection, byte_limit(len(ids))
    if rejection is None and file.size > limit:
        message = f"the file may have at most {limit} bytes for {len(ids)} stocks, found {file.size}"
        rejection = Rejection("too_large", message)
    if rejection is not None:
        return file_hashes(store, source), rejection
    data, sha256 = store.read_with_hash(file.path)
    return {file.path: sha256}, parse_submission(data, csv=file.path.endswith(".csv"), ids=ids)


def _file_source(model: str, entries: tuple[Entry, ...]) -> Source:
    known = tuple(entry for entry in entries if PurePosixPath(entry.path).suffix in _SUFFIXES)
    names = ", ".join(PurePosixPath(entry.path).name for entry in known or entries)
    rejection = None
    if len(known) > 1:
        rejection = Rejection("two_files", f"a model has one file, found {names}; remove all but one")
    if not known:
        rejection = Rejection("unknown_file_type", f"a submission ends in .parquet or .csv, found {names}; rename it")
    return Source(model, known or entries, rejection=rejection)


def _wide_sources(store: Store, table: Entry) -> list[Source]:
    names = _open_wide(store, table).schema_arrow.names
    if names.count("id") != 1:
        raise OperatorError(f"{table.path}: needs one column 'id', found {names.count('id')}")
    twice = Rejection("duplicate_column", "a model has one column in the wide table; remove the others")
    models = sorted(set(names) - {"id"})
    return [Source(m, (table,), wide=True, rejection=twice if names.count(m) > 1 else None) for m in models]


def _open_wide(store: Store, table: Entry) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.PythonFile(store.open_entry(table), mode="r"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OperatorError(f"{table.path}: must be a parquet file: {first_line(error)}") from error


def _wide_columns(
    store: Store, sources: Sequence[Source], ids: tuple[str, ...]
) -> dict[str, Submission | Rejection | None]:
    """Reads this block's columns of a wide table; a column without any value is no submission."""
    found: dict[str, Submission | Rejection | None] = {source.model: source.rejection for source in sources}
    wanted = [source.model for source in sources if source.wide and source.rejection is None]
    if wanted:
        table = sources[0].files[0]
        columns = _read_wide(store, table, ["id", *wanted])
        place = _wide_places(columns.column("id"), ids, table.path)
        found |= {model: _wide_submission(columns.column(model), place, ids) for model in wanted}
    return found


def _read_wide(store: Store, table: Entry, names: list[str]) -> pa.Table:
    try:
        return _open_wide(store, table).read(columns=names, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OperatorError(f"{table.path}: must be a parquet file: {first_line(error)}") from error


def _wide_places(column: pa.ChunkedArray, ids: tuple[str, ...], path: str) -> np.ndarray | None:
    wrong = OperatorError(f"{path}: column 'id' must hold each of the universe's {len(ids)} ids once, as text")
    try:
        ordered = column.combine_chunks().cast(pa.string())
        ordered.validate(full=True)
    except pa.ArrowException as error:
        raise wrong from error
    if ordered.equals(universe_array(ids)):
        return None
    place = {stock: index for index, stock in enumerate(ids)}
    listed = ordered.to_pylist()
    if len(set(listed)) != len(listed) or set(listed) != set(ids):
        raise wrong
    return np.array([place[stock] for stock in listed])


def _wide_submission(
    column: pa.ChunkedArray, place: np.ndarray | None, ids: tuple[str, ...]
) -> Submission | Rejection | None:
    if column.null_count == len(column):
        return None
    if column.null_count:
        return Rejection("missing_id", f"needs all {len(ids)} ids of the universe; {column.null_count} have no value")
    if not (pa.types.is_float64(column.type) or pa.types.is_float32(column.type)):
        return Rejection("wrong_type", f"the column must hold floating-point numbers, found {column.type}")
    return check_predictions(column, place, ids)
