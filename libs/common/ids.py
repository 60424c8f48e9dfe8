"""Ids that come from content, so that the same thing said twice has the same id."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import xxhash


def digest(value: object) -> str:
    """Hex xxh3-128 (32 characters) of a JSON value, independent of the order of its keys."""
    return xxhash.xxh3_128_hexdigest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def event_id(kind: str, data: Mapping[str, object]) -> str:
    """Id of a fact: its type and its content."""
    return digest([kind, data])


def run_id(request_id: str) -> str:
    """Id of the run that a request asks for; the same request always asks for the same run."""
    return "run-" + xxhash.xxh3_128_hexdigest(request_id.encode())[:20]


def source_id(uri: str) -> int:
    """Signed 64-bit id of a source file, as kept in each row's `_source` column."""
    return int.from_bytes(xxhash.xxh3_64_digest(uri.encode()), "big", signed=True)
