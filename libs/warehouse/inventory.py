"""The inventory of a run: the table of its source files, streamed to and from parquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from libs.common.ids import source_id

SCHEMA = pa.schema(
    [
        pa.field("source", pa.int64()),
        pa.field("uri", pa.string()),
        pa.field("path", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("version_id", pa.string()),
        pa.field("mtime", pa.float64()),
        pa.field("sha256", pa.string()),
    ]
)
BATCH = 10_000  # files held in memory at a time


@dataclass(frozen=True)
class InventoryFile:
    """One source file, pinned: the state that this run reads."""

    uri: str
    path: str  # below the source's root
    size: int  # bytes
    etag: str = ""
    version_id: str = ""
    mtime: float = 0.0  # seconds since the epoch
    sha256: str = ""  # where we copied the file

    @property
    def source(self) -> int:
        """What rows of this file carry in `_source`."""
        return source_id(self.uri)

    def state(self) -> str:
        """What has to be the same for the file to count as unchanged."""
        return self.sha256 or "\0".join((str(self.size), self.etag, self.version_id))


@dataclass(frozen=True)
class Summary:
    """What a whole inventory comes to; kept in the table's metadata."""

    digest: str  # of every file's uri and state, in order
    files: int
    bytes: int
    type: str = ""  # where the files decided how they are read


class InventoryWriter:
    """Context manager; the table appears at its path when it is complete, not before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_suffix(".part")
        self._pending: list[InventoryFile] = []
        self._digest = xxhash.xxh3_128()
        self.files = 0
        self.bytes = 0
        self.type = ""

    @property
    def digest(self) -> str:
        """Of every file's uri and state, in the order added: list in a stable order."""
        return self._digest.hexdigest()

    def add(self, file: InventoryFile) -> None:
        self._digest.update(f"{file.uri}\0{file.state()}\n".encode())
        self.files += 1
        self.bytes += file.size
        self._pending.append(file)
        if len(self._pending) >= BATCH:
            self._flush()

    def __enter__(self) -> InventoryWriter:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._part, SCHEMA, compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
            counted = {"digest": self.digest, "files": str(self.files), "bytes": str(self.bytes)}
            self._writer.add_key_value_metadata({**counted, "type": self.type})
        self._writer.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def _flush(self) -> None:
        rows = [{"source": f.source, **vars(f)} for f in self._pending]  # asdict copies deeply
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        self._pending.clear()


def read_inventory(path: Path) -> Iterator[InventoryFile]:
    """The files of an inventory, a batch in memory at a time."""
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(BATCH):
            for row in batch.to_pylist():
                row.pop("source")
                yield InventoryFile(**row)


def read_summary(path: Path) -> Summary:
    """Of a complete inventory, without reading its rows."""
    found = pq.read_metadata(path).metadata or {}
    files, size, kind = int(found[b"files"]), int(found[b"bytes"]), found.get(b"type", b"")
    return Summary(found[b"digest"].decode(), files, size, kind.decode())
