"""Writing JSON Lines parts."""

from __future__ import annotations

import base64
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from libs.common.errors import PermanentError

ROWS = 4096  # rows that are Python objects at once


class JsonlWriteOptions(BaseModel):
    """Writer options of jsonl: none so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JsonlWriter:
    """One object per row: binary as base64, times as ISO 8601, decimals as text."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = Path(path).open("wb")  # noqa: SIM115

    def write(self, batch: pa.RecordBatch) -> None:
        for at in range(0, batch.num_rows, ROWS):
            self._file.writelines(map(json_line, self._rows(batch.slice(at, ROWS))))

    def _rows(self, batch: pa.RecordBatch) -> list[dict[str, object]]:
        try:
            rows: list[dict[str, object]] = batch.to_pylist(maps_as_pydicts="strict")
        except KeyError as twice:
            raise PermanentError(
                f"a map has the key {twice} twice, for which JSON objects have no form",
                code="inexpressible",
            ) from twice
        return rows

    def close(self) -> None:
        self._file.close()


def json_line(row: dict[str, object]) -> bytes:
    """One row and its line end."""
    options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(row, default=plain, option=options)


def plain(value: object) -> object:
    """What JSON has no form for."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case datetime() | date() | time():
            return value.isoformat().replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case _:
            return str(value)
