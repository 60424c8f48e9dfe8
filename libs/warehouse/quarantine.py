"""The quarantine of a run: what couldn't be read of its files, why, and the bytes to repair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # below the source's root
        pa.field("code", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),  # bytes [start, stop) of the file …
        pa.field("stop", pa.int64()),  # … null: to its end
        pa.field("line", pa.int64()),
        pa.field("whole", pa.bool_(), nullable=False),  # no record: the file, or a piece of it …
        pa.field("size", pa.int64(), nullable=False),  # … of so many bytes
        pa.field("bytes", pa.binary(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),  # there was more than `bytes`
    ]
)
KEPT = 64 << 10  # bytes of one item
KEPT_OF_PART = 8 << 20  # bytes of all items of one part
BATCH = 1024  # items held in memory at a time


@dataclass(frozen=True)
class Item:
    """One bad record, file, or piece of a file."""

    uri: str
    path: str
    code: str
    detail: str
    start: int = 0
    stop: int | None = None
    line: int | None = None
    whole: bool = False
    size: int = 0
    bytes: bytes = b""
    truncated: bool = False


@dataclass(frozen=True)
class Counts:
    """What a quarantine comes to; a file, or a piece of it, counts as one row."""

    rows: int = 0
    files: int = 0  # of which more than single records are missing …
    bytes: int = 0  # … which are so many bytes


def quarantine_of(run_dir: str, attempt: int) -> str:
    """Where an attempt's quarantine is, below the warehouse; no other attempt touches it."""
    return f"{run_dir}/quarantine-{attempt}.parquet"


def shortened(data: bytes, kept: int) -> tuple[bytes, bool]:
    """The bytes to keep where `kept` others are kept already, and whether some are missing."""
    room = max(min(KEPT, KEPT_OF_PART - kept), 0)
    return data[:room], len(data) > room


def write_part(path: Path, items: Iterable[Item]) -> None:
    """What one task found; complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        waiting: list[dict[str, object]] = []
        for item in items:
            waiting.append(vars(item))
            if len(waiting) == BATCH:
                writer.write_table(pa.Table.from_pylist(waiting, SCHEMA))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, SCHEMA))
    part.replace(path)


def gather(parts: Iterable[Path], path: Path) -> Counts:
    """The parts as one table at `path`, in this order."""
    rows, size, files = 0, 0, set[str]()
    part = path.with_suffix(".part")
    with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        for found in parts:
            with pq.ParquetFile(found) as table:
                for batch in table.iter_batches(BATCH):
                    rows += batch.num_rows
                    size += sum(batch["size"].to_pylist())
                    files.update(batch.filter(batch["whole"])["uri"].to_pylist())
                    writer.write_batch(batch)
    part.replace(path)
    return Counts(rows, len(files), size)


def read_items(path: Path, offset: int = 0, limit: int | None = None) -> Iterator[Item]:
    """The items from number `offset` on, a batch in memory at a time."""
    with pq.ParquetFile(path) as table:
        groups = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        for group, rows in enumerate(groups):
            if offset >= rows:
                offset -= rows
                continue
            for batch in table.iter_batches(BATCH, row_groups=[group]):
                fresh = batch.slice(offset)
                offset = max(offset - batch.num_rows, 0)
                if limit is not None:
                    fresh = fresh.slice(0, limit)
                    limit -= fresh.num_rows
                for row in fresh.to_pylist():
                    yield Item(**row)
                if limit == 0:
                    return
