"""Files through which tasks hand rows to each other: Arrow IPC, one per task, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from services.transform.tasks import Chunk, Slice


class ExchangeFile:
    """Context manager; the file is there whole or not at all, so a task may run twice."""

    def __init__(self, stage: str, segment: int, number: int) -> None:
        self._path = Path(stage) / f"{segment}-{number}.arrow"
        self._part = self._path.with_suffix(".part")
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self.chunks: list[Chunk] = []

    def add(self, partition: int, batch: pa.RecordBatch) -> None:
        """One chunk; all have the same schema."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pa.ipc.new_file(self._part, batch.schema)
        self._writer.write_batch(batch)
        self.chunks.append(
            Chunk(
                path=str(self._path),
                chunk=len(self.chunks),
                partition=partition,
                rows=batch.num_rows,
            )
        )

    def __enter__(self) -> ExchangeFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is None:
            return
        self._writer.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


def read_slices(slices: Sequence[Slice]) -> Iterator[pa.RecordBatch]:
    """The rows of these slices in order; one file is open at a time."""
    for path, found in groupby(slices, key=lambda s: s.path):
        with pa.memory_map(path) as file:
            reader = pa.ipc.open_file(file)
            for part in found:
                batch = reader.get_batch(part.chunk)
                yield batch.slice(part.start, part.stop - part.start)
