"""JSON Lines (jsonlines.org): one object per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, cast

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import Open, ReadOptions, SourceFile, Split, TypeConflict, Writer
from libs.formats import _keys as keys
from libs.formats._blocks import BLOCK, Block, Planner, Rules, blocks, line_of
from libs.formats._json_types import (
    Json,
    column_of,
    infer_fields,
    join_fields,
    join_json_schemas,
    key_column,
)
from libs.formats._json_values import BrokenLine, canonical, objects
from libs.formats._json_writer import JsonlWriteOptions, JsonlWriter


class JsonlOptions(BaseModel):
    """Reader options of jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_record_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 64 << 20


class Jsonl:
    """The format jsonl."""

    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")
    Options: type[BaseModel] = JsonlOptions
    WriteOptions: type[BaseModel] = JsonlWriteOptions

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        if file.size == 0:
            raise PermanentError(
                f"{file.path}: the file is empty", code="empty_file", path=file.path
            )
        limit = cast(JsonlOptions, options).max_record_bytes
        return Planner(file, target, Rules(), limit).splits(open)

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        fields: dict[str, pa.Field] = {}
        done = 0
        for block, rows in _parsed(split, open, cast(JsonlOptions, options), limit):
            join_fields(fields, infer_fields(rows))
            done += len(block.data)
            if limit is not None and done >= limit:
                break
        return pa.schema(list(fields.values()))

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return join_json_schemas(schema for _, schema in schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        known = set(how.schema.names)
        of = source_id(split.uri)
        keys.require_columns(how.key, how.schema.names, split.path)
        for block, rows in _parsed(split, open, cast(JsonlOptions, how.options)):
            if unknown := set().union(*rows) - known:
                raise TypeConflict(min(unknown), "a field that wasn't there before")
            content = made = keys.digests(canonical(row) for row in rows)
            columns = [column_of(f, [row.get(f.name) for row in rows]) for f in how.schema]
            if how.key:
                texts = {name: key_column(name, [r.get(name) for r in rows]) for name in how.key}
                made = keys.declared_keys(texts, how.key, _Place(split, open, block))
            yield from keys.with_system_columns(columns, how.schema, made, content, of)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return JsonlWriter(path, schema)


def _parsed(
    split: Split, open: Open, options: JsonlOptions, limit: int | None = None
) -> Iterator[tuple[Block, list[dict[str, Json]]]]:
    """Each block's objects; raises `parse_error` with file, line and column."""
    size = min(limit or BLOCK, BLOCK)
    most = options.max_record_bytes
    with open(split.uri) as stream:
        for block in blocks(stream, split.start, split.stop, Rules(), most, split.path, size):
            try:
                rows = objects(block.data, first=block.offset == 0)
            except BrokenLine as wrong:
                where = f"{split.path}:{line_of(open, split.uri, block.offset + wrong.offset)}"
                raise PermanentError(f"{where}: {wrong}", code="parse_error", path=where) from wrong
            if rows:
                yield block, rows


class _Place:
    """Where a row of a block stands: blank lines are no rows."""

    def __init__(self, split: Split, open: Open, block: Block) -> None:
        self._split, self._open, self._block = split, open, block

    def __call__(self, row: int) -> str:
        lines = self._block.data.split(b"\n")
        filled = [i for i, line in enumerate(lines) if line.strip()]
        first = line_of(self._open, self._split.uri, self._block.offset)
        return f"{self._split.path}:{first + filled[row]}"


PLUGIN = Jsonl()
