"""JSON Lines (jsonlines.org): one object per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Annotated, BinaryIO, cast

import orjson
import pyarrow as pa
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
from libs.formats._blocks import BLOCK, Block, Planner, Rules, blocks, line_of
from libs.formats._json_types import (
    column_of,
    infer_fields,
    join_fields,
    join_json_schemas,
    key_column,
)
from libs.formats._json_values import BrokenLine, Json, canonical, objects
from libs.formats._json_writer import JsonlWriteOptions, JsonlWriter
from libs.formats._salvage import Teller, lines_of_fair_size

SIZE = BLOCK >> 2  # objects of a block: Python's, and in the cache only if they are few
OBJECTS = 512  # of a block at least, up to some megabytes


class JsonlOptions(BaseModel):
    """Reader options of jsonl."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_record_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 64 << 20


class Jsonl:
    """The format jsonl."""

    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")
    Options: type[BaseModel] = JsonlOptions
    WriteOptions: type[BaseModel] = JsonlWriteOptions

    def __init__(self, on_bad: OnBad | None = None) -> None:
        self._on_bad = on_bad

    def tolerating(self, on_bad: OnBad) -> Format:
        return Jsonl(on_bad)

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
        for block, rows in self._parsed(split, open, cast(JsonlOptions, options), limit):
            join_fields(fields, infer_fields(rows))
            done += len(block.data)
            if limit is not None and done >= limit:
                break
        return pa.schema(list(fields.values()))

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return join_json_schemas(schema for _, schema in schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        return keys.gathered(self._read(split, open, how))

    def _read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        of = source_id(split.uri)
        keys.refuse_reserved(how.schema.names, split.path)
        keys.require_columns(how.key, how.schema.names, split.path)
        for block, rows in self._parsed(split, open, cast(JsonlOptions, how.options)):
            place = _Place(split, open, block)
            values = _by_name(rows, how.schema.names)
            columns = [column_of(field, values[field.name]) for field in how.schema]
            content = made = _digests(rows, place)
            if how.key:
                texts = {name: key_column(values[name]) for name in how.key}
                made = keys.declared_keys(texts, how.key, place)
            yield from keys.with_system_columns(columns, how.schema, made, content, of)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        del options  # there are none
        return JsonlWriter(path, schema)

    def _parsed(
        self, split: Split, open: Open, options: JsonlOptions, limit: int | None = None
    ) -> Iterator[tuple[Block, list[dict[str, Json]]]]:
        """Each block's objects; tells bad lines, or raises `parse_error` with file and line."""
        tell = Teller(split, open, self._on_bad) if self._on_bad is not None else None
        with open(split.uri) as stream:
            for block in _blocks(stream, split, options.max_record_bytes, limit, tell):
                try:
                    rows = objects(block.data, first=block.offset == 0)
                except BrokenLine as wrong:
                    if tell is None:
                        raise _parse_error(split, open, block, wrong) from wrong
                    block, rows = _salvaged(block, tell)
                if rows:
                    yield block, rows


def _parse_error(split: Split, open: Open, block: Block, wrong: BrokenLine) -> PermanentError:
    where = f"{split.path}:{line_of(open, split.uri, block.offset + wrong.offset)}"
    return PermanentError(f"{where}: {wrong}", code="parse_error", path=where)


def _salvaged(block: Block, tell: Teller) -> tuple[Block, list[dict[str, Json]]]:
    """The block with its broken lines blank, and the objects of the others."""
    lines, rows, at = block.data.split(b"\n"), list[dict[str, Json]](), 0
    for i, line in enumerate(lines):
        try:
            rows += objects(line, first=block.offset + at == 0)
        except BrokenLine as wrong:
            start = block.offset + at
            tell("parse_error", str(wrong), start, start + len(line) + (i + 1 < len(lines)), line)
            lines[i] = b" " * len(line)
        at += len(line) + 1
    return Block(block.offset, b"\n".join(lines)), rows


def _by_name(rows: list[dict[str, Json]], names: list[str]) -> dict[str, Sequence[Json]]:
    """The values by column; raises TypeConflict for a field that isn't among `names`."""
    if len(names) > 1 and set(map(len, rows)) == {len(names)}:
        try:  # objects that all have these very fields: the usual case, and the fast one
            return dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True))
        except KeyError:
            pass
    if unknown := set().union(*rows) - set(names):
        raise TypeConflict(min(unknown), "a field that wasn't there before")
    return {name: [row.get(name) for row in rows] for name in names}


def _digests(rows: list[dict[str, Json]], place: keys.Place) -> keys.Digests:
    """Content of each object, whatever the order of its fields and its blanks."""
    try:
        return keys.digests(map(orjson.dumps, rows, repeat(None), repeat(orjson.OPT_SORT_KEYS)))
    except TypeError:  # a value that orjson can't write: see `canonical`
        return keys.digests([_canonical(row, i, place) for i, row in enumerate(rows)])


def _canonical(row: dict[str, Json], number: int, place: keys.Place) -> bytes:
    try:
        return canonical(row)
    except RecursionError as wrong:
        where = place(number)
        raise PermanentError(
            f"{where}: values are nested too deep", code="parse_error", path=where
        ) from wrong


def _blocks(
    stream: BinaryIO, split: Split, most: int, limit: int | None, tell: Teller | None
) -> Iterator[Block]:
    """Blocks of some hundred objects at least: what is done per field must be worth it."""
    size, start = min(limit or SIZE, SIZE), split.start
    stop, path = split.stop, split.path

    def cut(start: int, size: int) -> Iterator[Block]:
        if tell is None:
            return blocks(stream, start, stop, Rules(), most, path, size)
        return lines_of_fair_size(stream, start, stop, most, path, size, tell)

    for block in cut(start, size):
        yield block
        start = block.offset + len(block.data)
        average = len(block.data) // (block.data.count(b"\n") or 1)
        size = max(size, min(average * OBJECTS, BLOCK << 3))
        break
    else:
        return
    yield from cut(start, size)


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
