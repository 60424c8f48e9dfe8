"""Record-aligned pieces of text files: planned once exactly, then read in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from libs.common.errors import PermanentError
from libs.formats import Open, SourceFile, Split

BLOCK = 1 << 20  # bytes that are parsed at once: fits the processor's caches

# Bytes of a block → the same bytes with escaped ones blanked out, so that only structure is left.
Mask = Callable[[bytes], bytes]
Positions = npt.NDArray[np.int64]


class RecordTooLarge(PermanentError):
    """A record beyond the limit: reading it could take all memory."""

    def __init__(self, path: str, offset: int, limit: int) -> None:
        self.offset = offset
        super().__init__(
            f"{path}: the record that begins at byte {offset:,} is longer than {limit:,} bytes "
            "(a quote that is never closed?); raise the option max_record_bytes if it is right",
            code="record_too_large",
            path=path,
        )


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

    def quotes(self, data: bytes) -> Positions:
        """Positions of the quotes in `data`."""
        if not self.quote or self.quote not in data:
            return np.zeros(0, np.int64)
        seen = self.mask(data) if self.mask else data
        return np.flatnonzero(np.frombuffer(seen, np.uint8) == self.quote[0])

    def last_end(self, data: bytes, inside: int = 0) -> int:
        """End of the last record that ends in `data`; 0: none.

        `inside` is 1 when `data` begins inside quotes.
        """
        newline = b"\n" if b"\n" in data else b"\r"
        stop = len(data) if newline == b"\n" else len(data) - 1  # a last \r may be half a \r\n
        quotes = self.quotes(data)
        seen = self.mask(data) if self.mask else data
        while (found := seen.rfind(newline, 0, max(stop, 0))) >= 0:
            before = int(np.searchsorted(quotes, found))
            if (before + inside) % 2 == 0:
                return found + 1
            stop = int(quotes[before - 1]) if before else 0
        return 0

    def first_end(self, data: bytes, begin: int, quotes: Positions, inside: int = 0) -> int:
        """End of the first newline from `begin` on that isn't inside quotes; 0: none.

        `inside` is 1 when `data` begins inside quotes.
        """
        while (found := data.find(b"\n", begin)) >= 0:
            before = int(np.searchsorted(quotes, found))
            if (before + inside) % 2 == 0:
                return found + 1
            if before == len(quotes):
                return 0
            begin = int(quotes[before])
        return 0


def blocks(
    file: BinaryIO, start: int, stop: int, rules: Rules, limit: int, path: str, size: int = BLOCK
) -> Iterator[Block]:
    """Blocks of about `size` bytes; raises `record_too_large` beyond `limit` bytes."""
    file.seek(start)
    at, rest, inside = start, b"", 0
    while (ahead := at + len(rest)) < stop:
        # Reading as much again as waits keeps a long record's cost linear.
        more = file.read(min(max(size, len(rest)), limit + 1 - len(rest), stop - ahead))
        if not more:
            break
        if rules.mask and rest:  # what is escaped is only known from the record's beginning
            more, rest, inside = rest + more, b"", 0
        end = rules.last_end(more, inside)
        if at + len(rest) + len(more) >= stop:
            end = len(more)
        if not end:
            inside ^= len(rules.quotes(more)) & 1
            rest += more
        else:
            yield Block(at, b"".join((rest, memoryview(more)[:end])))
            at += len(rest) + end
            rest = more[end:]
            inside = len(rules.quotes(rest)) & 1
        if len(rest) > limit:
            raise RecordTooLarge(path, at, limit)
    if rest:
        yield Block(at, rest)


@dataclass(frozen=True)
class Planner:
    """Cuts a file at record ends; counts quotes from `body`, where the first record begins."""

    file: SourceFile
    target: int
    rules: Rules
    limit: int
    body: int = 0

    def splits(self, open: Open) -> Iterator[Split]:
        """Splits of about `target` bytes; a file that needs one only isn't opened."""
        start = 0
        if self.file.size > self.target:
            with open(self.file.uri) as stream:
                for end in self._ends(stream):
                    if start < end < self.file.size:
                        yield self._split(start, end)
                        start = end
        if start < self.file.size:
            yield self._split(start, self.file.size)

    def _split(self, start: int, stop: int) -> Split:
        return Split(self.file.uri, self.file.path, start, stop, stop - start)

    def _ends(self, stream: BinaryIO) -> Iterator[int]:
        if self.rules.mask:
            return self._block_ends(stream)
        return self._quoted_ends(stream) if self.rules.quote else self._newline_ends(stream)

    def _newline_ends(self, stream: BinaryIO) -> Iterator[int]:
        """The first newline at or after each multiple of the target."""
        goal = self.target
        while goal < self.file.size:
            at = goal - 1
            stream.seek(at)
            while (data := stream.read(BLOCK >> 4)) and (found := data.find(b"\n")) < 0:
                at += len(data)
            if not data:
                return
            yield at + found + 1
            goal = at + found + 1 + self.target

    def _quoted_ends(self, stream: BinaryIO) -> Iterator[int]:
        """Counts quotes from the start: a newline after an even number of them ends a record."""
        stream.seek(self.body)
        at, inside, goal = self.body, 0, self.target
        quote = self.rules.quote[0]
        while data := stream.read(BLOCK):
            seen = np.frombuffer(data, np.uint8) == quote if self.rules.quote in data else None
            if goal <= at + len(data):
                quotes = np.flatnonzero(seen) if seen is not None else np.zeros(0, np.int64)
                while goal <= at + len(data):
                    begin = max(goal - at - 1, 0)
                    end = self.rules.first_end(data, begin, quotes, inside)
                    if not end:
                        break
                    yield at + end
                    goal = at + end + self.target
            inside ^= int(np.count_nonzero(seen)) & 1 if seen is not None else 0
            at += len(data)

    def _block_ends(self, stream: BinaryIO) -> Iterator[int]:
        """Where reading block by block would cut."""
        start = self.body
        size = min(BLOCK, self.target)
        for block in blocks(
            stream, self.body, self.file.size, self.rules, self.limit, self.file.path, size
        ):
            end = block.offset + len(block.data)
            if end - start >= self.target:
                yield end
                start = end


def lines_in(data: bytes) -> int:
    """Line ends in `data`, each of \\n, \\r\\n and \\r being one."""
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def line_of(open: Open, uri: str, offset: int) -> int:
    """Number of the line that holds the byte at `offset`; reads the file up to there."""
    line, before, left = 1, b"", offset
    with open(uri) as stream:
        while left > 0 and (data := stream.read(min(BLOCK, left))):
            left -= len(data)
            line += lines_in(before + data) - len(before)
            before = b"\r" if data.endswith(b"\r") else b""
    return line
