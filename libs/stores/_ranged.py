"""A seekable file over ranges of bytes that lie elsewhere: whole reads, with others under way.

Who reads on from where the last read ended gets pieces that grow up to 4 MiB, and soon the next
ones are fetched while these are worked on. Who jumps gets about what was asked for.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from libs.common.errors import PermanentError

Fetch = Callable[
    [int, int], bytes | bytearray
]  # start, stop → exactly these bytes; from any thread

PIECE = 4 << 20  # the most that is asked for at once
SMALL = 64 << 10  # the least, since a round trip costs as much
AHEAD = 3  # pieces under way beside the one that is read: at most 16 MiB a file


class RangedFile(io.BufferedIOBase):
    """Read only. `read(n)` gives n bytes unless the file ends; not to be shared by threads."""

    def __init__(
        self, fetch: Fetch, size: int, name: str, close: Callable[[], None] | None = None
    ) -> None:
        self.name, self.size = name, size
        self._fetch, self._close = fetch, close
        self._at = 0
        self._piece: bytes | bytearray = b""
        self._begin = 0  # where in the file this piece begins
        self._coming: deque[tuple[int, int, Future[bytes | bytearray]]] = deque()  # what follows it
        self._step = SMALL

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        self._check_open()
        left = max(0, self.size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        stop = self._at + wanted
        parts = []
        while self._at < stop:
            parts.append(self._here(stop))
            self._at += len(parts[-1])
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(SMALL if size < 0 else size)

    def readinto(self, buffer: object, /) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        found = self.read(len(target))
        target[: len(found)] = found
        return len(found)

    def peek(self, _size: int = 0, /) -> bytes:
        """What the next read begins with; not empty before the end."""
        self._check_open()
        if self._at >= self.size:
            return b""
        self._here(self._at + 1)
        begin = self._at - self._begin
        return bytes(self._piece[begin : begin + SMALL])

    def close(self) -> None:
        if not self.closed:
            self._drop()
            self._piece = b""
            if self._close is not None:
                self._close()
        super().close()

    def _here(self, stop: int) -> memoryview:
        """Bytes from the present position on, at least one, at most up to `stop`."""
        end = self._begin + len(self._piece)
        if not self._begin <= self._at < end:
            self._move(stop, onward=self._at == end and self._begin < end)
        return memoryview(self._piece)[self._at - self._begin : stop - self._begin]

    def _move(self, stop: int, *, onward: bool) -> None:
        if onward:
            self._step = min(PIECE, 2 * self._step)
        else:
            self._drop()
            self._step = SMALL
        self._step = min(PIECE, max(self._step, stop - self._at))
        if not self._coming:
            self._ask(self._at)
        self._look_ahead(stop, eager=onward and self._step == PIECE)
        begin, end, coming = self._coming.popleft()
        piece = coming.result()
        if len(piece) != end - begin:
            raise PermanentError(
                f"{self.name}: {len(piece)} bytes where {end - begin} were asked for",
                code="source_unreadable",
            )
        self._piece, self._begin = piece, begin

    def _look_ahead(self, stop: int, *, eager: bool) -> None:
        """Asks for what follows: all that this read wants, and more for who reads on."""
        while len(self._coming) <= AHEAD:
            end = self._coming[-1][1]
            if end >= self.size or (end >= stop and not eager):
                return
            self._ask(end)

    def _ask(self, start: int) -> None:
        stop = min(self.size, start + self._step)
        if self._coming or self._step == PIECE:
            self._coming.append((start, stop, threads().submit(self._fetch, start, stop)))
            return
        alone: Future[bytes | bytearray] = Future()
        alone.set_result(self._fetch(start, stop))
        self._coming.append((start, stop, alone))

    def _drop(self) -> None:
        for _, _, coming in self._coming:
            coming.cancel()
        self._coming.clear()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")


def threads() -> ThreadPoolExecutor:
    """Of this process, for requests that are waited for."""
    return _threads(os.getpid())  # a forked process needs its own


@cache
def _threads(_process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4 * (AHEAD + 1), thread_name_prefix="oneblock-stores")
