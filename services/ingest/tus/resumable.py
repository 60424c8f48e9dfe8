"""Receiving into unfinished uploads: one request at a time each, the newest one wins."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

from libs.common.errors import PermanentError, TransientError
from services.ingest.partfile import Hashed, PartFile
from services.ingest.tus.notes import Note, Notes
from services.ingest.uploads import Limits, Pipe, Turn, disk_error, room_for, timely

ALGORITHMS = ("sha256", "sha1", "md5")  # of the checksum extension
REMEMBERED = 1000  # uploads whose hash is gone on with; others are hashed from the disk at the end

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Checksum:
    """Of one request's body, as announced."""

    algorithm: str
    digest: bytes


@dataclass
class _InHand:
    """An upload that requests of this process are about."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    turn: Turn = field(default_factory=Turn)
    users: int = 0


class Resumable:
    """tus' uploads. `at_once`: requests that may send at the same time."""

    def __init__(self, notes: Notes, limits: Limits, at_once: int) -> None:
        self._notes, self.limits = notes, limits
        self._free = at_once
        self._in_hand: dict[str, _InHand] = {}
        self._hashes: OrderedDict[str, Hashed] = OrderedDict()
        self._pool = ThreadPoolExecutor(2 * max(1, at_once // 4), thread_name_prefix="tus")

    def close(self) -> None:
        """No more of them; what came stays."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def create(self, name: str, length: int, metadata: str, sha256: str | None) -> Note:
        """A new upload. Raises `too_large`, `empty_file`, `storage_full`."""
        if not length:
            raise PermanentError("the file is empty; there is nothing to keep", code="empty_file")
        try:
            room_for(self._notes.uploads, length, self.limits.max_bytes)
            await self._run(self._notes.sweep)
            return await self._run(self._notes.new, name, length, metadata, sha256)
        except OSError as error:
            raise disk_error(error) from error

    async def look(self, id: str) -> tuple[Note, int]:
        """The upload and its offset. Raises `upload_not_found`, `upload_expired`."""
        async with self._alone(id):
            return await self._run(self._notes.read, id)

    async def remove(self, id: str) -> None:
        """Ends the upload; the file of a finished one stays."""
        async with self._alone(id):
            await self._run(self._notes.read, id)
            await self._run(self._notes.forget, id)
            self._hashes.pop(id, None)

    async def append(
        self, id: str, offset: int, chunks: AsyncIterator[bytes], checksum: Checksum | None = None
    ) -> tuple[Note, int]:
        """Writes a body behind `offset`; gives the upload and its offset afterwards.

        What came stays, whatever happens, unless its checksum says that it is wrong. Raises
        `offset_mismatch`, `upload_checksum_mismatch`, `checksum_mismatch`, `too_large`, `timeout`,
        `storage_full`, `locked`, `busy`.
        """
        if self._free <= 0:
            raise TransientError("too many uploads at the same time; try again", code="busy")
        self._free -= 1
        try:
            async with self._alone(id) as turn:
                return await self._append(id, offset, timely(chunks, self.limits, turn), checksum)
        except BlockingIOError as error:
            raise TransientError("another process writes to it", code="locked") from error
        except OSError as error:
            raise disk_error(error) from error
        finally:
            self._free += 1

    @asynccontextmanager
    async def _alone(self, id: str) -> AsyncIterator[Turn]:
        """A request that still waits for bytes has lost its client: who asks now is the one."""
        one = self._in_hand.setdefault(id, _InHand())
        one.users += 1
        one.turn.take_over()
        try:
            async with one.lock:
                one.turn.replaced = False
                yield one.turn
        finally:
            one.users -= 1
            if not one.users:
                del self._in_hand[id]

    async def _append(
        self, id: str, offset: int, chunks: AsyncIterator[bytes], checksum: Checksum | None
    ) -> tuple[Note, int]:
        note, there = await self._run(self._notes.read, id)
        if offset != there:
            raise PermanentError(
                f"Upload-Offset is {offset}, but {there} bytes are here; go on from there",
                code="offset_mismatch",
            )
        if note.done:
            return note, there
        file = await self._run(self._open, id, there)
        try:
            if checksum is None:
                await self._fill(file, note, chunks)
            else:
                await self._fill_checked(file, note, chunks, checksum)
            return await self._came(note, file)
        finally:
            self._remember(id, file)
            await asyncio.shield(self._run(file.close))

    async def _came(self, note: Note, file: PartFile) -> tuple[Note, int]:
        """After a body: finished, or to be gone on with."""
        if file.size < note.length:
            return await self._run(lambda: self._notes.write(note, verified=None)), file.size
        await self._run(file.catch_up)
        await self._run(file.sync)
        if note.sha256 not in (None, file.sha256):
            await self._run(self._notes.forget, note.id)
            raise PermanentError(
                f"the content's SHA-256 is {file.sha256}, announced was {note.sha256}; "
                "begin a new upload",
                code="checksum_mismatch",
            )
        return await self._run(self._notes.finish, note, file), note.length

    async def _fill(self, file: PartFile, note: Note, chunks: AsyncIterator[bytes]) -> None:
        pipe, left = Pipe(file, self._pool), note.length - file.size
        try:
            async for chunk in chunks:
                if pipe.taken + len(chunk) > left:
                    raise PermanentError(
                        f"more than the {note.length} bytes of Upload-Length", code="too_large"
                    )
                await pipe.write(chunk)
        finally:
            await asyncio.shield(pipe.drain())
            await asyncio.shield(pipe.run(file.flush))

    async def _fill_checked(
        self, file: PartFile, note: Note, chunks: AsyncIterator[bytes], checksum: Checksum
    ) -> None:
        """A crash in the middle leaves a note of how far the file is known to be right."""
        start, digest = file.size, hashlib.new(checksum.algorithm, usedforsecurity=False)
        await self._run(lambda: self._notes.write(note, verified=start))

        async def seen() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                digest.update(chunk)
                yield chunk

        try:
            await self._fill(file, note, seen())
        finally:
            if wrong := digest.digest() != checksum.digest:
                await asyncio.shield(self._run(file.truncate, start))
        if wrong:
            raise PermanentError(
                f"the body's {checksum.algorithm} is another than announced; none of it was kept",
                code="upload_checksum_mismatch",
            )

    def _open(self, id: str, size: int) -> PartFile:
        file = PartFile(self._notes.part(id), resume=True, hashed=self._hashes.pop(id, None))
        file.truncate(size)
        return file

    def _remember(self, id: str, file: PartFile) -> None:
        self._hashes[id] = file.hash_so_far
        while len(self._hashes) > REMEMBERED:
            self._hashes.popitem(last=False)

    async def _run(self, call: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)
