"""One version as files below a folder: parts, or a file per row for formats written so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pyarrow as pa
from pydantic import BaseModel

from libs.common.errors import PermanentError
from libs.formats import FileFormat, Format, TreeWriter
from services.sink.contents import DeliveredFile
from services.sink.destinations import Rows
from services.sink.options import FileOptions
from services.sink.parts import Parts, pieces

Wrote = Callable[[int, int, int], None]  # rows, bytes in memory, files finished
PIECE = 1 << 20  # bytes between two looks at whether work must stop
BATCH_BYTES = 2 << 20  # the reader has four times as much in flight


class Trees:
    """Has the face of Parts; names come from the rows, so they need no tag."""

    def __init__(self, writer: TreeWriter) -> None:
        self._writer = writer
        self._files: list[DeliveredFile] = []

    def __enter__(self) -> Trees:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No file is open between two calls."""

    def write(self, batch: pa.RecordBatch, wrote: Wrote) -> None:
        """Writes rows, which have their system columns."""
        for piece in pieces(batch, PIECE):
            done = [
                DeliveredFile.model_construct(path=f.path, rows=1, bytes=f.size, sha256=f.sha256)
                for f in self._writer.write(piece)
            ]
            self._files += done
            wrote(piece.num_rows, piece.nbytes, len(done))

    def finish(self, tag: str) -> tuple[DeliveredFile, ...]:
        """Everything on disk for good: one flush of all is much less than one of each."""
        del tag
        os.sync()
        return tuple(self._files)


def write_rows(
    folder: Path,
    format: Format,
    options: tuple[FileOptions, BaseModel],
    rows: Rows,
    wrote: Wrote,
    tag: str,
) -> tuple[DeliveredFile, ...]:
    """All rows as files below `folder`; `options` are ours and the format's."""
    ours, theirs = options
    trees = _trees(folder, format, options, rows)
    schema = rows.schema if ours.systemColumns else rows.user_schema
    with trees or Parts(folder, format, theirs, schema, size=ours.partSize) as out:
        system = ours.systemColumns or trees is not None
        for batch in rows.batches(system=system, batch_bytes=BATCH_BYTES):
            out.write(batch, wrote)
        return out.finish(tag)


def _trees(
    folder: Path, format: Format, options: tuple[FileOptions, BaseModel], rows: Rows
) -> Trees | None:
    ours, theirs = options
    if not isinstance(format, FileFormat):
        return None
    writer = format.tree(str(folder), rows.schema, theirs, rows.rows)
    if writer is not None and ours.systemColumns:
        raise PermanentError(
            "files of a row each have no place for system columns; leave systemColumns out, or "
            "choose a format: parquet, jsonl and tfrecords hold every column",
            code="inexpressible",
        )
    return None if writer is None else Trees(writer)
