"""Types of text values: null below bool, int64, double, date, timestamp; int64 below double.

A column's type is the join of its values' types, so it depends neither on order nor on splits.
`convert` accepts a column exactly when each value's type lies below the target, therefore types
taken from the head either are those of the whole column or raise TypeConflict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.formats import TypeConflict

TIMESTAMP = pa.timestamp("us")
INSTANT = pa.timestamp("us", "UTC")
NARROWEST_FIRST = (pa.bool_(), pa.int64(), pa.float64(), pa.date32(), TIMESTAMP, INSTANT)
TRUE, FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*|(?=\.[0-9]))(\.[0-9]*)?([eE][+-]?[0-9]+)?|NaN|-?inf")
INTEGER = re.compile(r"-?[0-9]+")
EXACT = 2**53  # integers beyond it are not all doubles
# Mark of an int64 column with values beyond EXACT: joined with double it becomes string.
WIDE = {b"oneblock.wide": b"1"}

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


def infer_column(name: str, texts: pa.StringArray) -> pa.Field:
    """The narrowest type that holds every value; nulls have none."""
    values = texts.drop_null()
    if not len(values):
        return pa.field(name, pa.null())
    for kind in NARROWEST_FIRST:
        try:
            _converted(values.slice(0, 1), kind)
            found = _converted(values, kind)
        except ValueError:  # pa.ArrowInvalid is one
            continue
        return pa.field(name, kind, metadata=WIDE if _wide(found) else None)
    return pa.field(name, pa.string())


def convert(name: str, texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    """The texts as `kind`; raises TypeConflict when a value's own type isn't below `kind`."""
    if pa.types.is_string(kind):
        return texts
    try:
        return _converted(texts, kind)
    except ValueError as wrong:
        raise TypeConflict(name, f"not every value is a {kind}: {wrong}") from wrong


def _converted(texts: pa.StringArray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(kind):
        if texts.null_count < len(texts):
            raise ValueError("there are values")
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
    known = pc.or_(pc.or_(true, pc.is_in(texts, pa.array(FALSE))), pc.is_null(texts))
    if not pc.all(known).as_py():
        raise ValueError("neither true nor false")
    return (
        pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), true)
        if texts.null_count
        else true
    )


class _Starts:
    """The first bytes of each text, to look at how numbers are written."""

    def __init__(self, texts: pa.StringArray) -> None:
        offsets = np.frombuffer(texts.buffers()[1], np.int32)
        offsets = offsets[texts.offset : texts.offset + len(texts) + 1]
        data = texts.buffers()[2]
        self._raw = np.frombuffer(data, np.uint8) if int(offsets[-1]) else np.zeros(1, np.uint8)
        self._begin, self._end = offsets[:-1], offsets[1:]
        if not texts.null_count:  # then no text is empty: they all could be cast
            self.first = self._raw[self._begin]
        else:  # a null looks like the digit 1: nothing to refuse
            first = self._raw[np.minimum(self._begin, len(self._raw) - 1)]
            self.first = np.where(self._end > self._begin, first, np.uint8(ord("1")))

    def at(self, rows: Numbers, index: int) -> Bytes:
        """Byte number `index` of these rows; zero beyond a text's end."""
        places = self._begin[rows] + index
        within = places < self._end[rows]
        return np.where(within, self._raw[np.where(within, places, 0)], np.uint8(0))

    def padded(self) -> Numbers:
        """Rows whose digits begin with a zero that more digits follow."""
        zero = np.flatnonzero(self.first == ord("0"))
        minus = np.flatnonzero(self.first == ord("-"))
        return np.concatenate([
            zero[_digit(self.at(zero, 1))],
            minus[(self.at(minus, 1) == ord("0")) & _digit(self.at(minus, 2))],
        ])  # fmt: skip


def _digit(byte: Bytes) -> npt.NDArray[np.bool_]:
    return (byte >= ord("0")) & (byte <= ord("9"))


def _refuse_unusual(texts: pa.StringArray) -> None:
    """Integers that don't print back the same: 007, 0x1F, -0."""
    starts = _Starts(texts)
    zero = np.flatnonzero(starts.first == ord("0"))
    minus = np.flatnonzero(starts.first == ord("-"))
    if starts.at(zero, 1).any() or (starts.at(minus, 1) == ord("0")).any():
        raise ValueError("an integer with leading zeros")


def _refuse_inexact(texts: pa.StringArray, found: pa.Array) -> None:
    """Numbers not written as JSON writes them, out of range, or integers that lose digits."""
    starts = _Starts(texts)
    values = found.fill_null(0.0).to_numpy() if found.null_count else found.to_numpy()
    odd = np.flatnonzero(~(np.abs(values) < EXACT))  # NaN as well
    minus = np.flatnonzero(starts.first == ord("-"))
    signed = minus[starts.at(minus, 1) >= ord("A")]
    lettered = np.flatnonzero((starts.first == ord("+")) | (starts.first >= ord("A")))
    suspects = np.concatenate([odd, lettered, signed, starts.padded()])
    for row in np.unique(suspects).tolist():
        _check_number(texts[row].as_py())


def _check_number(text: str) -> None:
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not written as a number")
    if INTEGER.fullmatch(text) and (len(text) > 17 or abs(int(text)) > EXACT):
        raise ValueError(f"{text!r} has more digits than a double")
    if "inf" not in text and abs(float(text)) == float("inf"):
        raise ValueError(f"{text!r} is out of range")


def _wide(found: pa.Array) -> bool:
    if not pa.types.is_int64(found.type):
        return False
    ends = pc.min_max(found)
    return bool(ends["min"].as_py() < -EXACT or ends["max"].as_py() > EXACT)


def join_fields(a: pa.Field, b: pa.Field) -> pa.Field:
    """The narrowest field that holds what both hold."""
    if pa.types.is_null(a.type):
        return b
    if pa.types.is_null(b.type):
        return a
    if a.type == b.type:
        return a if a.metadata else b
    kinds = {a.type, b.type}
    if kinds == {pa.int64(), pa.float64()} and not (a.metadata or b.metadata):
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
            fields[field.name] = join_fields(known, field) if known is not None else field
    return pa.schema(list(fields.values()))
