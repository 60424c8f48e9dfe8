"""Types of JSON values: as of text values, plus lists and structs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import orjson
import pyarrow as pa

from libs.formats import TypeConflict
from libs.formats._types import EXACT, WIDE

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"


def infer_rows(rows: Iterable[dict[str, Json]]) -> pa.Schema:
    """All fields in order of first appearance, each with the join of its values' types."""
    fields: dict[str, pa.Field] = {}
    for row in rows:
        for name, value in row.items():
            found = field_of(name, value)
            fields[name] = join_json(fields[name], found) if name in fields else found
    return pa.schema(list(fields.values()))


def field_of(name: str, value: Json) -> pa.Field:
    """The narrowest field that holds one value."""
    match value:
        case None:
            return pa.field(name, pa.null())
        case bool():
            return pa.field(name, pa.bool_())
        case int():
            if not -(2**63) <= value < 2**63:
                return pa.field(name, pa.string())
            return pa.field(name, pa.int64(), metadata=WIDE if abs(value) > EXACT else None)
        case float():
            return pa.field(name, pa.float64())
        case str():
            return pa.field(name, pa.string())
        case list():
            item = pa.field("item", pa.null())
            for member in value:
                item = join_json(item, field_of("item", member))
            return pa.field(name, pa.list_(item))
        case dict():
            return pa.field(name, pa.struct([field_of(k, v) for k, v in value.items()]))


def join_json(a: pa.Field, b: pa.Field) -> pa.Field:
    """The narrowest field that holds what both hold; unlike kinds become JSON text."""
    if pa.types.is_null(a.type) or (a.type == b.type and not a.metadata and not pa.types.is_nested(a.type)):
        return b.with_name(a.name)
    if pa.types.is_null(b.type):
        return a
    if pa.types.is_list(a.type) and pa.types.is_list(b.type):
        return pa.field(a.name, pa.list_(join_json(a.type.value_field, b.type.value_field)))
    if pa.types.is_struct(a.type) and pa.types.is_struct(b.type):
        joined = join_json_schemas([pa.schema(list(a.type)), pa.schema(list(b.type))])
        return pa.field(a.name, pa.struct(list(joined)))
    if a.type == b.type:
        return a
    if {a.type, b.type} == {pa.int64(), pa.float64()} and not a.metadata and not b.metadata:
        return pa.field(a.name, pa.float64())
    return pa.field(a.name, pa.string())


def join_json_schemas(schemas: Iterable[pa.Schema]) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            known = fields.get(field.name)
            fields[field.name] = join_json(known, field) if known else field
    return pa.schema(list(fields.values()))


def column_of(field: pa.Field, values: Sequence[Json]) -> pa.Array:
    """The values as `field`'s type; raises TypeConflict when one doesn't fit."""
    if pa.types.is_string(field.type):
        return pa.array([_text(v) for v in values], pa.string())
    own = pa.field(field.name, pa.null())
    for value in values:
        own = join_json(own, field_of(field.name, value))
    if join_json(own, field).type != field.type:
        raise TypeConflict(field.name, f"not every value is a {field.type}")
    return pa.array(values, field.type)


def _text(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
