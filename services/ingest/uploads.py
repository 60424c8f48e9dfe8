"""Receiving a file: hashed while it is written, once, beside its place, then moved there.

Memory: one buffer fills from the network while the one before it is hashed and written in threads.
What a killed process left is removed.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVarTuple

import structlog

from libs.common.errors import OneBlockError, PermanentError, TransientError
from services.ingest.partfile import PartFile, abandoned

BUFFER = 4 * 1024 * 1024  # bytes handed to the disk at a time
INCOMING = ".incoming"
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
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
            self._room_for(declared or 0)
            async with aclosing(_Part(self._folder / INCOMING, self._pool)) as part:
                await self._fill(part, chunks)
                self._check(part, declared, sha256)
                return await part.keep(self._folder)
        except OSError as error:
            raise _disk_error(error) from error
        finally:
            self._free += 1

    def sweep(self) -> int:
        """Removes what killed processes left; returns how many files."""
        incoming = self._folder / INCOMING
        return sum(_removed(left) for left in incoming.glob("*.part")) if incoming.is_dir() else 0

    def _room_for(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise _too_large(self._limits.max_bytes)
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise TransientError(
                f"{size} bytes were announced, {free} are free; make room and try again",
                code="storage_full",
            )

    async def _fill(self, part: _Part, chunks: AsyncIterator[bytes]) -> None:
        began, limits = time.monotonic(), self._limits
        source = aiter(chunks)
        while True:
            try:
                async with asyncio.timeout(limits.idle):
                    chunk = await anext(source)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise _too_slow(f"no byte came for {limits.idle:g} s") from error
            await part.write(chunk)
            if part.size > limits.max_bytes:
                raise _too_large(limits.max_bytes)
            took = time.monotonic() - began
            if took > limits.idle and part.size < took * limits.min_rate:
                raise _too_slow(f"fewer than {limits.min_rate} bytes came per second")
        await part.finish()

    def _check(self, part: _Part, declared: int | None, sha256: str | None) -> None:
        if declared is not None and part.size != declared:
            raise PermanentError(
                f"{declared} bytes were announced, {part.size} came", code="content_length"
            )
        if not part.size:
            raise PermanentError("the file is empty; there is nothing to keep", code="empty_file")
        if sha256 is not None and part.sha256 != sha256:
            raise PermanentError(
                f"the content's SHA-256 is {part.sha256}, announced was {sha256}; send it again",
                code="checksum_mismatch",
            )


class _Part:
    """One file on its way in."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.size = 0
        self._path, self._pool = folder / f"{secrets.token_hex(16)}.part", pool
        self._buffer = bytearray()
        self._busy: asyncio.Future[tuple[None, None]] | None = None
        self._file: PartFile | None = None

    @property
    def sha256(self) -> str:
        return self._file.sha256 if self._file else ""

    async def write(self, chunk: bytes) -> None:
        """Takes the bytes; waits while the disk is a buffer behind."""
        self.size += len(chunk)
        self._buffer += chunk
        if len(self._buffer) >= BUFFER:
            await self._hand_over()

    async def finish(self) -> None:
        """Everything hashed and on the disk."""
        await self._hand_over()
        await self._settle()
        if self._file is not None:
            await self._run(self._file.sync)

    async def keep(self, root: Path) -> Stored:
        """Into its place by its content."""
        assert self._file is not None
        await self._run(self._file.keep, root)
        return Stored(self.sha256, self.size)

    async def aclose(self) -> None:
        """Whatever happened, the part file is gone."""
        with suppress(OSError, OneBlockError):
            await asyncio.shield(self._settle())
        if self._file is not None:
            self._file.remove()

    async def _hand_over(self) -> None:
        await self._settle()
        full, self._buffer = self._buffer, bytearray()
        if full:
            file = self._file = self._file or PartFile(self._path)
            self._busy = asyncio.gather(self._run(file.hash, full), self._run(file.put, full))

    async def _settle(self) -> None:
        """Waits for the buffer that is being written."""
        busy, self._busy = self._busy, None
        if busy is not None:
            await asyncio.wait([busy])
            busy.result()

    async def _run(self, call: Callable[[*Ts], object], *arguments: *Ts) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)


def _removed(left: Path) -> bool:
    """Removes a part file unless the process that writes it lives."""
    if not abandoned(left):
        return False
    left.unlink(missing_ok=True)
    log.info("upload_leftover_removed", file=left.name)
    return True


def _too_large(limit: int) -> PermanentError:
    return PermanentError(
        f"an upload may have {limit} bytes at most (ONEBLOCK_MAX_UPLOAD_BYTES)", code="too_large"
    )


def _too_slow(why: str) -> PermanentError:
    return PermanentError(f"the upload is too slow: {why}", code="timeout")


def _disk_error(error: OSError) -> TransientError:
    if error.errno in NO_SPACE:
        return TransientError("no space left for the upload; make room", code="storage_full")
    return TransientError(f"the upload can't be stored: {error.strerror}", code="storage_failed")
