"""The compressed streams that TensorFlow writes: GZIP and ZLIB around a whole file."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO, Literal

Compression = Literal["auto", "none", "gzip", "zlib"]

PIECE = 1 << 18  # compressed bytes that are read at once
AUTO_BITS = 47  # zlib finds out whether it is gzip or zlib
WRITE_BITS = {"gzip": 31, "zlib": 15}
RATIO, FREE = 500, 256 << 20  # made of read, once more than FREE bytes were made


class BrokenStream(ValueError):
    """Compressed data that can't be read on."""


def looks_compressed(head: bytes) -> bool:
    """Whether a file that begins so may be gzip or zlib."""
    if head[:2] == b"\x1f\x8b":
        return True
    return len(head) > 1 and head[0] & 15 == 8 and int.from_bytes(head[:2], "big") % 31 == 0


class Inflated(io.RawIOBase):
    """Reads what a compressed stream holds, with bounded memory; gzip members one after another."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inner = zlib.decompressobj(AUTO_BITS)
        self._waiting = b""
        self._came = self._made = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; nothing at the end. Raises BrokenStream."""
        while True:
            if not self._waiting:
                self._waiting = self._stream.read(PIECE)
                self._came += len(self._waiting)
                if not self._waiting:
                    return self._end()
            if self._inner.eof:
                self._inner = zlib.decompressobj(AUTO_BITS)
            if piece := self._piece(size):
                return piece

    def _piece(self, size: int) -> bytes:
        try:
            piece = self._inner.decompress(self._waiting, max(size, 1))
        except zlib.error as wrong:
            raise BrokenStream(f"the compressed data is broken: {wrong}") from wrong
        self._waiting = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
        self._made += len(piece)
        if self._made > FREE and self._made > RATIO * self._came:
            raise BrokenStream(
                f"the compressed data grows to more than {RATIO} times its size; "
                "decompress the file if it is right"
            )
        return piece

    def _end(self) -> bytes:
        rest = self._inner.flush() if not self._inner.eof else b""
        if rest:
            return rest
        if self._came and not self._inner.eof:
            raise BrokenStream("the compressed data ends early")
        return b""


class Deflating(io.RawIOBase):
    """Compresses into a file; `close` finishes it."""

    def __init__(self, stream: BinaryIO, kind: str) -> None:
        self._stream = stream
        self._inner = zlib.compressobj(wbits=WRITE_BITS[kind])

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._stream.write(self._inner.compress(data))
        return len(data)

    def close(self) -> None:
        if not self._stream.closed:
            self._stream.write(self._inner.flush())
            self._stream.close()
        super().close()
