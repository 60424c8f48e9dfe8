"""CSV with bad records in it: these are told and left out, whatever they do to quoting.

The rule, from left to right: a record is what the grammar says (cells without quotes, or quoted
whole). Where it says none, the line is bad up to its end, and reading goes on with the next line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import BinaryIO

from libs.common.errors import PermanentError
from libs.formats._blocks import BLOCK, Block, RecordTooLarge, Rules, blocks
from libs.formats._csv_errors import UTF8_HINT, cells_of, check_quotes, records
from libs.formats._salvage import KEPT, line_end, without

Tell = Callable[[str, str, int, int, bytes], None]  # code, detail, start, stop, bytes
STRAY = "a stray quote; quote the whole cell and double the quotes inside"
LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Grammar:
    """How the records of a file are written."""

    rules: Rules
    delimiter: str
    quote: str
    escape: str
    columns: int
    encoding: str
    limit: int  # bytes of a record
    path: str

    def quotes_are_right(self, data: bytes) -> bool:
        try:
            check_quotes(data, self.rules, self.delimiter, self.path, lambda: 1)
        except PermanentError:
            return False
        return True


@cache
def _patterns(delimiter: str, quote: str, escape: str) -> tuple[re.Pattern[bytes], ...]:
    """One record with its line end, and one that isn't over where the data ends."""
    d, q, e = (re.escape(c.encode()) for c in (delimiter, quote, escape))
    escaped = rb"|" + e + rb"." if escape else b""
    plain = rb"(?:[^\r\n" + d + q + e + rb"]" + escaped + rb")*+"
    if not quote:
        cell, last = plain, plain
    else:
        inner = rb"(?:[^" + q + e + rb"]++|" + q + q + escaped + rb")*+"
        cell, last = rb"(?:" + q + inner + q + rb"|" + plain + rb")", q + inner
    before = rb"(?:" + cell + d + rb")*+"
    whole = before + cell + rb"(?:\r\n|\n|\r|\Z)"
    begun = before + rb"(?:" + last + rb"|" + cell + rb"\r?)\Z"
    return re.compile(whole, re.DOTALL), re.compile(begun, re.DOTALL)


def clean_blocks(
    stream: BinaryIO, start: int, stop: int, grammar: Grammar, size: int, tell: Tell
) -> Iterator[Block]:
    """Blocks of whole records whose quotes are as they should be; other lines are told."""
    at = start
    while at < stop:
        try:
            found = blocks(stream, at, stop, grammar.rules, grammar.limit, grammar.path, size)
            for block in found:
                if not grammar.quotes_are_right(block.data):
                    break
                yield block
                at = block.offset + len(block.data)
            else:
                return
        except RecordTooLarge as wrong:
            at = wrong.offset
        at = yield from _record_by_record(stream, at, stop, grammar, tell)


def _record_by_record(
    stream: BinaryIO, start: int, stop: int, grammar: Grammar, tell: Tell
) -> Generator[Block, None, int]:
    """Some records from `start` on, taken apart one by one; returns where it came to."""
    whole, begun = _patterns(grammar.delimiter, grammar.quote, grammar.escape)
    stream.seek(start)
    data = stream.read(min(BLOCK, stop - start))
    pos = good = 0  # `good`: where the good records before `pos` begin
    while pos < len(data):
        last = start + len(data) >= stop
        found = whole.match(data, pos)
        if found and (found.end() < len(data) or last):
            pos = found.end()
            continue
        if not last and begun.match(data, pos):
            if pos > 0:
                break
            if len(data) <= grammar.limit:
                data += stream.read(min(len(data), stop - start - len(data)))
                continue
        if pos > good:
            yield Block(start + good, data[good:pos])
        end = LINE_END.search(data, pos)
        stop_at = start + end.end() if end else line_end(stream, start + len(data), stop)
        code, detail = _why(data, pos, grammar)
        tell(code, detail, start + pos, stop_at, data[pos : min(stop_at - start, pos + KEPT)])
        if not end:
            return stop_at
        pos = good = end.end()
        stream.seek(start + len(data))
    if pos > good:
        yield Block(start + good, data[good:pos])
    return start + pos


def _why(data: bytes, pos: int, grammar: Grammar) -> tuple[str, str]:
    if len(data) - pos > grammar.limit:
        return "record_too_large", (
            f"a record longer than {grammar.limit:,} bytes (a quote that is never closed?); "
            "only its first line is taken for it"
        )
    return "parse_error", STRAY


def without_bad(block: Block, grammar: Grammar, tell: Tell) -> Block:
    """The block without records that have the wrong number of cells, or aren't text."""
    gaps: list[tuple[int, int]] = []
    found = [*records(block.data, grammar.rules), (len(block.data), b"")]
    for (begin, record), (end, _) in pairwise(found):
        if detail := _fault(record, grammar):
            tell("parse_error", detail, block.offset + begin, block.offset + end, record)
            gaps.append((begin, end))
    return Block(block.offset, without(block.data, gaps)) if gaps else block


def _fault(record: bytes, grammar: Grammar) -> str:
    """What is wrong with a record; nothing when it is fine, or blank."""
    if b"\0" in record:
        return "a NUL byte"
    try:
        record.decode(grammar.encoding)
    except UnicodeDecodeError as wrong:
        byte = record[wrong.start]
        return f"the byte 0x{byte:02x} isn't {wrong.encoding}; {UTF8_HINT}"
    found = cells_of(record, grammar.rules, grammar.delimiter)
    if record and found != grammar.columns:
        shown = record[:80].decode(errors="replace")
        return f"expected {grammar.columns} cells, found {found}: {shown!r}"
    return ""
