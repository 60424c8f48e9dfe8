"""Receiving a file: hashed while it is written, once, beside its place, then moved there.

Memory: one buffer fills from the network while the one before it is hashed and written in threads.
What a killed process left is removed.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog

from libs.common.errors import OneBlockError, PermanentError, TransientError
from services.ingest.partfile import BUFFER, INCOMING, NO_SPACE, PartFile, abandoned

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
log = structlog.get_logger()


@dataclass(frozen=True)
class Limits:
    """What one upload may take."""

    max_bytes: int
    idle: float  # seconds without a byte
    min_rate: int  # bytes per second on average, after the first `idle` seconds


@dataclass(frozen=True)
class Stored:
    """A file that is there, whole and durable."""

    sha256: str
    size: int


class Uploads:
    """The folder of uploads. Doing one twice is harmless: same content, same place."""

    def __init__(self, folder: Path, limits: Limits, at_once: int) -> None:
        self._folder = folder
        self._limits = limits
        self._free = at_once
        self._pool = ThreadPoolExecutor(2 * max(1, at_once // 4), thread_name_prefix="upload")

    def close(self) -> None:
        """No more uploads; those that were cut off left nothing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def receive(
        self,
        chunks: AsyncIterator[bytes],
        declared: int | None = None,
        sha256: str | None = None,
    ) -> Stored:
        """Store a body. `declared` size and `sha256` (hex) are what the sender says, if it does.

        Raises too_large, empty_file, checksum_mismatch, content_length, timeout, storage_full,
        busy; whatever it raises, nothing is left behind.
        """
        if self._free <= 0:
            raise TransientError("too many uploads at the same time; try again", code="busy")
        self._free -= 1
        try:
            room_for(self._folder, declared or 0, self._limits.max_bytes)
            return await self._receive(chunks, declared, sha256)
        except OSError as error:
            raise disk_error(error) from error
        finally:
            self._free += 1

    async def _receive(
        self, chunks: AsyncIterator[bytes], declared: int | None, sha256: str | None
    ) -> Stored:
        path = self._folder / INCOMING / f"{secrets.token_hex(16)}.part"
        pipe = Pipe(PartFile(path), self._pool)
        try:
            await self._fill(pipe, chunks)
            _check(pipe.file, declared, sha256)
            await pipe.run(pipe.file.keep, self._folder)
            return Stored(pipe.file.sha256, pipe.file.size)
        finally:
            with suppress(OSError, OneBlockError):
                await asyncio.shield(pipe.settle())
            pipe.file.remove()

    def sweep(self) -> int:
        """Removes what killed processes left; returns how many files."""
        incoming = self._folder / INCOMING
        return sum(_removed(left) for left in incoming.glob("*.part")) if incoming.is_dir() else 0

    async def _fill(self, pipe: Pipe, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in timely(chunks, self._limits):
            await pipe.write(chunk)
            if pipe.taken > self._limits.max_bytes:
                raise too_large(self._limits.max_bytes)
        await pipe.drain()
        await pipe.run(pipe.file.sync)


def room_for(folder: Path, size: int, limit: int) -> None:
    """Raises PermanentError `too_large`, TransientError `storage_full`."""
    if size > limit:
        raise too_large(limit)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise TransientError(
            f"{size} bytes were announced, {free} are free; make room and try again",
            code="storage_full",
        )


@dataclass
class Turn:
    """Who sends now; a newer request may take over while bytes are waited for."""

    waiting: asyncio.Timeout | None = None
    replaced: bool = False

    def take_over(self) -> None:
        self.replaced = True
        if self.waiting is not None:
            self.waiting.reschedule(0)


async def timely(
    chunks: AsyncIterator[bytes], limits: Limits, turn: Turn | None = None
) -> AsyncIterator[bytes]:
    """The chunks while they come fast enough; raises PermanentError `timeout`, `conflict`."""
    turn = turn or Turn()
    began, came, source = time.monotonic(), 0, aiter(chunks)
    while True:
        try:
            async with asyncio.timeout(limits.idle) as turn.waiting:
                chunk = await anext(source)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            if turn.replaced:
                raise _replaced() from error
            raise _too_slow(f"no byte came for {limits.idle:g} s") from error
        finally:
            turn.waiting = None
        came += len(chunk)
        yield chunk
        if turn.replaced:
            raise _replaced()
        took = time.monotonic() - began
        if took > limits.idle and came < took * limits.min_rate:
            raise _too_slow(f"fewer than {limits.min_rate} bytes came per second")


def _check(file: PartFile, declared: int | None, sha256: str | None) -> None:
    if declared is not None and file.size != declared:
        raise PermanentError(
            f"{declared} bytes were announced, {file.size} came", code="content_length"
        )
    if not file.size:
        raise PermanentError("the file is empty; there is nothing to keep", code="empty_file")
    if sha256 is not None and file.sha256 != sha256:
        raise PermanentError(
            f"the content's SHA-256 is {file.sha256}, announced was {sha256}; send it again",
            code="checksum_mismatch",
        )


class Pipe:
    """Into a part file: a buffer fills while the one before it is hashed and written in threads."""

    def __init__(self, file: PartFile, pool: ThreadPoolExecutor) -> None:
        self.file = file
        self._pool = pool
        self.taken = 0  # bytes, whether written yet or not
        self._buffer = bytearray()
        self._busy: asyncio.Future[list[None]] | None = None

    async def write(self, chunk: bytes) -> None:
        """Takes the bytes; waits while the disk is a buffer behind."""
        self.taken += len(chunk)
        self._buffer += chunk
        if len(self._buffer) >= BUFFER:
            await self._hand_over()

    async def drain(self) -> None:
        """Everything written and hashed."""
        await self._hand_over()
        await self.settle()

    async def settle(self) -> None:
        """Waits for the buffer that is being written."""
        busy, self._busy = self._busy, None
        if busy is not None:
            await asyncio.wait([busy])
            busy.result()

    async def run(self, call: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """In one of the pool's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    async def _hand_over(self) -> None:
        await self.settle()
        full, self._buffer = self._buffer, bytearray()
        if full:
            in_order = self.file.hashed == self.file.size  # else it catches up at the end
            works = (self.file.put, self.file.hash) if in_order else (self.file.put,)
            self._busy = asyncio.gather(*(self.run(work, full) for work in works))


def _removed(left: Path) -> bool:
    """Removes a part file unless the process that writes it lives."""
    if not abandoned(left):
        return False
    left.unlink(missing_ok=True)
    log.info("upload_leftover_removed", file=left.name)
    return True


def too_large(limit: int) -> PermanentError:
    return PermanentError(
        f"an upload may have {limit} bytes at most (ONEBLOCK_MAX_UPLOAD_BYTES)", code="too_large"
    )


def _replaced() -> PermanentError:
    return PermanentError("a newer request took over", code="conflict")


def _too_slow(why: str) -> PermanentError:
    return PermanentError(f"the upload is too slow: {why}", code="timeout")


def disk_error(error: OSError) -> TransientError:
    if error.errno in NO_SPACE:
        return TransientError("no space left for the upload; make room", code="storage_full")
    return TransientError(f"the upload can't be stored: {error.strerror}", code="storage_failed")
