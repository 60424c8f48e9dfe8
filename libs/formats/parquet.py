"""Parquet: split by row groups, decoded in batches whose size is known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import (
    Format,
    OnBad,
    Open,
    ReadOptions,
    SourceFile,
    Split,
    TypeConflict,
    Writer,
)
from libs.formats import _keys as keys
from libs.formats._parquet_footer import check_footer, corrupt
from libs.formats._parquet_rows import batches
from libs.formats._parquet_schema import join_exact, plain_schema
from libs.formats._parquet_writer import ParquetWriteOptions, ParquetWriter
from libs.formats._row_bytes import row_bytes


class ParquetOptions(BaseModel):
    """Reader options of parquet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A few kilobytes can declare billions of rows: refuse rather than fill the warehouse.
    max_rows: Annotated[int, Field(gt=0)] = 1_000_000_000


class Parquet:
    """The format parquet."""

    suffixes: tuple[str, ...] = (".parquet", ".pq")
    Options: type[BaseModel] = ParquetOptions
    WriteOptions: type[BaseModel] = ParquetWriteOptions

    def __init__(self, on_bad: OnBad | None = None) -> None:
        self._on_bad = on_bad

    def tolerating(self, on_bad: OnBad) -> Format:
        """Row groups are split from each other: each is good or bad as a whole."""
        return Parquet(on_bad)

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        with _opened(open, file.uri, file.path) as parquet:
            _check_rows(parquet.metadata, file.path, cast(ParquetOptions, options))
            metadata = parquet.metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        begin = size = 0
        for i, more in enumerate(sizes):
            if i > begin and (size + more > target or self._on_bad is not None):
                yield Split(file.uri, file.path, begin, i, size)
                begin, size = i, 0
            size += more
        yield Split(file.uri, file.path, begin, len(sizes), size)

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        del options, limit  # the footer says it all
        with _opened(open, split.uri, split.path) as parquet:
            return plain_schema(parquet.schema_arrow, split.path)

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return join_exact(schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        of = source_id(split.uri)
        with _opened(open, split.uri, split.path) as parquet, open(split.uri) as again:
            own = plain_schema(parquet.schema_arrow, split.path)
            _check_fits(own, how.schema)
            keys.require_columns(how.key, own.names, split.path)
            done = 0
            for batch in _decoded(parquet, again, split):
                columns = {
                    field.name: _cast(column, field, split.path)
                    for field, column in zip(own, batch.columns, strict=True)
                }
                seed = keys.names_seed(sorted(columns))
                made = content = keys.array_digests(row_bytes(columns, batch.num_rows), seed)
                if how.key:
                    made = keys.declared_keys(columns, how.key, _Place(split, done))
                fitted = [_fit(field, columns, batch.num_rows) for field in how.schema]
                yield from keys.with_system_columns(fitted, how.schema, made, content, of)
                done += batch.num_rows

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return ParquetWriter(path, schema, cast(ParquetWriteOptions, options))


def _check_rows(metadata: pq.FileMetaData, path: str, options: ParquetOptions) -> None:
    if metadata.num_rows > options.max_rows:
        raise PermanentError(
            f"{path}: declares {metadata.num_rows:,} rows; at most {options.max_rows:,} are read "
            "(option max_rows)",
            code="too_many_rows",
            path=path,
        )


def _check_fits(own: pa.Schema, schema: pa.Schema) -> None:
    """Raises TypeConflict unless joining the file's own schema would change nothing."""
    if unknown := set(own.names) - set(schema.names):
        raise TypeConflict(min(unknown), "a column that wasn't there before")
    try:
        joined = join_exact([("", schema), ("", own)])
    except PermanentError as wrong:
        raise TypeConflict(wrong.path or "", wrong.detail) from wrong
    for field in own:
        if joined.field(field.name).type != schema.field(field.name).type:
            raise TypeConflict(
                field.name, f"{field.type} doesn't fit {schema.field(field.name).type}"
            )


def _decoded(parquet: pq.ParquetFile, again: BinaryIO, split: Split) -> Iterator[pa.RecordBatch]:
    """Batches; what pyarrow finds wrong while decoding is `corrupt_file`."""

    def reopen(columns: list[str]) -> pq.ParquetFile:
        return pq.ParquetFile(again, metadata=parquet.metadata, read_dictionary=columns)

    decoding = batches(parquet, range(split.start, split.stop), reopen)
    while True:
        try:
            batch = next(decoding, None)
        except (pa.ArrowException, OSError, ValueError, OverflowError) as wrong:
            groups = f"row groups {split.start} to {split.stop - 1}"
            raise corrupt(split.path, f"in {groups}: {wrong}") from wrong
        if batch is None:
            return
        yield batch


def _cast(column: pa.Array, field: pa.Field, path: str) -> pa.Array:
    """Dictionaries and extensions as plain values."""
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as wrong:
        raise PermanentError(
            f"{path}: column {field.name!r} of the type {column.type} can't be read: {wrong}",
            code="unsupported_type",
            path=path,
        ) from wrong


def _fit(field: pa.Field, columns: dict[str, pa.Array], rows: int) -> pa.Array:
    if field.name not in columns:
        return pa.nulls(rows, field.type)
    column = columns[field.name]
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as wrong:
        raise PermanentError(
            f"column {field.name!r}: {column.type} doesn't become {field.type}: {wrong}",
            code="schema_mismatch",
        ) from wrong


@contextmanager
def _opened(open: Open, uri: str, path: str) -> Iterator[pq.ParquetFile]:
    """The file, its footer checked; raises `empty_file`, `corrupt_file`, `unsafe_column_type`."""
    with open(uri) as stream:
        check_footer(stream, path)
        stream.seek(0)
        try:
            parquet = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError, ValueError, OverflowError) as wrong:
            raise corrupt(path, str(wrong)) from wrong
        with parquet:
            yield parquet


class _Place:
    def __init__(self, split: Split, done: int) -> None:
        self._split, self._done = split, done

    def __call__(self, row: int) -> str:
        return f"{self._split.path}: row {self._done + row} from row group {self._split.start} on"


PLUGIN = Parquet()
