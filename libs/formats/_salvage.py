"""Going on after a bad record of a text file: where the next one begins, and what to tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from libs.formats import BadRecord, OnBad, Open, Split
from libs.formats._blocks import BLOCK, Block, RecordTooLarge, Rules, blocks, lines_in

KEPT = 1 << 18  # bytes of a bad record that are passed on


class Teller:
    """Tells the bad records of one split, each with its line."""

    def __init__(self, split: Split, open: Open, on_bad: OnBad) -> None:
        self._split, self._open, self._on_bad = split, open, on_bad
        self._at, self._line = 0, 1  # how far lines were counted: forward only, where it can be

    def __call__(self, code: str, detail: str, start: int, stop: int, data: bytes) -> None:
        """A record in bytes [start, stop) of the file."""
        line = self._line_of(start)
        self._on_bad(
            BadRecord(
                self._split.uri, self._split.path, code, f"{self._split.path}:{line}: {detail}",
                start=start, stop=stop, line=line, data=data[:KEPT],
            )
        )  # fmt: skip

    def _line_of(self, offset: int) -> int:
        if offset < self._at:
            self._at, self._line = 0, 1
        with self._open(self._split.uri) as stream:
            stream.seek(self._at)
            before, left = b"", offset - self._at
            while left > 0 and (data := stream.read(min(BLOCK, left))):
                left -= len(data)
                self._line += lines_in(before + data) - len(before)
                before = b"\r" if data.endswith(b"\r") else b""
        self._at = offset
        return self._line


def line_end(stream: BinaryIO, at: int, stop: int) -> int:
    """Where the line that holds the byte `at` ends, its line end included."""
    stream.seek(at)
    while at < stop and (data := stream.read(min(BLOCK, stop - at))):
        if (found := data.find(b"\n")) >= 0:
            return at + found + 1
        at += len(data)
    return stop


def lines_of_fair_size(
    stream: BinaryIO, start: int, stop: int, limit: int, path: str, size: int, tell: Teller
) -> Iterator[Block]:
    """As `blocks`, for records that are lines; those longer than `limit` are told."""
    while True:
        try:
            yield from blocks(stream, start, stop, Rules(), limit, path, size)
        except RecordTooLarge as wrong:
            start = line_end(stream, wrong.offset, stop)
            stream.seek(wrong.offset)
            detail = f"a line of {start - wrong.offset:,} bytes; at most {limit:,} are read"
            tell(wrong.code, detail, wrong.offset, start, stream.read(min(KEPT, limit)))
            continue
        return


def without(data: bytes, gaps: list[tuple[int, int]]) -> bytes:
    """The data with only the line ends of these ranges left, so that lines keep their numbers."""
    pieces, at = [], 0
    for start, stop in gaps:
        pieces += [data[at:start], b"\n" * lines_in(data[start:stop])]
        at = stop
    return b"".join([*pieces, data[at:]])
