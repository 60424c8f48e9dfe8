"""What a parquet file's footer says, read before any Arrow type is made from it.

Opening a file with pyarrow makes the extension types that its Arrow schema names, and types that a
library has registered may run code then. So their names are read here first, without pyarrow.
Formats: parquet.apache.org (footer), Thrift compact protocol (key-value metadata), Arrow's
Message.fbs and Schema.fbs (flatbuffers).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import BinaryIO

from libs.common.errors import PermanentError

MAGIC = b"PAR1"
MAX_FOOTER = 256 << 20
ARROW_SCHEMA = b"ARROW:schema"
EXTENSION_NAME = b"ARROW:extension:name"
# Types that are plain values under a name: read as their storage.
SAFE_EXTENSIONS = frozenset(
    {
        "arrow.uuid", "arrow.json", "arrow.bool8", "arrow.fixed_shape_tensor",
        "arrow.variable_shape_tensor", "geoarrow.wkb", "geoarrow.wkt",
    }
)  # fmt: skip


def corrupt(path: str, detail: str) -> PermanentError:
    """The error of a file that isn't what its name says."""
    return PermanentError(
        f"{path}: not a readable parquet file: {detail}", code="corrupt_file", path=path
    )


def check_footer(stream: BinaryIO, path: str) -> None:
    """Raises `corrupt_file`, or `unsafe_column_type` for extension types that aren't allowed."""
    for name in extension_names(_footer(stream, path), path):
        if name not in SAFE_EXTENSIONS:
            raise PermanentError(
                f"{path}: a column has the extension type {name!r}, which may run code when read; "
                f"allowed: {', '.join(sorted(SAFE_EXTENSIONS))}; write it as plain values",
                code="unsafe_column_type",
                path=path,
            )


def _footer(stream: BinaryIO, path: str) -> bytes:
    size = stream.seek(0, 2)
    if size == 0:
        raise PermanentError(f"{path}: the file is empty", code="empty_file", path=path)
    if size < 12:
        raise corrupt(path, f"{size} bytes are too few")
    stream.seek(0)
    head = stream.read(4)
    stream.seek(size - 8)
    tail = stream.read(8)
    if head != MAGIC or tail[4:] != MAGIC:
        raise corrupt(path, f"it begins with {head!r} and ends with {tail[4:]!r}, not {MAGIC!r}")
    length = int.from_bytes(tail[:4], "little")
    if length > size - 12:
        raise corrupt(path, f"a footer of {length:,} bytes in a file of {size:,}: cut off?")
    if length > MAX_FOOTER:
        raise corrupt(path, f"a footer of {length:,} bytes; at most {MAX_FOOTER:,} are read")
    stream.seek(size - 8 - length)
    return stream.read(length)


def extension_names(footer: bytes, path: str) -> list[str]:
    """Names of the extension types in every Arrow schema that the footer carries."""
    names: list[str] = []
    at = footer.find(ARROW_SCHEMA)
    while at >= 0:
        at += len(ARROW_SCHEMA)
        try:
            names += _names(_thrift_value(footer, at))
        except (ValueError, IndexError, struct.error, RecursionError) as wrong:
            raise corrupt(path, f"its Arrow schema can't be read: {wrong}") from wrong
        at = footer.find(ARROW_SCHEMA, at)
    return names


def _thrift_value(footer: bytes, at: int) -> bytes:
    """The string field that follows a key: header 0x18, length as varint, bytes."""
    if footer[at] != 0x18:
        raise ValueError("no value after its key")
    length = shift = 0
    while True:
        at += 1
        length |= (footer[at] & 0x7F) << shift
        shift += 7
        if footer[at] < 0x80:
            break
        if shift > 35:
            raise ValueError("an absurd length")
    if at + 1 + length > len(footer):
        raise ValueError("its value is cut off")
    return base64.b64decode(footer[at + 1 : at + 1 + length], validate=True)


def _names(message: bytes) -> Iterator[str]:
    """Extension names of an encapsulated IPC schema message."""
    begin = 8 if message[:4] == b"\xff\xff\xff\xff" else 4
    table = _Table.root(message[begin:])
    schema = table.table(2)  # Message.header
    for field in schema.tables(1) if schema else ():  # Schema.fields
        yield from _field_names(field, 0)


def _field_names(field: _Table, depth: int) -> Iterator[str]:
    if depth > 64:
        raise ValueError("types nested too deep")
    for pair in field.tables(6):  # Field.custom_metadata
        if pair.string(0) == EXTENSION_NAME:
            yield pair.string(1).decode("utf-8", "replace")
    for child in field.tables(5):  # Field.children
        yield from _field_names(child, depth + 1)


class _Table:
    """A flatbuffers table: fields are found through its vtable."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - struct.unpack_from("<i", data, at)[0]
        if self._vtable < 0:
            raise ValueError("a table without vtable")
        self._size = struct.unpack_from("<H", data, self._vtable)[0]

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _place(self, field: int) -> int:
        """Where the offset of a field stands; 0: absent."""
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        offset = int(struct.unpack_from("<H", self._data, self._vtable + entry)[0])
        return self._at + offset if offset else 0

    def _target(self, place: int) -> int:
        return place + int(struct.unpack_from("<I", self._data, place)[0])

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self._data, self._target(place)) if place else None

    def tables(self, field: int) -> Iterator[_Table]:
        if not (place := self._place(field)):
            return
        start = self._target(place)
        count = struct.unpack_from("<I", self._data, start)[0]
        if start + 4 + 4 * count > len(self._data):
            raise ValueError("a vector beyond the end")
        for i in range(count):
            yield _Table(self._data, self._target(start + 4 + 4 * i))

    def string(self, field: int) -> bytes:
        if not (place := self._place(field)):
            return b""
        start = self._target(place)
        length = struct.unpack_from("<I", self._data, start)[0]
        return self._data[start + 4 : start + 4 + length]
