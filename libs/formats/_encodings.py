"""Text files that aren't UTF-8: by block where bytes stay bytes, as one stream where not."""

from __future__ import annotations

import codecs
from io import BufferedReader, RawIOBase
from typing import BinaryIO

from libs.common.errors import PermanentError
from libs.formats import Open
from libs.formats._blocks import lines_in

CHUNK = 1 << 18


def splittable(encoding: str) -> bool:
    """Whether each byte is a character and the ASCII bytes are ASCII: cut first, decode later."""
    return encoding in ("utf-8", "ascii") or encoding.startswith(("iso8859", "cp125", "koi8"))


def transcoded(data: bytes, encoding: str) -> bytes:
    """A block as UTF-8, which a stream of `utf8_open` already is; raises UnicodeDecodeError."""
    same = encoding in ("utf-8", "ascii") or not splittable(encoding)
    return data if same else data.decode(encoding).encode()


def utf8_open(open: Open, encoding: str, path: str) -> Open:
    """`open`, but the files appear as UTF-8 without a byte order mark; seeks go forward only."""
    if splittable(encoding):
        return open
    return lambda uri: BufferedReader(_Utf8Stream(open(uri), encoding, path), CHUNK)


class _Utf8Stream(RawIOBase):
    def __init__(self, file: BinaryIO, encoding: str, path: str) -> None:
        super().__init__()
        self._file, self._path, self._encoding = file, path, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""
        self._at = 0  # position in the UTF-8 text
        self._raw = 0  # bytes of the file read so far
        self._line = 1
        self._last = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 1:
            offset += self._at
        if whence == 2 or offset < self._at:
            raise OSError("a transcoded file is read from its start on")
        while self._at < offset and self.read(min(offset - self._at, CHUNK)):
            pass
        return self._at

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._last:
            self._fill()
        n = min(len(into), len(self._ready))
        into[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        self._at += n
        return n

    def _fill(self) -> None:
        raw = self._file.read(CHUNK)
        self._last = not raw
        try:
            text = self._decoder.decode(raw, final=self._last)
        except UnicodeDecodeError as wrong:
            where = f"{self._path}:{self._line}"
            raise PermanentError(
                f"{where}: not {self._encoding} near byte {self._raw + wrong.start:,}: "
                f"{wrong.reason}; set the option encoding to what the file is written in",
                code="parse_error", path=where,
            ) from wrong  # fmt: skip
        self._raw += len(raw)
        if self._at == 0:
            text = text.removeprefix("\ufeff")
        self._ready = text.encode("utf-8", "surrogatepass")
        self._line += lines_in(self._ready)

    def close(self) -> None:
        self._file.close()
        super().close()
