"""Schemas of parquet files: made plain, checked for what may not be read, unified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from libs.common.errors import PermanentError
from libs.formats._keys import refuse_reserved
from libs.formats._parquet_footer import SAFE_EXTENSIONS

EXACT_FLOAT = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}  # bits of an integer they keep


def plain_schema(schema: pa.Schema, path: str) -> pa.Schema:
    """Without dictionaries, extension types and metadata; raises `unsafe_column_type`, ….

    Also raises `duplicate_columns` and `reserved_column`.
    """
    refuse_reserved(schema.names, path)
    twice = sorted(name for name, times in Counter(schema.names).items() if times > 1)
    if twice:
        raise PermanentError(
            f"{path}: column names appear more than once: {', '.join(map(repr, twice))}",
            code="duplicate_columns",
            path=path,
        )
    return pa.schema([_plain_field(f, path) for f in schema])


def _plain_field(field: pa.Field, path: str) -> pa.Field:
    return pa.field(field.name, plain_type(field.type, path))


def plain_type(kind: pa.DataType, path: str) -> pa.DataType:
    """The type without dictionaries and extensions, at every depth; all of it nullable."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name not in SAFE_EXTENSIONS:
            raise PermanentError(
                f"{path}: the extension type {kind.extension_name!r} isn't allowed",
                code="unsafe_column_type",
                path=path,
            )
        return plain_type(kind.storage_type, path)
    if types.is_dictionary(kind):
        return plain_type(kind.value_type, path)
    if types.is_struct(kind):
        if not kind.num_fields:
            raise _unsupported(kind, path)
        return pa.struct([_plain_field(f, path) for f in kind])
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type, path), plain_type(kind.item_type, path))
    if types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type, path), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(plain_type(kind.value_type, path))
    if types.is_list(kind):
        return pa.list_(plain_type(kind.value_type, path))
    if types.is_interval(kind) or types.is_union(kind):
        raise _unsupported(kind, path)
    return kind


def _unsupported(kind: pa.DataType, path: str) -> PermanentError:
    return PermanentError(
        f"{path}: columns of the type {kind} can't be stored; cast them in the source",
        code="unsupported_type",
        path=path,
    )


def join_exact(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """All columns by name; types widen where nothing is lost, else `schema_mismatch`."""
    fields: dict[str, tuple[str, pa.Field]] = {}
    for path, schema in schemas:
        for field in schema:
            first, known = fields.get(field.name, (path, field))
            joined = _join_types(known.type, field.type)
            if joined is None:
                raise PermanentError(
                    f"column {field.name!r} is {known.type} in {first} but {field.type} in {path}"
                    "; cast one of them in the source, or make two datasets of these files",
                    code="schema_mismatch",
                    path=path,
                )
            fields[field.name] = (first, pa.field(field.name, joined))
    return pa.schema([field for _, field in fields.values()])


def _join_types(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a == b:
        return a
    types = pa.types
    if types.is_integer(a) and types.is_integer(b):
        return _join_integers(a, b)
    if types.is_integer(a) and types.is_floating(b):
        a, b = b, a
    if types.is_floating(a) and types.is_integer(b):
        bits = b.bit_width - types.is_signed_integer(b)
        fitting = [f for f, exact in EXACT_FLOAT.items() if exact >= bits]
        return max([a, *fitting[:1]], key=lambda f: f.bit_width) if fitting else None
    if types.is_list(a) and types.is_list(b):
        inner = _join_types(a.value_type, b.value_type)
        return pa.list_(inner) if inner is not None else None
    if types.is_struct(a) and types.is_struct(b):
        return _join_structs(a, b)
    try:
        return pa.unify_schemas(
            [pa.schema([("x", a)]), pa.schema([("x", b)])],
            promote_options="permissive" if _alike(a, b) else "default",
        ).field(0).type  # fmt: skip
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _alike(a: pa.DataType, b: pa.DataType) -> bool:
    """Kinds within which Arrow's own promotion loses nothing."""
    types = pa.types

    def text(kind: pa.DataType) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    def blob(kind: pa.DataType) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    checks = (types.is_floating, types.is_decimal, types.is_null, text, blob)
    same_zone = types.is_timestamp(a) and types.is_timestamp(b) and a.tz == b.tz
    return same_zone or any(check(a) and check(b) for check in checks)


def _join_integers(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_signed_integer(a) == types.is_signed_integer(b):
        return max(a, b, key=lambda kind: kind.bit_width)
    signed, unsigned = (a, b) if types.is_signed_integer(a) else (b, a)
    width = max(signed.bit_width, unsigned.bit_width * 2)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width)


def _join_structs(a: pa.StructType, b: pa.StructType) -> pa.DataType | None:
    fields = {f.name: f.type for f in a}
    for field in b:
        joined = _join_types(fields.get(field.name, field.type), field.type)
        if joined is None:
            return None
        fields[field.name] = joined
    return pa.struct(list(fields.items()))
