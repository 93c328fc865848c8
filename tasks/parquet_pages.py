"""What a parquet file unpacks to, from its page headers: nothing is unpacked, and no sum in the footer is believed.

The footer's sizes are the writer's word, and pyarrow reads a file whatever they say. Of a page it believes one number,
the `uncompressed_page_size` of the page's own header: it allocates exactly that and refuses a page that unpacks to
more. So this is the number to add up. The failure guarded against: 57 kB that claim to be 1 kB, unpack to 2 GB and
take down a worker with every other model on it.

Where the pages are stands in the footer. pyarrow's own view of it ends the process where the footer is damaged, so the
little that is needed is read here, and exactly as pyarrow reads it: else a file could show one list of pages to this
module and another to pyarrow. What no writer writes, and what the two could take differently, is refused. Footer and
page headers are Thrift's compact protocol (apache/thrift, doc/specs); parquet.thrift numbers their fields.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

_TRUE, _FALSE, _I16, _I32, _I64, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 4, 5, 6, 8, 9, 10, 12
_WIDTHS = {_TRUE: 1, _FALSE: 1, 3: 1, 7: 8}  # bytes of an item of a list
_INTEGERS = (_I16, _I32, _I64)
_LONGEST_VARINT = 63  # bits; of a longer number pyarrow would drop the highest
_LAST_FIELD = 2**15 - 1
# Most of what is skipped are numbers, truth values that lie in the field's head, and structs of both: in one step.
_HEADS = {kind: b"".join(re.escape(bytes([step << 4 | kind])) for step in range(1, 16)) for kind in range(1, 13)}
_PLAIN_FIELD = rb"[%b%b%b][\x80-\xff]*+[\x00-\x7f]|[%b%b]" % tuple(_HEADS[kind] for kind in (*_INTEGERS, _TRUE, _FALSE))
_PLAIN_STRUCT = rb"[%b](?:%b)*+\x00" % (_HEADS[_STRUCT], _PLAIN_FIELD)
_PLAIN = re.compile(rb"(?:%b|%b|[%b](?:%b)*+\x00)*+" % (_PLAIN_FIELD, _PLAIN_STRUCT, _HEADS[_STRUCT], _PLAIN_STRUCT))
_TAIL = struct.Struct("<I4s")  # the length of the footer, and the magic
_SMALLEST_PAGE = 50  # bytes that a page counts for at least: millions of empty ones would take seconds
_PADDING = 100  # pyarrow reads so many bytes past a column that an old writer (PARQUET-816) says it wrote

# Which fields are wanted of a struct: numbers of exactly this type (pyarrow passes over others), structs, lists. A list
# that is only passed over is named too: pyarrow knows what its items are, whatever the file says that they are.
_NUMBERS, _TEXTS = "a list of numbers", "a list of texts"
_PASSED: Mapping[int, Any] = {}
_VALUES, _COMPRESSED, _DATA, _DICTIONARY = 5, 7, 9, 11
_COLUMN = {_VALUES: _I64, _COMPRESSED: _I64, _DATA: _I64, _DICTIONARY: _I64} | {
    2: _NUMBERS,  # encodings
    3: _TEXTS,  # the name
    8: [_PASSED],  # key and value
    13: [_PASSED],  # statistics of encodings
    16: {2: _NUMBERS, 3: _NUMBERS},  # statistics of sizes
    17: {2: _NUMBERS},  # statistics of places
}
_COLUMNS, _METADATA, _GROUPS, _ENCRYPTED = 1, 3, 4, 8
_REFUSED = "nothing: encrypted columns cannot be followed"
_GROUP = {_COLUMNS: [{_METADATA: _COLUMN, _ENCRYPTED: _REFUSED}], 4: [_PASSED]}
_FOOTER = {2: [_PASSED], _GROUPS: [_GROUP], 5: [_PASSED], 7: [_PASSED], _ENCRYPTED: _REFUSED}
_PAGE_TYPE, _PAGE_SIZE, _PAGE_COMPRESSED, _PAGE_V1, _PAGE_V2, _PAGE_VALUES = 1, 2, 3, 5, 8, 1
_PAGE = {
    _PAGE_TYPE: _I32,
    _PAGE_SIZE: _I32,
    _PAGE_COMPRESSED: _I32,
    _PAGE_V1: {_PAGE_VALUES: _I32},
    _PAGE_V2: {_PAGE_VALUES: _I32},
}
_COUNTED = {0: _PAGE_V1, 3: _PAGE_V2}  # where a page of data, by its type, says how many values it has
_LARGEST = 2**31 - 1  # of a larger number pyarrow would take the low 32 bits


class DamagedError(ValueError):
    """The footer or a page header is not what parquet prescribes."""


def unpacked_size(data: bytes, limit: int) -> int:
    """Returns to how many bytes a file's columns unpack, or some number above the limit as soon as that is certain.

    Args:
        data: the file's bytes; it must be a parquet file whose footer pyarrow could read.
        limit: above it the exact number no longer matters.

    Raises:
        DamagedError: two columns share bytes, one reaches beyond the file, or a header cannot be read.
    """
    try:
        size, walked = 0, 0
        for column in _columns(data):
            # A run of equal values takes a few bytes however long it is, but each value takes some when unpacked.
            pages, passed = _pages(data, column, limit)
            size, walked = size + max(pages, column[_VALUES]), walked + passed
            if size > limit:
                return size
            if walked > len(data):  # else a footer that names the same pages again and again would take hours
                raise DamagedError("two columns share bytes of the file, or one reaches beyond it")
    except (IndexError, KeyError, RecursionError) as error:
        raise DamagedError("the header of a page cannot be read") from error
    return size


def _columns(data: bytes) -> list[dict[int, Any]]:
    """Returns the wanted fields of every column of every row group."""
    end = len(data) - _TAIL.size
    length, _ = _TAIL.unpack_from(data, end)
    footer, _ = _struct(data[max(0, end - length) : end], 0, _FOOTER)
    return [column[_METADATA] for group in footer[_GROUPS] for column in group[_COLUMNS]]


def _pages(data: bytes, column: Mapping[int, int], limit: int) -> tuple[int, int]:
    """Returns what a column's pages unpack to and how many bytes they take; follows them just as pyarrow does."""
    values, at = column[_VALUES], column[_DATA]
    if 0 < column.get(_DICTIONARY, 0) < at:
        at = column[_DICTIONARY]
    start, end = at, min(at + column[_COMPRESSED] + _PADDING, len(data))
    size, seen = 0, 0
    while seen < values and size <= limit and 0 <= at < end:
        header, at = _struct(data, at, _PAGE)
        counted = _COUNTED.get(header[_PAGE_TYPE])
        found = 0 if counted is None else header[counted][_PAGE_VALUES]
        if min(header[_PAGE_SIZE], header[_PAGE_COMPRESSED], found) < 0 or found > _LARGEST:
            raise DamagedError("the header of a page has an impossible number")
        at += header[_PAGE_COMPRESSED]
        size += max(header[_PAGE_SIZE], _SMALLEST_PAGE)
        seen += found
    return size, at - start


def _struct(data: bytes, at: int, shape: Mapping[int, Any]) -> tuple[dict[int, Any], int]:
    """Reads the struct at a place; returns the fields that its shape names, and the place after it."""
    found: dict[int, Any] = {}
    field = 0
    while head := data[at]:
        at, kind = at + 1, head & 15
        if head > 15:
            field += head >> 4
        else:
            field, at = _number(data, at)
        wanted = shape.get(field)
        if wanted is None:
            at = _after_number(data, at) if kind in _INTEGERS else _skipped(data, at, kind)
            if not 0 < field <= _LAST_FIELD:  # pyarrow would count on from the other end
                raise DamagedError("a field has no possible number")
        elif field in found:  # pyarrow would take the last, or mix them
            raise DamagedError("a field appears twice")
        elif wanted == kind:
            found[field], at = _number(data, at)
        else:
            found[field], at = _compound(data, at, kind, wanted)
    return found, at + 1


def _compound(data: bytes, at: int, kind: int, wanted: Any) -> tuple[Any, int]:
    """Reads a field that is a struct or a list, which must be what its shape says."""
    if kind == _STRUCT and isinstance(wanted, dict):
        return _struct(data, at, wanted)
    if kind != _LIST:
        raise DamagedError("a field is of another type")
    count, item, start = _list_head(data, at)
    if (wanted is _NUMBERS and item in _INTEGERS) or (wanted is _TEXTS and item == _BINARY):
        return None, _skipped(data, at, kind)
    if item != _STRUCT or not isinstance(wanted, list):
        raise DamagedError("a list is of another type")
    if not wanted[0]:
        return None, _skipped(data, at, kind)
    found, at = [], start
    for _ in range(count):
        value, at = _struct(data, at, wanted[0])
        found.append(value)
    return found, at


def _skipped(data: bytes, at: int, kind: int) -> int:
    """Returns the place after a value."""
    if kind == _BINARY:
        length = data[at]
        if length > 127:
            length, at = _varint(data, at)
            at -= 1
        return at + 1 + length
    if kind in _INTEGERS:
        return _after_number(data, at)
    if kind == _STRUCT:
        return _after_struct(data, at)
    if kind in (_LIST, _SET):
        count, item, at = _list_head(data, at)
        if item in _WIDTHS:
            return at + count * _WIDTHS[item]
        skipped = _after_struct if item == _STRUCT else _after_number if item in _INTEGERS else None
        for _ in range(count):
            at = skipped(data, at) if skipped else _skipped(data, at, item)
        return at
    if kind not in _WIDTHS:  # maps among them: no header of parquet has one
        raise DamagedError("a field is of an unknown type")
    return at if kind in (_TRUE, _FALSE) else at + _WIDTHS[kind]


def _after_struct(data: bytes, at: int) -> int:
    """Returns the place after a struct of which nothing is wanted."""
    while True:
        plain = _PLAIN.match(data, at)
        at = plain.end() if plain else at
        head = data[at]
        if head == 0:
            return at + 1
        at += 1
        if head < 16:
            _, at = _number(data, at)
        at = _skipped(data, at, head & 15)


def _after_number(data: bytes, at: int) -> int:
    while data[at] > 127:
        at += 1
    return at + 1


def _list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Returns a list's length, the type of its items, and the place of the first."""
    head = data[at]
    if head < 0xF0:
        return head >> 4, head & 15, at + 1
    count, at = _varint(data, at + 1)
    return count, head & 15, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    number = data[at]
    at += 1
    if number > 127:
        number, at = _varint(data, at - 1)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Reads a number of seven bits a byte, the lowest first."""
    number, shift = data[at], 7
    if number < 128:
        return number, at + 1
    number &= 127
    while shift < _LONGEST_VARINT:
        at += 1
        byte = data[at]
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at + 1
        shift += 7
    raise DamagedError("a number is too long")
