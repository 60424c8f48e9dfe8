"""The records of one CSV split: parsed into a text column per name, and fingerprinted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from libs.common.errors import PermanentError
from libs.formats import OnBad, Open, Split
from libs.formats import _keys as keys
from libs.formats._blocks import BLOCK, Block, RecordTooLarge, blocks, line_of
from libs.formats._csv_dialect import CsvOptions, Dialect, dialect_of
from libs.formats._csv_errors import (
    UTF8_HINT,
    check_bytes,
    check_quotes,
    explain,
    parse_error,
    records,
)  # fmt: skip
from libs.formats._csv_salvage import Grammar, clean_blocks, without_bad
from libs.formats._encodings import splittable, transcoded, utf8_open
from libs.formats._salvage import Teller

NULL = pa.scalar(None, pa.string())
BLANK_LINES = re.compile(rb"\n{2,}")


@dataclass(frozen=True)
class CsvSource:
    """One split of one file, ready to be read."""

    split: Split
    open: Open  # gives UTF-8, or an encoding that is decoded block by block
    options: CsvOptions
    dialect: Dialect
    tell: Teller | None = None  # bad records; None: they are raised

    @classmethod
    def of(
        cls, split: Split, open: Open, options: CsvOptions, on_bad: OnBad | None = None
    ) -> CsvSource:
        opened = utf8_open(open, options.encoding, split.path)
        dialect = dialect_of(opened, split.uri, split.path, options)
        tell = Teller(split, opened, on_bad) if on_bad is not None else None
        return cls(split, opened, options, dialect, tell)

    @property
    def grammar(self) -> Grammar:
        return Grammar(
            self.options.rules, self.dialect.delimiter, self.options.quote,
            self.options.escape or "", len(self.dialect.names),
            self.options.encoding if splittable(self.options.encoding) else "utf-8",
            self.options.max_record_bytes, self.split.path,
        )  # fmt: skip

    def records(self, limit: int | None = None) -> Iterator[Records]:
        """Parsed blocks; raises `parse_error` with file and line, `record_too_large`."""
        start = max(self.split.start, self.dialect.body)
        # What is done per column and block is worth it for some hundred rows.
        wide = min(BLOCK * max(len(self.dialect.names) // 32, 1), BLOCK << 4)
        size = min(limit or wide, wide)
        # Positions in a text that was decoded as a stream aren't the file's; it is one split.
        stop = self.split.stop if splittable(self.options.encoding) else 1 << 62
        with self.open(self.split.uri) as stream:
            if self.tell is not None:
                for block in clean_blocks(stream, start, stop, self.grammar, size, self.tell):
                    if (part := self._salvaged(block, self.tell)) is not None:
                        yield part
                return
            try:
                for block in blocks(
                    stream, start, stop, self.options.rules,
                    self.options.max_record_bytes, self.split.path, size,
                ):  # fmt: skip
                    yield self._parsed(block)
            except RecordTooLarge as wrong:
                self._look_for_stray_quotes(wrong)
                raise

    def splits(self, target: int) -> Iterator[Split]:
        """The split in pieces of about `target` bytes, cut as `records` reads it, told or not."""
        start, stop = self.split.start, self.split.stop
        body = max(start, self.dialect.body)
        size = min(BLOCK, target)
        assert self.tell is not None
        with self.open(self.split.uri) as stream:
            for block in clean_blocks(stream, body, stop, self.grammar, size, self.tell):
                end = block.offset + len(block.data)
                if end - start >= target and end < stop:
                    yield replace(self.split, start=start, stop=end, size=end - start)
                    start = end
        yield replace(self.split, start=start, stop=stop, size=stop - start)

    def _salvaged(self, block: Block, tell: Teller) -> Records | None:
        """The block's good records; None where there is none."""
        try:
            return self._parsed(block)
        except PermanentError as wrong:
            if wrong.code != "parse_error":
                raise
            rest = without_bad(block, self.grammar, tell)
            if rest is block:  # nothing that we know how to leave out
                raise
        return self._parsed(rest) if rest.data.strip(b"\r\n") else None

    def _look_for_stray_quotes(self, wrong: RecordTooLarge) -> None:
        """A record without end often is a quote that nobody meant: say where."""
        path, uri = self.split.path, self.split.uri
        with self.open(uri) as stream:
            stream.seek(wrong.offset)
            head = stream.read(BLOCK)
        check_quotes(
            head, self.options.rules, self.dialect.delimiter, path,
            lambda: line_of(self.open, uri, wrong.offset), whole=False,
        )  # fmt: skip

    def _parsed(self, block: Block) -> Records:
        data, path, dialect = self._utf8(block), self.split.path, self.dialect
        rules = self.options.rules

        def line() -> int:
            return line_of(self.open, self.split.uri, block.offset)

        check_bytes(data, path, line)
        quoted = bool(rules.quote) and rules.quote in data
        if quoted:
            check_quotes(data, rules, dialect.delimiter, path, line)
        try:
            table = _parse(data, dialect, self.options)
        except pa.ArrowInvalid as wrong:
            known = explain(data, rules, dialect.delimiter, len(dialect.names), path, line)
            raise known or parse_error(path, line(), str(wrong)) from wrong
        return Records(self, Block(block.offset, data), table, quoted)

    def _utf8(self, block: Block) -> bytes:
        try:
            return transcoded(block.data, self.options.encoding)
        except UnicodeDecodeError as wrong:
            at = line_of(self.open, self.split.uri, block.offset + wrong.start)
            detail = f"the byte 0x{block.data[wrong.start]:02x} isn't {wrong.encoding}; {UTF8_HINT}"
            raise parse_error(self.split.path, at, detail) from wrong


def _parse(data: bytes, dialect: Dialect, options: CsvOptions) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(data),
        pacsv.ReadOptions(
            use_threads=False, block_size=len(data) + 1, column_names=list(dialect.names)
        ),
        pacsv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=options.quote or False,
            escape_char=options.escape or False,
            newlines_in_values=True,
        ),
        pacsv.ConvertOptions(
            check_utf8=not data.isascii(),
            column_types={name: pa.string() for name in dialect.names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


class Records:
    """One parsed block."""

    def __init__(self, source: CsvSource, block: Block, table: pa.Table, quoted: bool) -> None:
        self._source, self._block, self._quoted = source, block, quoted
        self.rows = table.num_rows
        self.size = len(block.data)
        self._table = table

    @cached_property
    def cells(self) -> dict[str, pa.StringArray]:
        """As written: null where a cell is empty and unquoted, an empty text where `""`."""
        columns = zip(self._table.column_names, self._table.columns, strict=True)
        return {name: column.combine_chunks() for name, column in columns}

    def texts(self, name: str) -> pa.StringArray:
        """Cells of a text column: also null where a declared null value stands."""
        cells = self.cells[name]
        if not (nulls := self._source.options.null_values):
            return cells
        return pc.if_else(pc.is_in(cells, pa.array(nulls, pa.string())), NULL, cells)

    def values(self, name: str) -> pa.StringArray:
        """Cells of a column of another type: also null where `""` stands."""
        texts = self.texts(name)
        if not self._quoted and not self._source.options.escape:
            return texts
        empty = pc.equal(texts, "")
        return pc.if_else(empty, NULL, texts) if pc.any(empty).as_py() else texts

    def digests(self) -> keys.Digests:
        """Content of each record, whatever its quoting, delimiter, encoding and line ends."""
        seed = keys.names_seed(self._source.dialect.names)
        if (lines := self._plain_lines()) is not None:
            found = keys.line_digests(lines, seed)
            if len(found) == self.rows:
                return found
            return keys.line_digests(BLANK_LINES.sub(b"\n", lines).lstrip(b"\n"), seed)
        return keys.text_digests([_canonical(column) for column in self.cells.values()], seed)

    def place(self, row: int) -> str:
        """`file:line` of a record of this block."""
        split, open = self._source.split, self._source.open
        found = [
            begin for begin, text in records(self._block.data, self._source.options.rules) if text
        ]
        line = line_of(open, split.uri, self._block.offset)
        return f"{split.path}:{line + self._block.data[: found[row]].count(10)}"

    def _plain_lines(self) -> bytes | None:
        """The canonical records straight from the text, when it has neither quotes nor escapes."""
        data, options = self._block.data, self._source.options
        if self._quoted or (options.escape and options.escape.encode() in data):
            return None
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if keys.ESC in data:
            data = data.replace(keys.ESC, keys.ESC + keys.ESC)
        if (delimiter := self._source.dialect.delimiter.encode()) != b",":
            data = data.replace(b",", keys.ESC + b",").replace(delimiter, b",")
        return data if data.endswith(b"\n") else data + b"\n"


def _canonical(cells: pa.StringArray) -> pa.StringArray:
    texts = keys.escaped(cells)
    empty = pc.equal(texts, "")
    if pc.any(empty).as_py():
        texts = pc.if_else(empty, keys.EMPTY.decode(), texts)
    return texts.fill_null("") if texts.null_count else texts
