"""Schemas of parquet files: made plain, checked for what may not be read, unified."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from libs.common.errors import PermanentError
from libs.formats._keys import refuse_reserved


def plain_schema(schema: pa.Schema, path: str) -> pa.Schema:
    """Without dictionaries, extension types and metadata; raises `unsafe_column_type`."""
    refuse_reserved(schema.names, path)
    return pa.schema([pa.field(f.name, _plain(f.type)) for f in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    return kind


def join_exact(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """All columns by name; types widen where nothing is lost, else `schema_mismatch`."""
    fields: dict[str, tuple[str, pa.Field]] = {}
    for path, schema in schemas:
        for field in schema:
            if field.name not in fields:
                fields[field.name] = (path, field)
                continue
            first, known = fields[field.name]
            fields[field.name] = (first, _join(first, known, path, field))
    return pa.schema([field for _, field in fields.values()])


def _join(first: str, a: pa.Field, path: str, b: pa.Field) -> pa.Field:
    try:
        merged = pa.unify_schemas([pa.schema([a]), pa.schema([b])], promote_options="permissive")
    except pa.ArrowInvalid:
        raise PermanentError(
            f"column {a.name!r} is {a.type} in {first} but {b.type} in {path}; "
            "cast one of them in the source, or read the files as two datasets",
            code="schema_mismatch", path=path,
        ) from None  # fmt: skip
    return merged.field(0)
