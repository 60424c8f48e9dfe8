"""Opens members of archives: windows where they lie open, files that have no name where not."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import BinaryIO, cast

from libs.stores import _zip
from libs.stores._archives import Address, Limits
from libs.stores._compressed import READERS, expanded

IN_MEMORY = 8 << 20  # bytes up to which an expanded member is held in memory
KEPT = 2  # larger ones that a process keeps on the disk for the next split of the same member
BUFFER = 1 << 16

_kept: OrderedDict[str, BinaryIO] = OrderedDict()
_lock = threading.Lock()


def open_member(
    address: Address, key: str, outer: Callable[[], BinaryIO], limits: Limits
) -> BinaryIO:
    """A seekable file; `key` names the member in this state of its archive."""
    if address.how == "tar":
        offset, size = address.numbers
        return _window(outer(), offset, size)
    if address.how == "zip":
        header, _, size, _, method = address.numbers
        if method == _zip.STORED:
            file = outer()
            return _window(file, _zip.data_offset(file, header, address.outer), size)
        return _expanded(
            key, size, outer, lambda file: _zip.inflated(file, address.numbers, address.outer)
        )
    if address.how in READERS:
        how, name = address.how, address.outer
        return _expanded(
            key, address.numbers[0], outer, lambda file: expanded(file, how, name, limits)
        )
    raise ValueError(f"no way to open {address.how!r}")


def _expanded(
    key: str,
    size: int,
    outer: Callable[[], BinaryIO],
    parts: Callable[[BinaryIO], Iterable[bytes]],
) -> BinaryIO:
    if size <= IN_MEMORY:
        with outer() as file:
            return io.BytesIO(b"".join(parts(file)))
    with _lock:
        found = _kept.pop(key, None)
        if found is None:
            with outer() as file:
                found = _spread(parts(file))
        _kept[key] = found
        while len(_kept) > KEPT:
            _kept.popitem(last=False)  # closed when the last reader lets go of it
    return cast(BinaryIO, io.BufferedReader(_Shared(found), BUFFER))


def _spread(parts: Iterable[bytes]) -> BinaryIO:
    """Into a file without a name, which is gone with its process."""
    made = cast(BinaryIO, tempfile.TemporaryFile(buffering=0, prefix="oneblock-"))  # noqa: SIM115
    try:
        for part in parts:
            made.write(part)
    except BaseException:
        made.close()
        raise
    return made


def _window(file: BinaryIO, offset: int, size: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Window(file, offset, size), BUFFER))


class _Placed(io.RawIOBase):
    """Read only, with a position of its own."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object, /) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        target = target[: max(0, min(len(target), self._size - self._at))]
        count = self._read(target, self._at) if len(target) else 0
        self._at += count
        return count

    def _read(self, target: memoryview, at: int) -> int:
        raise NotImplementedError


class _Window(_Placed):
    """A part of a file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__(size)
        self._file, self._offset = file, offset

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _read(self, target: memoryview, at: int) -> int:
        self._file.seek(self._offset + at)
        found = self._file.read(len(target))
        target[: len(found)] = found
        return len(found)


class _Shared(_Placed):
    """A file that several have open, each at its own place."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(os.fstat(file.fileno()).st_size)
        self._file = file  # held, so that it stays open

    def _read(self, target: memoryview, at: int) -> int:
        return os.preadv(self._file.fileno(), [target], at)
