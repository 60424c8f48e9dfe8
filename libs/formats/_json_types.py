"""Types of JSON values: null below all; int64 below double; lists and structs of such; else text.

As with texts (`_types`), a column's type is the join of its values' types, and reading with a type
raises TypeConflict exactly when the join would be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain

import pyarrow as pa

from libs.formats import TypeConflict
from libs.formats._json_values import Json, text_of
from libs.formats._types import EXACT, WIDE

MAX_DEPTH = 32  # below it, values are kept as JSON text
NONE = type(None)
# Mark of a null column in which {} stood: an object without fields has no Arrow type that every
# consumer can store. It joins with objects, and with nothing else but null.
EMPTY_OBJECT = {b"oneblock.empty_object": b"1"}


def infer_fields(rows: Sequence[dict[str, Json]], depth: int = 0) -> dict[str, pa.Field]:
    """All fields in order of first appearance, each with the join of its values' types."""
    names = dict.fromkeys(chain.from_iterable(rows))
    return {name: infer_field(name, [r.get(name) for r in rows], depth) for name in names}


def infer_field(name: str, values: Sequence[Json], depth: int = 0) -> pa.Field:
    """The narrowest field that holds all values."""
    kinds = set(map(type, values)) - {NONE}
    if not kinds:
        return pa.field(name, pa.null())
    if kinds == {dict} and depth < MAX_DEPTH:
        objects = [v for v in values if isinstance(v, dict)]
        inner = infer_fields(objects, depth + 1)
        if not inner:
            return pa.field(name, pa.null(), metadata=EMPTY_OBJECT)
        return pa.field(name, pa.struct(list(inner.values())))
    if kinds == {list} and depth < MAX_DEPTH:
        members = list(chain.from_iterable(v for v in values if isinstance(v, list)))
        return pa.field(name, pa.list_(infer_field("item", members, depth + 1)))
    return _scalar(name, values, kinds)


def _scalar(name: str, values: Sequence[Json], kinds: set[type]) -> pa.Field:
    if kinds == {bool}:
        return pa.field(name, pa.bool_())
    if kinds == {float}:
        return pa.field(name, pa.float64())
    if kinds <= {int, float}:
        whole = [v for v in values if type(v) is int]
        low, high = min(whole), max(whole)
        wide = low < -EXACT or high > EXACT
        if kinds == {int} and low >= -(2**63) and high < 2**63:
            return pa.field(name, pa.int64(), metadata=WIDE if wide else None)
        if kinds == {int, float} and not wide:
            return pa.field(name, pa.float64())
    return pa.field(name, pa.string())


def join_json(a: pa.Field, b: pa.Field) -> pa.Field:
    """The narrowest field that holds what both hold; of the name of `a`."""
    if pa.types.is_null(a.type):
        return _join_null(a, b, a.name)
    if pa.types.is_null(b.type):
        return _join_null(b, a, a.name)
    if pa.types.is_list(a.type) and pa.types.is_list(b.type):
        return pa.field(a.name, pa.list_(join_json(a.type.value_field, b.type.value_field)))
    if pa.types.is_struct(a.type) and pa.types.is_struct(b.type):
        fields = {f.name: f for f in a.type}
        join_fields(fields, {f.name: f for f in b.type})
        return pa.field(a.name, pa.struct(list(fields.values())))
    if a.type == b.type:
        return a if a.metadata else b
    if {a.type, b.type} == {pa.int64(), pa.float64()} and not (a.metadata or b.metadata):
        return pa.field(a.name, pa.float64())
    return pa.field(a.name, pa.string())


def _join_null(none: pa.Field, other: pa.Field, name: str) -> pa.Field:
    plain = not none.metadata
    if plain or pa.types.is_struct(other.type):
        return other.with_name(name)
    if pa.types.is_null(other.type):
        return none.with_name(name)
    return pa.field(name, pa.string())


def join_fields(into: dict[str, pa.Field], more: dict[str, pa.Field]) -> None:
    """Joins `more` into `into`, new ones after the known."""
    for name, field in more.items():
        into[name] = join_json(into[name], field) if name in into else field


def join_json_schemas(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """All columns in order of first appearance, each with the join of its types."""
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        join_fields(fields, {f.name: f for f in schema})
    return pa.schema(list(fields.values()))


def column_of(field: pa.Field, values: Sequence[Json], depth: int = 0) -> pa.Array:
    """The values as `field`'s type; raises TypeConflict when one's own type isn't below it."""
    kind = field.type
    kinds = set(map(type, values)) - {NONE}
    if pa.types.is_string(kind):
        return pa.array(values if kinds <= {str} else [text_of(v) for v in values], kind)
    if not kinds:
        return pa.nulls(len(values), kind)
    if depth < MAX_DEPTH:
        if kinds == {list} and pa.types.is_list(kind):
            return _lists(field, values, depth)
        if kinds == {dict} and pa.types.is_struct(kind):
            return _structs(field, values, depth)
    if pa.types.is_null(kind) and field.metadata and not any(values) and kinds == {dict}:
        return pa.nulls(len(values))
    if not _below(kinds, kind, values):
        raise TypeConflict(field.name, f"not every value is a {kind}")
    try:
        return pa.array(values, kind)
    except OverflowError as wrong:
        raise TypeConflict(field.name, "an integer beyond 64 bits") from wrong


def _below(kinds: set[type], kind: pa.DataType, values: Sequence[Json]) -> bool:
    if pa.types.is_float64(kind) and kinds <= {int, float}:
        return int not in kinds or all(-EXACT <= v <= EXACT for v in values if type(v) is int)
    exactly = {bool: pa.types.is_boolean, int: pa.types.is_int64}
    return any(kinds == {own} and holds(kind) for own, holds in exactly.items())


def _lists(field: pa.Field, values: Sequence[Json], depth: int) -> pa.Array:
    inner = field.type.value_field
    members = list(chain.from_iterable(v for v in values if isinstance(v, list)))
    child = column_of(inner, members, depth + 1)
    lengths = (len(v) if isinstance(v, list) else 0 for v in values)
    offsets = pa.array(list(accumulate(lengths, initial=0)), pa.int32())
    mask = pa.array([v is None for v in values])
    return pa.ListArray.from_arrays(offsets, child, type=field.type, mask=mask)


def _structs(field: pa.Field, values: Sequence[Json], depth: int) -> pa.Array:
    objects = [v if isinstance(v, dict) else {} for v in values]
    fields = list(field.type)
    if unknown := set().union(*objects) - {f.name for f in fields}:
        raise TypeConflict(field.name, f"a new field {min(unknown)!r}")
    children = [column_of(f, [o.get(f.name) for o in objects], depth + 1) for f in fields]
    mask = pa.array([v is None for v in values])
    return pa.StructArray.from_arrays(children, fields=fields, mask=mask)


def key_column(values: Sequence[Json]) -> pa.Array:
    """The values of a declared key, each by its own type: what others are doesn't change a key."""
    kinds = set(map(type, values)) - {NONE}
    if kinds <= {str}:
        return pa.array(values, pa.string())
    if kinds & {list, dict}:
        return pa.nulls(len(values), pa.list_(pa.null()))  # refused with its name
    return pa.array([_key_text(v) for v in values], pa.string())


def _key_text(value: Json) -> str | None:
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    return repr(value) if isinstance(value, float) else text_of(value)
