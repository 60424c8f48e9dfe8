"""A page of rows as the dataset viewer's envelope, in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import pyarrow as pa

from libs.common.errors import PermanentError
from libs.formats import ROW
from libs.warehouse import Reader
from services.catalog.cells import values
from services.catalog.features import features

PAGE_BYTES = 8 << 20  # JSON of one page, about; cells are cut shorter where there are many
CELL = 64 << 10  # characters of JSON that a cell may have in any case
LEAST = 64  # characters that are left of a cell in any case
READ_BYTES = 32 << 20  # what is read from the warehouse at once


@dataclass(frozen=True)
class Ask:
    """Which rows and columns; `columns` as given, None for all."""

    offset: int
    limit: int
    columns: tuple[str, ...] | None = None


def page(reader: Reader, ask: Ask) -> bytes:
    """The JSON envelope. Blocks. Raises PermanentError `unknown_column`."""
    schema = reader.user_schema
    chosen = _columns(ask.columns, schema.names)
    shown = schema if chosen is None else pa.schema([schema.field(name) for name in chosen])
    rows: list[dict[str, object]] = []
    for at, size in _slices(reader, ask):
        # Of the system columns the key alone: a column that is all one value is slow to take.
        table = reader.page(at, size, [*shown.names, ROW])
        rows += _rows(table, at, _cell_limit(ask.limit, len(shown)))
    return orjson.dumps(
        {
            "features": features(shown),
            "rows": rows,
            "num_rows_total": reader.rows,
            "num_rows_per_page": ask.limit,
            "partial": False,
            "version": reader.version.number,
        },
        option=orjson.OPT_NON_STR_KEYS,
    )


def _slices(reader: Reader, ask: Ask) -> list[tuple[int, int]]:
    """(offset, rows) of each read, so that wide rows don't come into memory all at once."""
    average = reader.version.commit.bytes // max(reader.rows, 1) + 1
    step = max(1, min(ask.limit, READ_BYTES // average))
    stop = min(ask.offset + ask.limit, reader.rows)
    return [(at, min(step, stop - at)) for at in range(ask.offset, stop, step)]


def _rows(table: pa.Table, offset: int, limit: int) -> list[dict[str, object]]:
    *names, _ = table.column_names
    keys = [key.hex() for key in table.column(ROW).to_pylist()]
    columns = [values(table.column(name)) for name in names]
    cut: list[list[str]] = [[] for _ in keys]
    for name, column in zip(names, columns, strict=True):
        if _may_be_long(table.schema.field(name).type):
            _shorten(name, column, limit, cut)
    return [
        {
            "row_idx": offset + i,
            "row_key": key,
            "row": {name: column[i] for name, column in zip(names, columns, strict=True)},
            "truncated_cells": cut[i],
        }
        for i, key in enumerate(keys)
    ]


def _shorten(name: str, column: list[object], limit: int, cut: list[list[str]]) -> None:
    """Cuts long text; a long list or struct becomes the beginning of its JSON, as in the viewer."""
    for i, value in enumerate(column):
        if not isinstance(value, str):
            if value is None or len(text := orjson.dumps(value)) <= limit:
                continue
            value = text.decode()
        if len(value) > limit:
            column[i] = value[:limit]
            cut[i].append(name)


def _may_be_long(kind: pa.DataType) -> bool:
    return not (pa.types.is_primitive(kind) or pa.types.is_null(kind))


def _cell_limit(rows: int, columns: int) -> int:
    return max(LEAST, min(CELL, PAGE_BYTES // max(1, rows * columns)))


def _columns(asked: Sequence[str] | None, known: list[str]) -> list[str] | None:
    """Names asked for, one by one or separated by commas; a column's own comma is understood."""
    if asked is None:
        return None
    names = [n for text in asked for n in ([text] if text in known else text.split(",")) if n]
    for name in names:
        if name not in known:
            some = ", ".join(known[:50])
            raise PermanentError(
                f"unknown column {name[:200]!r}; known: {some}",
                code="unknown_column",
                path="query.columns",
            )
    return list(dict.fromkeys(names)) or None
