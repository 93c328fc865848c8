"""The probe: whether a store keeps the promises that publishing once rests on, found out by trying.

Some servers that speak S3 take the header for "create only" and overwrite all the same. Then of two runs of one round
both believe that they published, and the ledger is the later one's. No documentation tells which servers these are, so
a file is created here twice, once after the other and once by several writers at a time, read back, listed and removed.
What the probe wrote is gone afterwards, also the folders that it made, whatever it found.
"""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import OperatorError, StorageError
from tasks.inputs import round_folder
from tasks.store import MissingFileError, Store, open_store
from tasks.submission_file import first_line
from tasks.tournament import read_tournament

WRITERS = 4
"""How many create one name at the same time."""
_ONCE, _RACE = "once", "race"
_BYTES_A_CELL = 4
"""What scoring keeps of one model and stock; 2.8 were measured."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a tournament consists of.

    Attributes:
        name: the tournament's.
        rounds: how many there are.
        newest: number of the last of them, None where there is none.
        stocks, submissions: of the newest round.
    """

    name: str
    rounds: int
    newest: int | None
    stocks: int = 0
    submissions: int = 0

    @property
    def scoring_bytes(self) -> int:
        """Memory that the newest round's ranks and scores take on all workers together."""
        return _BYTES_A_CELL * self.stocks * self.submissions


class _UnwritableError(StorageError):
    """Not even the first file could be made."""


def probe_out(location: str) -> str:
    """Tries a place to publish to, and returns its absolute name; a directory that is missing is missing again after.

    Raises:
        StakeweightError: it cannot be opened, or does not keep what `probe_store` asks for.
    """
    with _without_new_folders(location):
        store = open_store(location, create=True)
        probe_store(store)
    return store.url


def probe_store(store: Store) -> None:
    """Creates, reads, lists and removes files of a new name; other files are not touched.

    Raises:
        StorageError: a name can be created twice, bytes read differ from bytes written, or a file cannot be removed.
    """
    folder = f"probe-{secrets.token_hex(8)}"
    try:
        _check_sequence(store, f"{folder}/{_ONCE}")
        _check_race(store, f"{folder}/{_RACE}")
    except _UnwritableError:
        with suppress(StorageError):  # there is hardly anything to remove
            _remove(store, folder)
        raise
    except StorageError as error:
        try:
            _remove(store, folder)
        except StorageError as second:
            raise StorageError(f"{error}; besides, {second}") from error
        raise
    _remove(store, folder)


def probe_data(location: str) -> DataFacts:
    """Reads what a run would read first; nothing is written.

    Raises:
        StakeweightError: the tournament or its newest round cannot be read.
    """
    store = open_store(location)
    name = read_tournament(store).name
    numbers = sorted(int(folder) for folder in store.folders("rounds") if folder.isdecimal())
    if not numbers:
        return DataFacts(name, 0, None)
    folder = round_folder(numbers[-1])
    stocks = _parquet(store, f"{folder}/universe.parquet").metadata.num_rows
    return DataFacts(name, len(numbers), numbers[-1], stocks, _submissions(store, f"{folder}/submissions"))


def _check_sequence(store: Store, path: str) -> None:
    first, second = b"first " + secrets.token_bytes(32), b"second " + secrets.token_bytes(32)
    try:
        created = store.create(path, first)
    except MissingFileError as error:  # of a file that is to be made it would mislead
        raise _UnwritableError(f"{store.url}: must exist and be writable, but no file can be made in it") from error
    except StorageError as error:
        raise _UnwritableError(str(error)) from error
    if not created and store.read(path) != first:  # where an answer was lost, the request was sent again
        raise StorageError(f"{store.url}: a new name must be free, found {path} taken; do not publish here")
    again = store.create(path, second)
    if again or store.read(path) != first:
        raise StorageError(
            f"{store.url}: a name must be created once only, but a second file replaced the first; "
            "two runs would both publish: use a store that honours If-None-Match"
        )
    if [entry.size for entry in store.list(path.partition("/")[0])] != [len(first)]:
        raise StorageError(f"{store.url}: a listing must show a file as soon as it is created; do not publish here")


def _check_race(store: Store, path: str) -> None:
    texts = [b"writer %d " % number + secrets.token_bytes(32) for number in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(lambda text: store.create(path, text), texts))
    kept = store.read(path)
    # The winner may take itself for a loser, where an answer was lost; nobody else may take itself for the winner.
    if kept not in texts or any(created and text != kept for created, text in zip(won, texts, strict=True)):
        raise StorageError(
            f"{store.url}: of {WRITERS} writers of one name exactly one must win, {sum(won)} did; "
            "two runs would both publish: use a store that honours If-None-Match"
        )


def _remove(store: Store, folder: str) -> None:
    """Removes what the probe wrote, and says so where it cannot."""
    try:
        for name in (_ONCE, _RACE):  # not what a listing shows: that may be the promise which is broken
            store.delete(f"{folder}/{name}")
        left = store.list(folder)
    except StorageError as error:
        raise StorageError(f"{store.url}: {folder} could not be removed, do it by hand: {first_line(error)}") from error
    if left:
        raise StorageError(f"{store.url}: {folder} must be gone after it was removed; remove it by hand")
    if "://" not in store.url:
        with suppress(OSError):
            (Path(store.url) / folder).rmdir()


@contextmanager
def _without_new_folders(location: str) -> Iterator[None]:
    """Removes the local folders that come into being meanwhile, if they are empty."""
    if "://" in location:
        yield
        return
    path = Path(location).absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


def _submissions(store: Store, folder: str) -> int:
    wide = f"{folder}.parquet"
    if store.exists(wide):
        return len(_parquet(store, wide).schema_arrow.names) - 1
    return len(store.list(folder))


def _parquet(store: Store, path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.PythonFile(store.open(path), mode="r"))
    except (pa.ArrowException, ValueError) as error:
        raise OperatorError(f"{path}: must be a parquet file: {first_line(error)}") from error
