"""cast: {column: type}: other types; a value that doesn't fit is an error, never a loss."""

from __future__ import annotations

import re
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.common.manifest.operations import SYNONYMS
from libs.formats import SOURCE
from services.transform.operations import Apply, Rowwise, column, invalid, mapping
from services.transform.plan import nearest

TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(),
    "float32": pa.float32(), "float64": pa.float64(),
    "string": pa.string(), "binary": pa.binary(),
    "date": pa.date32(), "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"),
}  # fmt: skip
DECIMAL = re.compile(r"(?:decimal|numeric)\((\d{1,2})(?:,\s*(\d{1,2}))?\)")
SHOWN = 80  # characters of a value that an error shows


def type_called(name: str) -> pa.DataType:
    """The Arrow type of a type's name; raises PermanentError that lists what is known."""
    lower = name.strip().lower()
    if (known := SYNONYMS.get(lower, lower)) in TYPES:
        return TYPES[known]
    decimal = DECIMAL.fullmatch(lower)
    if decimal and 1 <= int(decimal[1]) <= 38 and int(decimal[2] or 0) <= int(decimal[1]):
        return pa.decimal128(int(decimal[1]), int(decimal[2] or 0))
    listed = [*TYPES, *SYNONYMS, "decimal(p,s)"]
    near = nearest(lower, listed)
    raise invalid("cast", f"unknown type {name!r}{near}; known: {', '.join(listed)}")


class Cast:
    rowwise: ClassVar[bool] = True

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        wanted = mapping(arguments)
        for name, kind in wanted.items():
            _refuse_impossible(column("cast", schema, name), type_called(kind))
        return pa.schema(
            [f.with_type(type_called(wanted[f.name])) if f.name in wanted else f for f in schema]
        )

    def bind(self, arguments: JsonValue, schema: pa.Schema) -> Apply:
        after = self.schema(arguments, schema)
        changed = [f for f in after if f.type != schema.field(f.name).type]

        def apply(batch: pa.RecordBatch) -> pa.RecordBatch:
            for field in changed:
                at = batch.schema.get_field_index(field.name)
                batch = batch.set_column(at, field, _cast(batch, field))
            return batch

        return apply


def converted(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Raises ArrowInvalid for a value, ArrowNotImplementedError for types, that can't."""
    if pa.types.is_time(kind) and pa.types.is_string(values.type):  # Arrow lacks this one
        values = pc.cast(pc.binary_join_element_wise("1970-01-01", values, " "), pa.timestamp("us"))
    return pc.cast(values, kind)


def _refuse_impossible(field: pa.Field, kind: pa.DataType) -> None:
    try:
        converted(pa.array([], field.type), kind)
    except pa.ArrowNotImplementedError as error:
        raise PermanentError(
            f"cast: column {field.name!r} is {field.type}, which can't become {kind}",
            code="type_mismatch",
            path="spec.transform",
        ) from error


def _cast(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    values = batch.column(field.name)
    try:
        return converted(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        at = _first_failing(values, field.type)
        source = batch.column(SOURCE)[at].as_py() if SOURCE in batch.schema.names else 0
        raise BadValue(field, values[at].as_py(), source) from error


def _first_failing(values: pa.Array, kind: pa.DataType) -> int:
    """Halves the range that is known to fail until one value is left."""
    start, stop = 0, len(values)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            converted(values.slice(start, middle - start), kind)
            start = middle
        except pa.ArrowInvalid:
            stop = middle
    return start


class BadValue(PermanentError):
    """A value that can't become what was asked; names the column, the value and its file."""

    def __init__(self, field: pa.Field, value: object, source: int) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + "…"
        super().__init__(
            f"cast: column {field.name!r}: {shown} can't become {field.type}", code="cast_failed"
        )
        self.source = source

    def placed(self, paths: dict[str, str]) -> PermanentError:
        """With the file's path, for a worker that knows its files (uri → path)."""
        found = next((p for uri, p in paths.items() if source_id(uri) == self.source), None)
        return self if found is None else PermanentError(f"{found}: {self.detail}", code=self.code)


PLUGIN: Rowwise = Cast()
