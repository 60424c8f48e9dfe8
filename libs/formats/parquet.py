"""Parquet: split by row groups, decoded in small batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import Open, ReadOptions, SourceFile, Split, TypeConflict, Writer
from libs.formats import _keys as keys
from libs.formats._parquet_schema import join_exact, plain_schema
from libs.formats._row_bytes import row_bytes

ROWS = 1 << 16
GROUP_BYTES = 64 << 20


class ParquetOptions(BaseModel):
    """Reader options of parquet: none so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ParquetWriteOptions(BaseModel):
    """Writer options of parquet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compression: str = "zstd"


class Parquet:
    """The format parquet."""

    suffixes = (".parquet",)
    Options = ParquetOptions
    WriteOptions = ParquetWriteOptions

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        with _opened(open, file.uri, file.path) as parquet:
            sizes = [
                parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups)
            ]
        start = size = 0
        for i, more in enumerate(sizes):
            if i > start and size + more > target:
                yield Split(file.uri, file.path, start, i, size)
                start, size = i, 0
            size += more
        yield Split(file.uri, file.path, start, len(sizes), size)

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        with _opened(open, split.uri, split.path) as parquet:
            return plain_schema(parquet.schema_arrow, split.path)

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return join_exact(schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        source = source_id(split.uri)
        with _opened(open, split.uri, split.path) as parquet:
            own = plain_schema(parquet.schema_arrow, split.path)
            groups = list(range(split.start, split.stop))
            for batch in parquet.iter_batches(ROWS, row_groups=groups, use_threads=False):
                columns = {
                    f.name: c if c.type == f.type else c.cast(f.type)
                    for f, c in zip(own, batch.columns, strict=True)
                }
                content = keys.digests(row_bytes(columns), keys.names_seed(columns))
                rows = content
                if how.key:
                    rows = keys.declared_keys(columns, how.key, lambda _: split.path)
                fitted = _fitted(columns, how.schema, batch.num_rows)
                yield from keys.with_system_columns(fitted, how.schema, rows, content, source)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return ParquetWriter(path, schema, cast(ParquetWriteOptions, options))


def _fitted(columns: dict[str, pa.Array], schema: pa.Schema, rows: int) -> list[pa.Array]:
    for name in columns:
        if schema.get_field_index(name) < 0:
            raise TypeConflict(name, "a column that wasn't there before")
    return [
        _fit(f, columns[f.name]) if f.name in columns else pa.nulls(rows, f.type) for f in schema
    ]


def _fit(field: pa.Field, column: pa.Array) -> pa.Array:
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as wrong:
        raise TypeConflict(field.name, str(wrong)) from wrong


@contextmanager
def _opened(open: Open, uri: str, path: str) -> Iterator[pq.ParquetFile]:
    with open(uri) as stream:
        try:
            with pq.ParquetFile(stream) as parquet:
                yield parquet
        except (pa.ArrowException, OSError) as wrong:
            raise PermanentError(
                f"{path}: not a readable parquet file: {wrong}", code="corrupt_file", path=path
            ) from wrong


class ParquetWriter:
    """Collects batches into row groups of a sensible size."""

    def __init__(self, path: str, schema: pa.Schema, options: ParquetWriteOptions) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression=options.compression)
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        if sum(b.nbytes for b in self._waiting) >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._writer.write_table(table, row_group_size=max(len(table), 1))
        self._waiting = []


PLUGIN = Parquet()
