"""Types of text values: the lattice null < bool, int64 < double, date < timestamp; else string.

A column's type is the join of its values' types, so it depends neither on order nor on splits:
`convert` accepts a column exactly when each of its values lies below the target type, therefore
types taken from the head either are the whole column's types or raise TypeConflict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.formats import TypeConflict

TIMESTAMP = pa.timestamp("us")
INSTANT = pa.timestamp("us", "UTC")
NARROWEST_FIRST = (
    pa.bool_(), pa.int64(), pa.float64(), pa.date32(), TIMESTAMP, INSTANT,
)  # fmt: skip
TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?|NaN|-?inf")
INTEGER = re.compile(r"-?[0-9]+")
EXACT = 2**53  # integers beyond it are not all doubles
# Mark of an int64 column with values beyond EXACT: joined with double it becomes string.
WIDE = {b"oneblock.wide": b"1"}


def infer_column(name: str, texts: pa.StringArray) -> pa.Field:
    """The narrowest type that holds every value; null and empty texts have none."""
    values = texts.filter(pc.greater(pc.binary_length(texts), 0))
    if not len(values):
        return pa.field(name, pa.null())
    for kind in NARROWEST_FIRST:
        try:
            _converted(values[:1], kind)
            found = _converted(values, kind)
        except ValueError:
            continue
        return pa.field(name, kind, metadata=WIDE if _wide(found) else None)
    return pa.field(name, pa.string())


def convert(name: str, texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    """The texts as `kind`; raises TypeConflict when a value's own type isn't below `kind`."""
    if kind == pa.string():
        return texts
    filled = pc.greater(pc.binary_length(texts), 0)
    if not pc.all(filled, skip_nulls=False).as_py():
        texts = pc.if_else(filled, texts, pa.scalar(None, pa.string()))
    try:
        return _converted(texts, kind)
    except ValueError as wrong:  # pa.ArrowInvalid is one
        raise TypeConflict(name, f"not every value is a {kind}: {wrong}") from wrong


def _converted(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(kind):
        if texts.null_count < len(texts):
            raise ValueError("has values")
        return pa.nulls(len(texts))
    if pa.types.is_boolean(kind):
        return _booleans(texts)
    found = pc.cast(texts, kind)
    if pa.types.is_int64(kind):
        _refuse_unusual(texts)
    elif pa.types.is_float64(kind):
        _refuse_inexact(texts, found)
    return found


def _booleans(texts: pa.StringArray) -> pa.Array:
    true = pc.is_in(texts, pa.array(TRUE))
    false = pc.is_in(texts, pa.array(FALSE))
    if not pc.all(pc.or_(pc.or_(true, false), pc.is_null(texts))).as_py():
        raise ValueError("neither true nor false")
    return pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), true)


def _first_bytes(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """(the first three bytes of each text as columns, zero beyond its end; lengths)."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = texts.buffers()[2]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    heads = np.zeros((3, len(texts)), np.uint8)
    last = max(len(raw) - 1, 0)
    for i in range(3):
        if len(raw):
            heads[i] = np.where(lengths > i, raw[np.minimum(offsets[:-1] + i, last)], 0)
    return heads, lengths


def _refuse_unusual(texts: pa.StringArray) -> None:
    """Integers that don't print back the same: 007, 0x1F, -0."""
    heads, lengths = _first_bytes(texts)
    leading = (heads[0] == ord("0")) & (lengths > 1)
    negative = (heads[0] == ord("-")) & (heads[1] == ord("0"))
    if leading.any() or negative.any():
        raise ValueError("an integer with leading zeros")


def _refuse_inexact(texts: pa.StringArray, found: pa.Array) -> None:
    """Numbers not written as JSON writes them, out of range, or integers that lose digits."""
    heads, _ = _first_bytes(texts)
    second = np.where(heads[0] == ord("-"), heads[2], heads[1])
    first = np.where(heads[0] == ord("-"), heads[1], heads[0])
    odd = (first == ord("0")) & (second >= ord("0")) & (second <= ord("9"))
    odd |= (heads[0] == ord("+")) | (first >= ord("A"))
    values = found.to_numpy(zero_copy_only=False)
    odd |= ~(np.abs(values) < EXACT) & ~np.isnan(values)
    if not odd.any():
        return
    for text in pc.filter(texts, pa.array(odd)).to_pylist():
        if text is not None:
            _check_number(text)


def _check_number(text: str) -> None:
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not written as a number")
    if INTEGER.fullmatch(text) and abs(int(text)) > EXACT:
        raise ValueError(f"{text!r} has more digits than a double")
    if "inf" not in text and text != "NaN" and abs(float(text)) == float("inf"):
        raise ValueError(f"{text!r} is out of range")


def _wide(found: pa.Array) -> bool:
    if not pa.types.is_int64(found.type):
        return False
    ends = pc.min_max(found)
    return bool(ends["min"].as_py() < -EXACT or ends["max"].as_py() > EXACT)


def join_fields(a: pa.Field, b: pa.Field) -> pa.Field:
    """The narrowest field that holds what both hold."""
    if pa.types.is_null(a.type) or a.type == b.type and not a.metadata:
        return b
    if pa.types.is_null(b.type) or a.type == b.type:
        return a
    kinds = {a.type, b.type}
    wide = a.metadata or b.metadata
    if kinds == {pa.int64(), pa.float64()} and not wide:
        return pa.field(a.name, pa.float64())
    if kinds == {pa.date32(), TIMESTAMP}:
        return pa.field(a.name, TIMESTAMP)
    return pa.field(a.name, pa.string())


def join_text_schemas(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """All columns in order of first appearance, each with the join of its types."""
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            known = fields.get(field.name)
            fields[field.name] = join_fields(known, field) if known else field
    return pa.schema(list(fields.values()))
