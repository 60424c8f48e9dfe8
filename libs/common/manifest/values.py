"""What a manifest may hold: JSON values that every later reader can write again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from libs.common.errors import Problem

MAX_DEPTH = 32
MAX_VALUES = 100_000
_PLAIN = re.compile(r"[\w/-]{1,80}")
SMALLEST, LARGEST = -(2**63), 2**64 - 1


def join(path: str, key: str | int) -> str:
    """`spec` + `source` → `spec.source`; `spec.transform` + 1 → `spec.transform[1]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN.fullmatch(key):
        return f'{path}["{key[:80]}"]'
    return f"{path}.{key}" if path else key


def unfit(value: object, path: str = "", depth: int = 0) -> Iterator[Problem]:
    """Every value below `value` that JSON can't carry, with its path."""
    if depth > MAX_DEPTH:
        yield Problem("invalid_yaml", f"nested deeper than {MAX_DEPTH} levels", path[:200])
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _key(key, path)
            yield from unfit(item, join(path, str(key)), depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        for index, item in enumerate(value):
            yield from unfit(item, join(path, index), depth + 1)
    elif detail := _scalar(value):
        yield Problem("invalid_value", detail, path or None)


def _key(key: object, path: str) -> Iterator[Problem]:
    if not isinstance(key, str):
        yield Problem("invalid_yaml", f"the key {key!r:.80} is no text; quote it", path or None)
    elif detail := _text(key):
        yield Problem("invalid_yaml", f"a key with {detail}", path or None)


def _scalar(value: object) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        fits = SMALLEST <= value <= LARGEST
        return None if fits else "a number that doesn't fit into 64 bits; quote it to make it text"
    if isinstance(value, float):
        return None if math.isfinite(value) else "not a finite number"
    return f"a {type(value).__name__} is no JSON value"


def _text(value: str) -> str | None:
    if "\0" in value:
        return "a NUL character is not allowed"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "half of a surrogate pair is not allowed"
    return None
