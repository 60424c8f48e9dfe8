"""One version as part files of a sensible size, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import pyarrow as pa
from pydantic import BaseModel

from libs.formats import Format, Writer
from services.sink.contents import DeliveredFile

SLICES = 4  # a part is written in at least so many pieces, so that it ends near its size


class Parts:
    """Writes batches into `folder`; a context manager that leaves no file open.

    A part ends when its file has `size` bytes. Parts that are many carry `tag` in their names, so
    that a reader who knows the names of one delivery never opens a file of another by them; the
    only part of a small delivery is always `part-00000`, so that its path stays.
    """

    def __init__(
        self, folder: Path, format: Format, options: BaseModel, schema: pa.Schema, *, size: int
    ) -> None:
        self._folder = folder
        self._format = format
        self._options = options
        self._schema = schema
        self._size = size
        self._writer: Writer | None = None
        self._rows = 0  # of the open part
        self._done: list[Future[DeliveredFile]] = []
        self._finisher = ThreadPoolExecutor(1, "sink-parts")  # hashes one while the next is written

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._writer is not None:
            self._abandon(self._writer)
        self._finisher.shutdown(wait=True, cancel_futures=True)

    def write(self, batch: pa.RecordBatch, wrote: Callable[[int, int, int], None]) -> None:
        """Appends rows; `wrote` hears rows, bytes in memory and parts finished."""
        for piece in pieces(batch, self._size):
            writer = self._writer or self._open()
            writer.write(piece)
            self._rows += piece.num_rows
            full = self._path().stat().st_size >= self._size
            if full:
                self._close(writer)
            wrote(piece.num_rows, piece.nbytes, int(full))

    def finish(self, tag: str) -> tuple[DeliveredFile, ...]:
        """Closes the last part and says what was written; no rows at all still make one part."""
        if self._writer is not None or not self._done:
            self._close(self._writer or self._open())
        files = [done.result() for done in self._done]
        return tuple(files) if len(files) == 1 else tuple(self._tagged(f, tag) for f in files)

    def _path(self) -> Path:
        return self._folder / f"part-{len(self._done):05}{self._format.suffixes[0]}"

    def _open(self) -> Writer:
        self._writer = self._format.writer(str(self._path()), self._schema, self._options)
        self._rows = 0
        return self._writer

    def _close(self, writer: Writer) -> None:
        self._writer = None
        path, rows = self._path(), self._rows
        writer.close()
        if self._done:
            self._done[-1].result()  # one at a time, and its error now rather than at the end
        self._done.append(self._finisher.submit(seal, path, rows))

    def _abandon(self, writer: Writer) -> None:
        try:
            writer.close()
        except Exception:
            return  # what brought us here is the error to tell

    def _tagged(self, file: DeliveredFile, tag: str) -> DeliveredFile:
        old = self._folder / file.path
        new = old.with_name(f"{old.stem}-{tag}{old.suffix}")
        old.rename(new)
        return file.model_copy(update={"path": new.name})


def pieces(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    """The batch in slices of at most a quarter of a part, but at least a row."""
    most = max(1, size // SLICES)
    rows = max(1, min(batch.num_rows, batch.num_rows * most // max(1, batch.nbytes)))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def seal(path: Path, rows: int) -> DeliveredFile:
    """Flushes a finished part to disk and takes its checksum."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    return DeliveredFile(path=path.name, rows=rows, bytes=size, sha256=digest)
