"""Record-aligned pieces of text files: planned once exactly, then read in blocks."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from libs.common.errors import PermanentError
from libs.formats import Open, SourceFile, Split

BLOCK = 1 << 20  # bytes that are parsed at once: fits the processor's caches
SCAN = 1 << 20  # bytes that are scanned at once when planning

# Bytes of a block → the same bytes with escaped ones blanked out, so that only structure is left.
Mask = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Block:
    """Whole records; `offset` is where they begin in the file."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Rules:
    """How records end: at a newline that isn't inside quotes."""

    quote: bytes = b""
    mask: Mask | None = None

    def quotes(self, data: bytes) -> np.ndarray:
        """Positions of the quotes in `data`."""
        if not self.quote or self.quote not in data:
            return np.zeros(0, np.int64)
        seen = self.mask(data) if self.mask else data
        return np.flatnonzero(np.frombuffer(seen, np.uint8) == self.quote[0])

    def last_end(self, data: bytes) -> int:
        """End of the last whole record, given that `data` begins with one; 0: none."""
        quotes = self.quotes(data)
        newline = b"\n" if b"\n" in data else b"\r"
        stop = len(data) if newline == b"\n" else len(data) - 1  # a last \r may be half a \r\n
        while (found := data.rfind(newline, 0, stop)) >= 0:
            before = int(np.searchsorted(quotes, found))
            if before % 2 == 0:
                return found + 1
            stop = int(quotes[before - 1])
        return 0


def blocks(
    file: BinaryIO, start: int, stop: int, rules: Rules, limit: int, path: str, size: int = BLOCK
) -> Iterator[Block]:
    """Blocks of about `size` bytes; raises `record_too_large` beyond `limit` bytes."""
    file.seek(start)
    at, rest = start, b""
    while at + len(rest) < stop:
        more = file.read(min(size, stop - at - len(rest)))
        if not more:
            break
        data = rest + more if rest else more
        end = len(data) if at + len(data) >= stop else rules.last_end(data)
        if end:
            yield Block(at, data[:end])
        elif len(data) > limit:
            raise too_large(path, at, limit)
        rest = data[end:]
        at += end
    if rest:
        yield Block(at, rest)


def too_large(path: str, at: int, limit: int) -> PermanentError:
    return PermanentError(
        f"{path}: the record that begins at byte {at} is longer than {limit:,} bytes "
        "(a quote that is never closed?); raise the option max_record_bytes if it is right",
        code="record_too_large", path=path,
    )  # fmt: skip


def plan(file: SourceFile, target: int, open: Open, rules: Rules) -> Iterator[Split]:
    """Splits of about `target` bytes that end at record ends; a small file isn't even opened."""
    start = 0
    if file.size > target:
        with open(file.uri) as stream:
            for end in _ends(stream, file.size, target, rules):
                yield _split(file, start, end)
                start = end
    if start < file.size:
        yield _split(file, start, file.size)


def _split(file: SourceFile, start: int, stop: int) -> Split:
    return Split(file.uri, file.path, start, stop, stop - start)


def _ends(stream: BinaryIO, size: int, target: int, rules: Rules) -> Iterator[int]:
    """Record ends at or after each multiple of `target`."""
    scan = _quoted_ends if rules.quote else _newline_ends
    return scan(stream, size, target, rules)


def _newline_ends(stream: BinaryIO, size: int, target: int, rules: Rules) -> Iterator[int]:
    at = target
    while at < size:
        stream.seek(at - 1)
        while data := stream.read(SCAN):
            found = data.find(b"\n")
            if found >= 0:
                break
        if not data:
            return
        end = stream.tell() - len(data) + found + 1
        if end >= size:
            return
        yield end
        at = end + target


def _quoted_ends(stream: BinaryIO, size: int, target: int, rules: Rules) -> Iterator[int]:
    """Counts quotes from the file's start: a newline after an even number ends a record."""
    at, inside, goal = 0, 0, target
    while data := stream.read(SCAN):
        quotes = rules.quotes(data)
        while goal <= at + len(data) and (end := _even_end(data, max(goal - at - 1, 0), quotes, inside)):
            if at + end >= size:
                return
            yield at + end
            goal = at + end + target
        inside = (inside + len(quotes)) % 2
        at += len(data)


def _even_end(data: bytes, begin: int, quotes: np.ndarray, inside: int) -> int:
    """End of the first newline from `begin` on that isn't inside quotes; 0: none."""
    while (found := data.find(b"\n", begin)) >= 0:
        before = int(np.searchsorted(quotes, found))
        if (before + inside) % 2 == 0:
            return found + 1
        if before == len(quotes):
            return 0
        begin = int(quotes[before])
    return 0


def line_of(open: Open, uri: str, offset: int) -> int:
    """Number of the line that holds the byte at `offset`; reads the file up to there."""
    lines, last, left = 1, b"", offset
    with open(uri) as stream:
        while left > 0 and (data := stream.read(min(SCAN, left))):
            left -= len(data)
            lines += data.count(b"\n") + data.count(b"\r") - (last + data).count(b"\r\n")
            last = data[-1:] if data.endswith(b"\r") else b""
    return lines


def single_byte(encoding: str) -> bool:
    """Whether newlines and quotes of this encoding are the ASCII bytes, and nothing else is."""
    name = codecs.lookup(encoding).name
    return name in ("utf-8", "ascii") or name.startswith(("iso8859", "cp12", "koi8"))
