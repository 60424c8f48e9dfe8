"""Canonical bytes of typed rows, a whole batch at once."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

import orjson


def row_bytes(columns: Mapping[str, pa.Array]) -> list[bytes]:
    """The content of each row."""
    table = pa.table(dict(columns))
    return [
        orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS) for row in table.to_pylist()
    ]
