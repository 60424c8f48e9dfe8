"""Files kept by their content beside the uploads: written once, hashed while they are written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.common.errors import TransientError
from libs.stores import SourceInfo
from libs.stores._paths import to_uri
from libs.stores.upload import upload_path
from services.ingest.partfile import BUFFER, INCOMING, NO_SPACE, PartFile


@dataclass(frozen=True)
class Kept:
    """One file in the store."""

    sha256: str
    size: int  # bytes


class Content:
    """The folder that uploads are in, too. Blocks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, sha256: str, size: int) -> Kept | None:
        """The file, if it is there in full."""
        path = upload_path(self.folder, sha256)
        try:
            there = path.stat().st_size == size
        except FileNotFoundError:
            return None
        return Kept(sha256, size) if there else None

    def info(self, kept: Kept, path: str, mtime: float = 0.0) -> SourceInfo:
        """As an inventory names it; `path` is what it was called where it came from."""
        uri = to_uri(upload_path(self.folder, kept.sha256).resolve())
        return SourceInfo(uri, path, kept.size, mtime=mtime, sha256=kept.sha256)

    @contextmanager
    def receive(self) -> Iterator[Spool]:
        """A file to write; it stays only by `keep`.

        Raises TransientError `storage_full`, `storage_failed`.
        """
        with ThreadPoolExecutor(2, thread_name_prefix="copy") as pool:
            spool = Spool(self.folder, pool)
            try:
                yield spool
            except OSError as error:
                raise _disk(error) from error
            finally:
                spool.end()


class Spool:
    """A buffer fills while the one before it is hashed and written."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._root, self._pool = folder, pool
        self._file = PartFile(folder / INCOMING / f"{secrets.token_hex(16)}.part")
        self._buffer = bytearray()
        self._busy: tuple[Future[None], ...] = ()

    def write(self, block: bytes | memoryview) -> None:
        """Takes the bytes; waits while the disk is a buffer behind."""
        self._buffer += block
        if len(self._buffer) >= BUFFER:
            self._hand_over()

    def restart(self) -> None:
        """Everything that came is void."""
        self._settle()
        self._buffer.clear()
        self._file.truncate(0)

    def keep(self) -> Kept:
        """The whole is here, durably."""
        self._hand_over()
        self._settle()
        self._file.sync()
        return Kept(self._file.keep(self._root), self._file.size)

    def end(self) -> None:
        """Nothing is left of what wasn't kept."""
        for one in self._busy:
            one.exception()
        self._file.remove()

    def _hand_over(self) -> None:
        self._settle()
        full, self._buffer = self._buffer, bytearray()
        if full:
            works = (self._file.hash, self._file.put)
            self._busy = tuple(self._pool.submit(work, full) for work in works)

    def _settle(self) -> None:
        busy, self._busy = self._busy, ()
        for one in busy:
            one.result()


def _disk(error: OSError) -> TransientError:
    code = "storage_full" if error.errno in NO_SPACE else "storage_failed"
    return TransientError(f"a copy can't be kept: {error.strerror or error}", code=code)
