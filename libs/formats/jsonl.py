"""JSON Lines: one object per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import orjson
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import Open, ReadOptions, SourceFile, Split, TypeConflict, Writer
from libs.formats import _keys as keys
from libs.formats._blocks import Block, Rules, blocks, line_of, plan
from libs.formats._json_types import Json, column_of, infer_rows, join_json_schemas

ROWS = 1 << 16


class JsonlOptions(BaseModel):
    """Reader options of jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_record_bytes: int = 64 << 20


class JsonlWriteOptions(BaseModel):
    """Writer options of jsonl: none so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Jsonl:
    """The format jsonl."""

    suffixes = (".jsonl", ".ndjson")
    Options = JsonlOptions
    WriteOptions = JsonlWriteOptions

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        if file.size == 0:
            raise PermanentError(f"{file.path}: the file is empty", code="empty_file")
        return plan(file, target, open, Rules())

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        done, schemas = 0, []
        for block, rows in _parsed(split, open, cast(JsonlOptions, options)):
            schemas.append(infer_rows(rows))
            done += len(block.data)
            if limit is not None and done >= limit:
                break
        return join_json_schemas(schemas)

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return join_json_schemas(schema for _, schema in schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        source = source_id(split.uri)
        known = set(how.schema.names)
        for _, rows in _parsed(split, open, cast(JsonlOptions, how.options)):
            for name in set().union(*rows) - known:
                raise TypeConflict(str(name), "a field that wasn't there before")
            content = keys.digests(orjson.dumps(r, option=orjson.OPT_SORT_KEYS) for r in rows)
            columns = [column_of(f, [row.get(f.name) for row in rows]) for f in how.schema]
            named = dict(zip(how.schema.names, columns, strict=True))
            made = keys.declared_keys(named, how.key, split.path) if how.key else content
            batch = keys.with_system_columns(columns, how.schema, made, content, source)
            for at in range(0, batch.num_rows, ROWS):
                yield batch.slice(at, ROWS)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return JsonlWriter(path)


def _parsed(
    split: Split, open: Open, options: JsonlOptions
) -> Iterator[tuple[Block, list[dict[str, Json]]]]:
    with open(split.uri) as stream:
        for block in blocks(
            stream, split.start, split.stop, Rules(), options.max_record_bytes, split.path
        ):
            yield block, list(_rows(block, split, open))


def _rows(block: Block, split: Split, open: Open) -> Iterator[dict[str, Json]]:
    at = block.offset
    for line in block.data.split(b"\n"):
        text = line.removeprefix(b"\xef\xbb\xbf") if at == 0 else line
        if text.strip():
            try:
                row = orjson.loads(text)
            except orjson.JSONDecodeError as wrong:
                raise _error(split, open, at, f"not JSON: {wrong}") from wrong
            if not isinstance(row, dict):
                raise _error(split, open, at, "not a JSON object")
            yield row
        at += len(line) + 1


def _error(split: Split, open: Open, at: int, detail: str) -> PermanentError:
    where = f"{split.path}:{line_of(open, split.uri, at)}"
    return PermanentError(f"{where}: {detail}", code="parse_error", path=where)


class JsonlWriter:
    """Writes one object per row."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")  # noqa: SIM115,PTH123

    def write(self, batch: pa.RecordBatch) -> None:
        lines = [orjson.dumps(row, default=str) for row in batch.to_pylist()]
        self._file.write(b"".join(line + b"\n" for line in lines))

    def close(self) -> None:
        self._file.close()


PLUGIN = Jsonl()
