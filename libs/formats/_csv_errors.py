"""What is wrong with a CSV block, and in which line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from libs.common.errors import PermanentError
from libs.formats._blocks import Rules, lines_in

Line = Callable[[], int]  # the number of a block's first line; costly, so asked on errors only
UTF8_HINT = "set the option encoding, for instance latin-1 or utf-16"


def parse_error(path: str, line: int, detail: str) -> PermanentError:
    """A fault of the file's text, with its place."""
    where = f"{path}:{line}"
    return PermanentError(f"{where}: {detail}", code="parse_error", path=where)


def check_bytes(data: bytes, path: str, line: Line) -> None:
    """Raises `parse_error` for NUL bytes: no text has them."""
    if (found := data.find(b"\0")) >= 0:
        at = line() + lines_in(data[:found])
        raise parse_error(path, at, f"a NUL byte: a binary file? If it is text, {UTF8_HINT}")


def check_quotes(
    data: bytes, rules: Rules, delimiter: str, path: str, line: Line, *, whole: bool = True
) -> None:
    """Raises `parse_error` unless quotes enclose whole cells, those inside being doubled.

    `whole`: the data ends where a record ends.
    """
    quotes = rules.quotes(data)
    if not len(quotes):
        return
    seen = np.frombuffer(rules.mask(data) if rules.mask else data, np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    edge = np.zeros(256, bool)
    edge[[ord(delimiter), ord("\n"), ord("\r")]] = True
    after_close = np.zeros(len(opening), bool)
    after_close[1:] = opening[1:] == closing[: len(opening) - 1] + 1  # a doubled quote
    starts = (opening == 0) | edge[seen[opening - 1]] | after_close
    if not starts.all():
        _stray(data, int(opening[~starts][0]), path, line, "inside a cell that isn't quoted")
    if not whole:
        return
    if len(closing) < len(opening):
        _stray(data, int(opening[-1]), path, line, "opened and never closed")
    before_open = np.append(after_close[1:], False)
    follows = seen[np.minimum(closing + 1, len(seen) - 1)]
    ends = (closing == len(seen) - 1) | edge[follows] | before_open
    if not ends.all():
        _stray(data, int(closing[~ends][0]), path, line, "closed before the cell's end")


def _stray(data: bytes, at: int, path: str, line: Line, how: str) -> None:
    raise parse_error(
        path, line() + lines_in(data[:at]),
        f"a stray quote, {how}; quote the whole cell and double the quotes inside, "
        'or set the option quote: "" to take quotes as they are',
    )  # fmt: skip


def explain(
    data: bytes, rules: Rules, delimiter: str, columns: int, path: str, line: Line
) -> PermanentError | None:
    """The first fault that a parser would stumble over, or None when there is none we know."""
    try:
        data.decode()
    except UnicodeDecodeError as wrong:
        at = line() + lines_in(data[: wrong.start])
        byte = data[wrong.start]
        return parse_error(path, at, f"the byte 0x{byte:02x} isn't UTF-8; {UTF8_HINT}")
    for begin, record in records(data, rules):
        found = cells_of(record, rules, delimiter)
        if record and found != columns:
            shown = record[:80].decode(errors="replace")
            at = line() + lines_in(data[:begin])
            return parse_error(path, at, f"expected {columns} cells, found {found}: {shown!r}")
    return None


def records(data: bytes, rules: Rules) -> Iterator[tuple[int, bytes]]:
    """Each record's position and bytes without its line end; slow, for messages."""
    quotes = rules.quotes(data)
    seen = rules.mask(data) if rules.mask else data
    begin = 0
    for found in re.finditer(rb"\r\n|\n|\r", seen):
        if int(np.searchsorted(quotes, found.start())) % 2 == 0:
            yield begin, data[begin : found.start()]
            begin = found.end()
    if begin < len(data):
        yield begin, data[begin:]


def cells_of(record: bytes, rules: Rules, delimiter: str) -> int:
    quotes = rules.quotes(record)
    seen = np.frombuffer(rules.mask(record) if rules.mask else record, np.uint8)
    places = np.flatnonzero(seen == ord(delimiter))
    return int((np.searchsorted(quotes, places) % 2 == 0).sum()) + 1
