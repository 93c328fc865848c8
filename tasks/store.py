"""The store: a directory or an object-store prefix whose files are read once and created once.

A file is read in one go together with the digest of exactly those bytes, so that what was hashed is what
was scored. Files are created, never overwritten: of two writers of one name exactly one wins. The failures
guarded against: a published number that changes afterwards, a half-written file that looks whole, and a
large file that is replaced between two reads of its parts (each part demands the ETag of the first).
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, S3Store, from_url

from scoring.errors import OperatorError, StorageError
from tasks.durable import create_file

if TYPE_CHECKING:
    from obstore.store import ObjectStore

HASH_CHUNK_BYTES = 8 << 20
"""Memory that hashing a file of any size takes."""
_LISTINGS = 3
_REQUEST_TIMEOUT = "5 minutes"  # obstore's 30 s covers the whole body, too short for a large table


T = TypeVar("T")


class MissingFileError(StorageError):
    """There is no such file in the store; the store itself answered."""


class Entry(NamedTuple):
    """One file of a listing: its path in the store, size in bytes, and ETag where the store has one."""

    path: str
    size: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class Store:
    """A place for files; safe to pickle and to send to a worker, which connects on first use.

    Every method raises `StorageError` where the store fails, and `MissingFileError` where a file it needs
    is not there.

    Attributes:
        url: an absolute local directory, or a URL such as `s3://bucket/prefix`. Paths are relative to it,
            with `/` between folders.
    """

    url: str

    def read(self, path: str) -> bytes:
        """Returns the file's bytes."""
        with self._failures(path):
            return bytes(obstore.get(_connect(self.url), path).bytes())

    def read_with_hash(self, path: str) -> tuple[bytes, str]:
        """Returns the file's bytes and the hexadecimal SHA-256 of exactly these bytes."""
        data = self.read(path)
        return data, hashlib.sha256(data).hexdigest()

    def open(self, path: str) -> io.RawIOBase:
        """Opens a file that is too large to be read whole; pyarrow reads parquet columns from it.

        Reading from it raises `StorageError` where the file was replaced after it was opened.
        """
        return self.open_entry(self.entry(path))

    def open_entry(self, entry: Entry) -> io.RawIOBase:
        """Opens exactly the file that `entry` describes: several readers of one entry read the same bytes."""
        return _RangedFile(self, entry)

    def entry(self, path: str) -> Entry:
        """Returns what the store says of one file."""
        with self._failures(path):
            meta = obstore.head(_connect(self.url), path)
        return Entry(path, meta["size"], meta["e_tag"])

    def read_range(self, entry: Entry, start: int, end: int) -> bytes:
        """Returns the bytes from `start` to `end` (exclusive; 0 ≤ start < end ≤ size) of exactly this file.

        Raises:
            StorageError: the file no longer has the entry's ETag.
        """
        options: obstore.GetOptions = {"range": (start, end)}
        if entry.etag is not None:
            options["if_match"] = entry.etag
        with self._failures(entry.path):
            return bytes(obstore.get(_connect(self.url), entry.path, options=options).bytes())

    def sha256_of(self, path: str) -> str:
        """Returns the hexadecimal SHA-256 of a file of any size, in bounded memory."""
        return self.sha256_of_entry(self.entry(path))

    def sha256_of_entry(self, entry: Entry) -> str:
        """Returns the hexadecimal SHA-256 of exactly the file that `entry` describes, in bounded memory."""
        digest = hashlib.sha256()
        with self.open_entry(entry) as file:
            while chunk := file.read(HASH_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def exists(self, path: str) -> bool:
        """Says whether there is such a file."""
        try:
            self.entry(path)
        except MissingFileError:
            return False
        return True

    def create(self, path: str, data: bytes) -> bool:
        """Creates a file, whole or not at all; on return it would survive a power cut.

        Returns:
            True if this call created it. False if the name was taken: that file is left as it is, and the
            caller compares (it may be ours, where an answer was lost and the request sent again).
        """
        with self._failures(path):
            if "://" not in self.url:
                return create_file(Path(self.url), path, data)
            try:
                obstore.put(_connect(self.url), path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            return True

    def delete(self, path: str) -> None:
        """Removes a file; one that is gone already is no error."""
        try:
            with self._failures(path):
                obstore.delete(_connect(self.url), path)
        except MissingFileError:
            return

    def folders(self, prefix: str = "") -> list[str]:
        """Returns the sorted names of the folders directly inside the folder `prefix`."""
        with self._failures(prefix):
            listing = _whole(lambda: obstore.list_with_delimiter(_connect(self.url), prefix or None))
        return sorted(path.rsplit("/", 1)[-1] for path in listing["common_prefixes"])

    def list(self, prefix: str = "") -> list[Entry]:
        """Returns every file below the folder `prefix`, sorted by path; none where it does not exist."""
        with self._failures(prefix):
            found = _whole(lambda: obstore.list(_connect(self.url), prefix or None).collect())
        return sorted(Entry(meta["path"], meta["size"], meta["e_tag"]) for meta in found)

    @contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        """Turns whatever a store may raise into one clear line."""
        where = f"{self.url.rstrip('/')}/{path}"
        try:
            yield
        except FileNotFoundError as error:
            raise MissingFileError(f"{where}: there is no such file") from error
        except PreconditionError as error:
            raise StorageError(f"{where}: the file was replaced while it was read; start again") from error
        except (BaseError, OSError, ValueError) as error:
            raise StorageError(f"{where}: {_first_line(error)}") from error


def open_store(location: str | Path, *, create: bool = False) -> Store:
    """Opens a directory or an object store, whose credentials come from the environment (`AWS_*`).

    Args:
        location: a directory, a `file://` URL, or a URL such as `s3://bucket/prefix`.
        create: make the directory where it is missing; for outputs only, so that a misspelt input is noticed.

    Raises:
        OperatorError: the location is empty, the directory does not exist or is a file, or the URL is of no known
            kind or keeps nothing (`memory://`).
        StorageError: the directory cannot be made.
    """
    text = str(location)
    if "://" in text and not text.startswith("file://"):
        if text.lower().startswith("memory:"):
            raise OperatorError(f"{text}: must be a directory or a URL that keeps files; memory is gone with the run")
        _connect(text)
        return Store(text)
    path = unquote(urlsplit(text).path) if text.startswith("file://") else text
    if not path.strip():  # it would be the current directory
        raise OperatorError(f"{text!r}: must be a directory or a URL, found nothing")
    directory = Path(path).absolute()
    if create:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{directory}: the directory cannot be made: {error.strerror}") from error
    if not directory.is_dir():
        found = "a file" if directory.exists() else "nothing"
        raise OperatorError(f"{directory}: must be a directory, found {found}")
    return Store(str(directory))


def _whole(ask: Callable[[], T]) -> T:
    """Asks for a listing again where its answer breaks off: obstore itself asks again for files only."""
    for _ in range(_LISTINGS - 1):
        try:
            return ask()
        except BaseError as error:
            if "response body" not in str(error):
                raise
    return ask()


@lru_cache(maxsize=64)
def _connect(url: str) -> "ObjectStore":
    """Returns this process's connection to a store."""
    try:
        if "://" not in url:
            return LocalStore(url)
        return _with_timeout(from_url(url), url)
    except (BaseError, ValueError) as error:
        must = "must be a directory or a URL such as s3://bucket/prefix"
        raise OperatorError(f"{url}: {must}: {_first_line(error)}") from error


def _with_timeout(store: "ObjectStore", url: str) -> "ObjectStore":
    """Returns the same store with a longer request timeout.

    Guards against a store that cannot be reached: client options given to obstore replace all of the environment's
    (`AWS_ALLOW_HTTP`, `AWS_PROXY_URL` …), while a timeout among the store's own keys is added to them. Only the
    constructors take it there; `from_url` panics.
    """
    if isinstance(store, (S3Store, GCSStore, AzureStore)):
        keys: Any = {**store.config, "timeout": _REQUEST_TIMEOUT}
        return type(store)(prefix=store.prefix, config=keys)
    if isinstance(store, HTTPStore):  # takes nothing from the environment
        return HTTPStore.from_url(url, client_options={"timeout": _REQUEST_TIMEOUT})
    return store


def _first_line(error: Exception) -> str:
    """Returns what went wrong without obstore's many lines for debugging."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _RangedFile(io.RawIOBase):
    """A read-only file whose every read is one ranged request (obstore's own lacks what pyarrow asks for)."""

    def __init__(self, store: Store, entry: Entry) -> None:
        self._store = store
        self._entry = entry
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        rest = max(0, self._entry.size - self._position)
        size = rest if size is None or size < 0 else min(size, rest)
        if size == 0:
            return b""
        data = self._store.read_range(self._entry, self._position, self._position + size)
        self._position += size
        return data
