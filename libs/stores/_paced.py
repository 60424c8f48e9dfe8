"""A connection that can't be dragged out: patience, a least rate, a deadline at each read."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from libs.common.errors import TransientError

Clock = Callable[[], float]


@dataclass
class Pace:
    """How long a source may be waited for. Only waiting counts, not what is done with the bytes."""

    what: str  # is named in errors
    patience: float  # seconds without a byte
    rate: int  # bytes a second, looked at over every `patience` seconds of waiting; 0: any
    deadline: float  # of the clock
    clock: Clock = time.monotonic
    _waited: float = field(init=False, default=0.0)
    _came: int = field(init=False, default=0)

    def left(self) -> float:
        """Seconds that the next wait may take; raises TransientError `too_slow`."""
        left = self.deadline - self.clock()
        if left <= 0:
            self._refuse("it took longer than ONEBLOCK_HTTP_SECONDS allows")
        return min(self.patience, left)

    def add(self, count: int, waited: float) -> None:
        """Bytes that came after a wait; a rate is looked at where there was time to see one."""
        self._came += count
        self._waited += waited
        if self._waited < self.patience:
            return
        if self._came < self.rate * self._waited:
            least = f"{self.rate:,} are the least (ONEBLOCK_READ_MIN_RATE)"
            self._refuse(f"{self._came / self._waited:,.0f} bytes a second is too slow; {least}")
        self._waited, self._came = 0.0, 0

    def _refuse(self, why: str) -> NoReturn:
        raise TransientError(f"{self.what}: {why}", code="too_slow")


class PacedSocket:
    """What http.client needs of a socket; `close` is the owner's `end`."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self._sock, self._pace = sock, pace

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._pace.left())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._pace), 1 << 16)

    def close(self) -> None:
        """http.client closes before the body is read."""

    def end(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self._sock, self._pace = sock, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        self._sock.settimeout(self._pace.left())
        begun = self._pace.clock()
        try:
            count = self._sock.recv_into(buffer)  # type: ignore[arg-type]
        except TimeoutError:
            self._pace.left()  # `too_slow` rather than silence, where the whole time is up
            raise
        self._pace.add(count, self._pace.clock() - begun)
        return count
