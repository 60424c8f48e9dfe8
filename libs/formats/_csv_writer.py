"""Writing CSV parts (RFC 4180, lines ended by \\n): quotes only where they are needed.

Null is an empty cell and an empty text is `""`, so both are read back; in a table of one column
null is `""` too, because an empty line is no record. Nested values are JSON, binary is base64.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from libs.formats._csv_dialect import Char
from libs.formats._json_writer import plain

FORMULA = r"^[=+\-@\t\r\x00]"
Texts = Callable[[pa.Array], pa.StringArray]


class CsvWriteOptions(BaseModel):
    """Writer options of csv."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: bool = True
    delimiter: Char = ","
    # An apostrophe before texts that a spreadsheet would run (OWASP ASVS 1.2.10); changes the data.
    escape_formulas: bool = False


class CsvWriter:
    """Writes batches as text, a column at a time."""

    def __init__(self, path: str, schema: pa.Schema, options: CsvWriteOptions) -> None:
        self._options = options
        self._alone = len(schema) == 1
        self._file = Path(path).open("wb")  # noqa: SIM115
        if options.header and len(schema):
            names = [pa.array([name], pa.string()) for name in schema.names]
            self._write([self._quoted(name) for name in names])

    def write(self, batch: pa.RecordBatch) -> None:
        self._write([self._cells(column) for column in batch.columns])

    def close(self) -> None:
        self._file.close()

    def _write(self, columns: list[pa.StringArray]) -> None:
        end = pa.scalar("\n")
        last = pc.binary_join_element_wise(columns[-1], end, "")
        rows = [*columns[:-1], last]
        lines = pc.binary_join_element_wise(*rows, self._options.delimiter)
        data = lines.buffers()[2]
        if data is not None:
            self._file.write(data)

    def _cells(self, column: pa.Array) -> pa.StringArray:
        texts, written = _texts(column)
        if written and self._options.escape_formulas:
            risky = pc.match_substring_regex(texts, FORMULA)
            texts = pc.if_else(risky, pc.binary_join_element_wise("'", texts, ""), texts)
        if written:
            texts = self._quoted(texts)
        return texts.fill_null('""' if self._alone else "") if texts.null_count else texts

    def _quoted(self, texts: pa.StringArray) -> pa.StringArray:
        """Texts that would be read differently without quotes, in quotes."""
        data = texts.buffers()[2]
        raw = data.to_pybytes() if data is not None else b""
        special = [c for c in (self._options.delimiter, '"', "\n", "\r") if c.encode() in raw]
        need = pc.equal(texts, "")
        for character in special:
            need = pc.or_(need, pc.match_substring(texts, character))
        if not pc.any(need).as_py():
            return texts
        doubled = pc.replace_substring(texts, '"', '""') if '"' in special else texts
        return pc.if_else(need, pc.binary_join_element_wise('"', doubled, '"', ""), texts)


def _texts(column: pa.Array) -> tuple[pa.StringArray, bool]:
    """Texts of a column's values, and whether people wrote them (so that they may need quotes)."""
    kind, types = column.type, pa.types
    if types.is_string(kind):
        return column, True
    if types.is_large_string(kind) or types.is_string_view(kind):
        return column.cast(pa.string()), True
    if types.is_floating(kind):
        texts = column.cast(pa.string())
        return pc.if_else(pc.is_nan(column), "NaN", texts), False
    if types.is_nested(kind) or types.is_duration(kind) or types.is_dictionary(kind):
        return pa.array([_json(v) for v in column.to_pylist()], pa.string()), True
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return pa.array([_base64(v) for v in column.to_pylist()], pa.string()), True
    return column.cast(pa.string()), False


def _json(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    options = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, default=plain, option=options).decode()


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
