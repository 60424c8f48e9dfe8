"""CSV (RFC 4180 and its relatives): parsed by pyarrow, typed and keyed by us."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from pydantic import BaseModel

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import Open, ReadOptions, SourceFile, Split, TypeConflict, Writer
from libs.formats import _keys as keys
from libs.formats import _types as types
from libs.formats._blocks import Block, blocks, line_of, plan
from libs.formats._csv_dialect import CsvOptions, Dialect, dialect_of, parse_error, rules_of
from libs.formats._csv_writer import CsvWriteOptions, CsvWriter

ROWS = 1 << 16


class Csv:
    """The format csv."""

    suffixes = (".csv", ".tsv")
    Options = CsvOptions
    WriteOptions = CsvWriteOptions

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        if file.size == 0:
            raise PermanentError(f"{file.path}: the file is empty", code="empty_file")
        return plan(file, target, open, rules_of(cast(CsvOptions, options)))

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        done, schemas = 0, []
        for part in _parts(split, open, cast(CsvOptions, options)):
            names = part.dialect.names
            columns = zip(names, part.columns, strict=True)
            schemas.append(pa.schema([types.infer_column(n, c) for n, c in columns]))
            done += len(part.block.data)
            if limit is not None and done >= limit:
                break
        return types.join_text_schemas(schemas)

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return types.join_text_schemas(schema for _, schema in schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        source = source_id(split.uri)
        for part in _parts(split, open, cast(CsvOptions, how.options)):
            content = part.digests()
            texts = dict(zip(part.dialect.names, part.columns, strict=True))
            rows = keys.declared_keys(texts, how.key, split.path) if how.key else content
            columns = _typed(texts, how.schema, part.rows)
            batch = keys.with_system_columns(columns, how.schema, rows, content, source)
            for at in range(0, batch.num_rows, ROWS):
                yield batch.slice(at, ROWS)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return CsvWriter(path, schema, cast(CsvWriteOptions, options))


def _typed(texts: dict[str, pa.StringArray], schema: pa.Schema, rows: int) -> list[pa.Array]:
    for name in texts:
        if schema.get_field_index(name) < 0:
            raise TypeConflict(name, "a column that wasn't there before")
    return [
        types.convert(f.name, texts[f.name], f.type) if f.name in texts else pa.nulls(rows, f.type)
        for f in schema
    ]


class _Part:
    """One parsed block: a string array per column, null where a cell is empty and unquoted."""

    def __init__(self, block: Block, dialect: Dialect, options: CsvOptions, table: pa.Table):
        self.block, self.dialect, self.options = block, dialect, options
        self.raw = [
            c.chunk(0) if c.num_chunks == 1 else c.combine_chunks() for c in table.columns
        ]
        self.rows = table.num_rows

    @property
    def columns(self) -> list[pa.StringArray]:
        if not self.options.null_values:
            return self.raw
        nulls = pa.array(self.options.null_values, pa.string())
        none = pa.scalar(None, pa.string())
        return [pc.if_else(pc.is_in(c, nulls), none, c) for c in self.raw]

    def digests(self) -> np.ndarray:
        """Content of each record, whatever its quoting, delimiter, encoding and line ends."""
        seed = keys.names_seed(self.dialect.names)
        if (lines := self._plain_lines()) is not None:
            return keys.digests(lines, seed)
        return keys.digests(keys.records_of(keys.join_texts([_cells(c) for c in self.raw])), seed)

    def _plain_lines(self) -> list[bytes] | None:
        data, options = self.block.data, self.options
        if options.quote.encode() in data and options.quote:
            return None
        if options.escape and options.escape.encode() in data:
            return None
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if keys.ESC in data:
            data = data.replace(keys.ESC, keys.ESC + keys.ESC)
        if (delimiter := self.dialect.delimiter.encode()) != b",":
            data = data.replace(b",", keys.ESC + b",").replace(delimiter, b",")
        lines = data.split(b"\n")
        if len(lines) != self.rows:
            lines = [line for line in lines if line]
        return lines


def _cells(column: pa.StringArray) -> pa.StringArray:
    texts = keys.escaped(column)
    empty = pc.equal(texts, "")
    if pc.any(empty).as_py():
        texts = pc.if_else(empty, keys.EMPTY.decode(), texts)
    return texts.fill_null("") if texts.null_count else texts


def _parts(split: Split, open: Open, options: CsvOptions) -> Iterator[_Part]:
    dialect = dialect_of(open, split.uri, split.path, options)
    start = max(split.start, dialect.body)
    with open(split.uri) as stream:
        for block in blocks(
            stream, start, split.stop, dialect.rules, options.max_record_bytes, split.path
        ):
            yield _Part(block, dialect, options, _parse(block, dialect, options, split, open))


def _parse(
    block: Block, dialect: Dialect, options: CsvOptions, split: Split, open: Open
) -> pa.Table:
    try:
        return pacsv.read_csv(
            pa.BufferReader(block.data),
            pacsv.ReadOptions(
                use_threads=False, block_size=len(block.data) + 1, column_names=dialect.names
            ),
            pacsv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=options.quote or False,
                escape_char=options.escape or False,
                newlines_in_values=True,
            ),
            pacsv.ConvertOptions(
                check_utf8=not block.data.isascii(),
                column_types={name: pa.string() for name in dialect.names},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as wrong:
        raise parse_error(split.path, line_of(open, split.uri, block.offset), str(wrong)) from wrong


PLUGIN = Csv()
