"""Rows, orders and a watch for tests of destinations, without a warehouse or a bus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from libs.formats import SYSTEM_FIELDS, user_schema
from services.sink.destinations import Access, Order, Receipt
from services.sink.destinations.local import PLUGIN


@dataclass
class TableRows:
    """Rows from memory."""

    table: pa.Table
    batch_rows: int = 1000
    schema: pa.Schema = field(init=False)
    user_schema: pa.Schema = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.schema = self.table.schema
        self.user_schema = user_schema(self.schema)
        self.rows = self.table.num_rows

    def batches(self, *, system: bool = False, batch_bytes: int = 0) -> Iterator[pa.RecordBatch]:
        schema = self.schema if system else self.user_schema
        yield from self.table.select(schema.names).to_batches(self.batch_rows)


@dataclass
class Eye:
    """A watch that lets everything pass, unless a test says otherwise."""

    on_wrote: Callable[[], None] = lambda: None
    on_fence: Callable[[], None] = lambda: None
    versions: set[tuple[int, str]] = field(default_factory=set)
    rows: int = 0
    fences: int = 0

    def wrote(self, rows: int, bytes: int, files: int = 0) -> None:
        self.rows += rows
        self.on_wrote()

    def fence(self) -> None:
        self.fences += 1
        self.on_fence()

    def is_version(self, number: int, made_by: str) -> bool:
        return (number, made_by) in self.versions


def numbered(rows: int, version: int = 1) -> TableRows:
    """Rows that each say which version they are of, with system columns."""
    return TableRows(
        pa.table(
            {
                "n": pa.array(range(rows), pa.int64()),
                "version": pa.array([version] * rows, pa.int64()),
                "_row": pa.array([n.to_bytes(16, "big") for n in range(rows)], pa.binary(16)),
                "_hash": pa.array([n.to_bytes(8, "big") for n in range(rows)], pa.binary(8)),
                "_source": pa.array([7] * rows, pa.int64()),
            },
            schema=pa.schema([("n", pa.int64()), ("version", pa.int64()), *SYSTEM_FIELDS]),
        )
    )


def order(url: str | Path, version: int = 1, **changes: object) -> Order:
    """Version `version` of default/fruit, made and delivered by its own run."""
    fields: dict[str, object] = {
        "dataset": "default/fruit",
        "run": f"run-{version}",
        "attempt": 1,
        "version": version,
        "made_by": f"run-{version}",
        "url": str(url),
        "format": "parquet",
    }
    return Order(**(fields | changes))  # type: ignore[arg-type]


def deliver(what: Order, rows: TableRows, root: Path, eye: Eye | None = None) -> Receipt:
    """As the sink does, below `root`."""
    return PLUGIN.deliver(what, rows, Access(roots=(root,)), eye or Eye())
