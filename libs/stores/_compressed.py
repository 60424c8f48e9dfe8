"""Compressed files, expanded block by block within limits; one layer, several streams in a row."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

from libs.stores._archives import Limits, corrupt

BLOCK = 1 << 20
MEMORY = 128 << 20  # bytes that a dictionary of xz may take

FORMATS = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)  # how broken ones are told


class _Reading(Protocol):
    def read(self, size: int, /) -> bytes: ...


def expanded(file: BinaryIO, compression: str, name: str, limits: Limits) -> Iterator[bytes]:
    """What is in a compressed file, up to 1 MiB at a time.

    Raises PermanentError `corrupt_file`, `decompression_limit`.
    """
    source = _Counting(file)
    reader = READERS[compression](source)
    made = 0
    while True:
        try:
            block = reader.read(BLOCK)
        except FORMATS as error:
            if source.failed is error:  # the store's own trouble
                raise
            raise corrupt(name, f"broken {compression}, or none: {error}") from error
        if not block:
            break
        made += len(block)
        limits.check(name, made, source.count)
        yield block
    if not source.count:
        raise corrupt(name, f"an empty file is no {compression}")


class _Counting:
    """Counts what is read, and knows which errors are the file's own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0
        self.failed: Exception | None = None
        self.closed = False

    def read(self, size: int = BLOCK) -> bytes:
        try:
            found = self._file.read(size)
        except Exception as error:
            self.failed = error
            raise
        self.count += len(found)
        return found

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """The file is its owner's."""


class _Streams:
    """bz2 and xz: one stream after the other."""

    def __init__(self, source: _Counting, make: Callable[[], _Decompressor]) -> None:
        self._source, self._make = source, make
        self._now = make()

    def read(self, size: int) -> bytes:
        while True:
            if self._now.eof:
                rest = self._now.unused_data or self._source.read()
                if not rest.strip(b"\0"):  # xz pads with zeros
                    return b""
                self._now = self._make()
            else:
                rest = self._source.read() if self._now.needs_input else b""
                if self._now.needs_input and not rest:
                    raise EOFError("it ends in the middle")
            if found := self._now.decompress(rest, size):
                return found


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def _gzip(source: _Counting) -> _Reading:
    return gzip.GzipFile(fileobj=cast(BinaryIO, source), mode="rb")


def _bz2(source: _Counting) -> _Reading:
    return _Streams(source, bz2.BZ2Decompressor)


def _xz(source: _Counting) -> _Reading:
    return _Streams(source, lambda: lzma.LZMADecompressor(memlimit=MEMORY))


def _zstd(source: _Counting) -> _Reading:
    import pyarrow as pa  # heavy: only where it is needed

    found: _Reading = pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd")
    return found


READERS: dict[str, Callable[[_Counting], _Reading]] = {
    "gz": _gzip,
    "bz2": _bz2,
    "xz": _xz,
    "zst": _zstd,
}
