"""Plain text by line: cut, numbered and read in blocks, so that memory stays flat."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import BadRecord, OnBad, Open, ReadOptions, SourceFile, Split
from libs.formats import _keys as keys
from libs.formats._blocks import BLOCK, Block, RecordTooLarge, Rules, blocks, lines_in
from libs.formats._encodings import utf8_open

ENDS = re.compile("\r\n|\n|\r")
MARK = "\ufeff"  # byte order mark: of the file, not of its text
SEED = keys.names_seed(["text"])


def line_splits(file: SourceFile, target: int, open: Open) -> Iterator[Split]:
    """Splits of about `target` bytes that end with a line, each with the lines before it."""
    start = first = lines = at = 0
    half = False  # the block before ended within a \r\n
    with open(file.uri) as stream:
        while data := stream.read(BLOCK):
            done = 0
            while (goal := start + target) <= at + len(data):
                end = data.find(b"\n", max(goal - 1 - at, done)) + 1
                if not end or at + end >= file.size:
                    break
                lines += lines_in(data[done:end]) - (half and not done and data[:1] == b"\n")
                yield Split(file.uri, file.path, start, at + end, at + end - start, first)
                start, first, done, half = at + end, lines, end, False
            lines += lines_in(data[done:]) - (half and not done and data[:1] == b"\n")
            half = data.endswith(b"\r")
            at += len(data)
    yield Split(file.uri, file.path, start, file.size, file.size - start, first)


def read_lines(
    split: Split,
    open: Open,
    encoding: str,
    how: ReadOptions,
    limit: int,
    on_bad: OnBad | None,
) -> Iterator[pa.RecordBatch]:
    """A row per line, without its end. `on_bad` hears of lines that aren't in the encoding."""
    number = split.first + 1
    opened, stop = utf8_open(open, encoding, split.path), split.stop
    if opened is not open:  # as UTF-8 the file has another size
        encoding, stop = "utf-8", 1 << 62
    with opened(split.uri) as stream:
        try:
            for block in blocks(stream, split.start, stop, Rules(), limit, split.path):
                for first, text in _texts(block, encoding, split, number, on_bad):
                    lines = split_lines(text.removeprefix(MARK) if not block.offset else text)
                    yield from line_rows(split, lines, first, how)
                number += lines_in(block.data)
        except RecordTooLarge as wrong:
            raise PermanentError(
                f"{split.path}:{number}: a line longer than {limit:,} bytes; raise the option "
                "maxBytes if it is right",
                code="record_too_large",
                path=f"{split.path}:{number}",
            ) from wrong


def _texts(
    block: Block, encoding: str, split: Split, first: int, on_bad: OnBad | None
) -> Iterator[tuple[int, str]]:
    """The block's text; where a line of it is bad, its good lines one by one."""
    try:
        yield first, block.data.decode(encoding)
        return
    except UnicodeError:
        pass
    at = block.offset
    for number, line in enumerate(
        re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", block.data), first
    ):
        try:
            yield number, line.decode(encoding)
        except UnicodeError as wrong:
            where = f"{split.path}:{number}"
            said = (
                f"{where}: not {encoding}; set the option encoding to what the file is written in"
            )
            if on_bad is None:
                raise PermanentError(said, code="parse_error", path=where) from wrong
            on_bad(
                BadRecord(split.uri, split.path, "parse_error", said, start=at,
                          stop=at + len(line), line=number, data=line)
            )  # fmt: skip
        at += len(line)


def split_lines(text: str) -> list[str]:
    """Lines without their ends; \\n, \\r\\n and \\r end one, and the last needs no end."""
    lines = ENDS.split(text) if "\r" in text else text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def line_rows(
    split: Split, texts: list[str], first: int | None, how: ReadOptions
) -> Iterator[pa.RecordBatch]:
    """Rows of records: keys from the text alone. Numbered from `first` on."""
    n = len(texts)
    if not n:
        return
    text = pa.array(texts, pa.string())
    numbers = np.arange(first, first + n) if first is not None else None
    columns = [
        text,
        pa.repeat(pa.scalar(split.path), n),
        pa.array(numbers, pa.int64()) if numbers is not None else pa.nulls(n, pa.int64()),
    ]
    content = made = keys.text_digests([keys.escaped(text)], SEED)
    if how.key:
        named = dict(zip(how.schema.names, columns, strict=True))
        made = keys.declared_keys(named, how.key, lambda row: f"{split.path}:{(first or 1) + row}")
    yield from keys.with_system_columns(columns, how.schema, made, content, source_id(split.uri))
