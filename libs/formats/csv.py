"""CSV (RFC 4180 and its relatives): cut and parsed as text, then typed and keyed by us."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import pyarrow as pa
from pydantic import BaseModel

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import (
    BadRecord,
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
from libs.formats import _types as types
from libs.formats._blocks import Planner
from libs.formats._csv_dialect import CsvOptions, dialect_of
from libs.formats._csv_records import CsvSource, Records
from libs.formats._csv_writer import CsvWriteOptions, CsvWriter
from libs.formats._encodings import splittable


class Csv:
    """The format csv."""

    suffixes: tuple[str, ...] = (".csv", ".tsv")
    Options: type[BaseModel] = CsvOptions
    WriteOptions: type[BaseModel] = CsvWriteOptions

    def __init__(self, on_bad: OnBad | None = None) -> None:
        self._on_bad = on_bad

    def tolerating(self, on_bad: OnBad) -> Format:
        return Csv(on_bad)

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        how = cast(CsvOptions, options)
        if file.size == 0:
            raise PermanentError(
                f"{file.path}: the file is empty", code="empty_file", path=file.path
            )
        if file.size <= target or not splittable(how.encoding):
            return [Split(file.uri, file.path, 0, file.size, file.size)]
        dialect = dialect_of(open, file.uri, file.path, how)
        if self._on_bad is not None and how.quote:  # a stray quote would turn all that follow
            whole = Split(file.uri, file.path, 0, file.size, file.size)
            return CsvSource.of(whole, open, how, _nobody).splits(target)
        planner = Planner(file, target, how.rules, how.max_record_bytes, dialect.body)
        return planner.splits(open)

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        source = CsvSource.of(split, open, cast(CsvOptions, options), self._on_bad)
        fields = {name: pa.field(name, pa.null()) for name in source.dialect.names}
        done = 0
        for part in source.records(limit):
            for name, field in fields.items():
                found = types.infer_column(name, part.values(name))
                fields[name] = types.join_fields(field, found)
            done += part.size
            if limit is not None and done >= limit:
                break
        return pa.schema(list(fields.values()))

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return types.join_text_schemas(schema for _, schema in schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        source = CsvSource.of(split, open, cast(CsvOptions, how.options), self._on_bad)
        if unknown := set(source.dialect.names) - set(how.schema.names):
            raise TypeConflict(min(unknown), "a column that wasn't there before")
        keys.require_columns(how.key, source.dialect.names, split.path)
        of = source_id(split.uri)
        for part in source.records():
            content = part.digests()
            rows = content
            if how.key:
                texts = {name: part.texts(name) for name in how.key}
                rows = keys.declared_keys(texts, how.key, part.place)
            columns = [_column(part, field) for field in how.schema]
            yield from keys.with_system_columns(columns, how.schema, rows, content, of)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return CsvWriter(path, schema, cast(CsvWriteOptions, options))


def _nobody(record: BadRecord) -> None:
    """Bad records are told when they are read."""


def _column(part: Records, field: pa.Field) -> pa.Array:
    if field.name not in part.cells:
        return pa.nulls(part.rows, field.type)
    if field.type == pa.string():
        return part.texts(field.name)
    return types.convert(field.name, part.values(field.name), field.type)


PLUGIN = Csv()
