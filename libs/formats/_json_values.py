"""JSON objects from lines, exactly: every integer keeps its digits, NaN is refused."""

from __future__ import annotations

import json
import re
from typing import TypeAlias, cast

import numpy as np
import orjson

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

BOM = b"\xef\xbb\xbf"
DIGITS = re.compile(rb"[0-9]{19}")  # where an integer may be beyond 64 bits


class BrokenLine(ValueError):
    """A line that is no JSON object; `offset` is where it begins in the block."""

    def __init__(self, detail: str, offset: int) -> None:
        super().__init__(detail)
        self.offset = offset


def objects(data: bytes, *, first: bool) -> list[dict[str, Json]]:
    """The objects of a block, blank lines left out; raises BrokenLine.

    `first`: the block begins the file, where a byte order mark may stand.
    """
    if first and data.startswith(BOM):
        data = b"   " + data[3:]
    exact = _unusual(data)
    loads = _exact if exact else orjson.loads
    lines = data.split(b"\n")
    try:
        values = [loads(line) for line in lines if line]
    except (ValueError, RecursionError):
        return _carefully(lines, exact)
    if set(map(type, values)) - {dict}:
        return _carefully(lines, exact)
    return cast("list[dict[str, Json]]", values)


def _unusual(data: bytes) -> bool:
    """Whether an integer may be beyond what orjson keeps exactly; errs on the safe side."""
    seen = np.frombuffer(data, np.uint8)
    run = (seen - np.uint8(ord("0"))) < 10
    for step in (1, 2, 4, 8, 3):  # runs of 2, 4, 8, 16, then 19 digits
        run = run[step:] & run[:-step]
        if not run.any():
            return False
    return True


def _exact(line: bytes) -> Json:
    """As orjson reads it, but with integers of any size."""
    value: Json = orjson.loads(line)  # refuses what isn't JSON: NaN, numbers beyond a double
    if DIGITS.search(line):
        value = json.loads(line)
    return value


def _carefully(lines: list[bytes], exact: bool) -> list[dict[str, Json]]:
    """The objects of the lines that aren't blank; raises BrokenLine for the first that has none."""
    rows, at = [], 0
    for line in lines:
        if line and not line.isspace():
            rows.append(_object(line, at, exact))
        at += len(line) + 1
    return rows


def _object(line: bytes, at: int, exact: bool) -> dict[str, Json]:
    try:
        value: Json = _exact(line) if exact else orjson.loads(line)
    except orjson.JSONDecodeError as wrong:
        raise BrokenLine(_broken(line, wrong), at) from wrong
    except (ValueError, RecursionError) as wrong:
        raise BrokenLine(f"not JSON: {wrong}", at) from wrong
    if isinstance(value, dict):
        return value
    kind = type(value).__name__
    raise BrokenLine(f"not a JSON object but a {kind}; jsonl is one object per line", at)


def _broken(line: bytes, wrong: orjson.JSONDecodeError) -> str:
    hint = "; one whole object per line" if line.strip() in (b"{", b"[", b"[{") else ""
    return f"not JSON at column {wrong.colno}: {wrong.msg}{hint}"


def canonical(value: Json) -> bytes:
    """The value with sorted keys and without blanks; raises RecursionError when nested too deep."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer beyond 64 bits, or nesting beyond orjson's limit
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()


def text_of(value: Json) -> str | None:
    """The value as a text column holds it: texts as they are, others as JSON."""
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
