"""Arrow columns as JSON values: what a browser shows, and what a client can read back.

By Arrow type, never by Python object, so nothing in the data decides which code runs, and every
value that Arrow can hold has an answer (a timestamp of the year 200000 too). Integers stay numbers
(all 64 bits: JavaScript must read them as BigInt); NaN and infinities become null; decimals, dates,
times and durations are strings; binary is base64; a map is a list of {key, value}.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import cast
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as t

Values = list[object]


def values(column: pa.Array | pa.ChunkedArray) -> Values:
    """One JSON-able value per row."""
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in values(chunk)]
    return _converter(column.type)(column)


def _converter(kind: pa.DataType) -> Callable[[pa.Array], Values]:
    for is_kind, convert in _CONVERTERS:
        if is_kind(kind):
            return convert
    return _odd


def _plain(column: pa.Array) -> Values:
    return cast(Values, column.to_pylist())


def _odd(column: pa.Array) -> Values:
    """What JSON has no word for (an interval): as Python writes it."""
    return [None if value is None else str(value) for value in column.to_pylist()]


def _strings(column: pa.Array) -> Values:
    """Text that isn't UTF-8, which a careless writer can leave in a file, is shown as well."""
    try:
        return cast(Values, column.to_pylist())
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if v is None else v.decode("utf-8", "replace") for v in raw]


def _extension(column: pa.Array) -> Values:
    """The storage, never the extension's own conversion: that could run code."""
    stored = values(cast(pa.ExtensionArray, column).storage)
    if isinstance(column.type, pa.UuidType):
        return [None if v is None else str(UUID(bytes=base64.b64decode(str(v)))) for v in stored]
    return stored


def _dictionary(column: pa.Array) -> Values:
    return values(cast(pa.DictionaryArray, column).dictionary_decode())


def _as_text(column: pa.Array) -> Values:
    return cast(Values, column.cast(pa.string()).to_pylist())


def _timestamps(column: pa.Array) -> Values:
    """ISO 8601 with all digits of the unit; a time zone is told as UTC (`Z`).

    Arrow says `<value out of range: …>` for years beyond 32767, and so do we.
    """
    zoned = cast(pa.TimestampType, column.type).tz is not None
    naive = column.cast(pa.timestamp(cast(pa.TimestampType, column.type).unit))
    texts = naive.cast(pa.string()).to_pylist()
    return [text if text is None or text[0] == "<" else _iso(text, zoned) for text in texts]


def _iso(text: str, zoned: bool) -> str:
    return text.replace(" ", "T") + ("Z" if zoned else "")


def _durations(column: pa.Array) -> Values:
    """ISO 8601 in seconds: PT1.5S."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    scale = per_second[cast(pa.DurationType, column.type).unit]
    counts = column.cast(pa.int64()).to_pylist()
    return [None if n is None else _seconds(n, scale) for n in counts]


def _seconds(count: int, scale: int) -> str:
    whole, rest = divmod(abs(count), scale)
    fraction = f".{rest:0{len(str(scale)) - 1}d}".rstrip("0") if rest else ""
    return f"{'-' if count < 0 else ''}PT{whole}{fraction}S"


def _binary(column: pa.Array) -> Values:
    raw = column.to_pylist()
    return [None if v is None else base64.b64encode(v).decode() for v in raw]


def _halves(column: pa.Array) -> Values:
    return cast(Values, column.cast(pa.float32()).to_pylist())


def _lists(column: pa.Array) -> Values:
    """Lengths and one flat column of elements: right for slices, null lists and fixed sizes."""
    lengths = pc.list_value_length(column).to_pylist()
    elements = iter(values(pc.list_flatten(column)))
    return [None if n is None else [next(elements) for _ in range(n)] for n in lengths]


def _structs(column: pa.Array) -> Values:
    names = [field.name for field in cast(pa.StructType, column.type)]
    fields = [values(child) for child in cast(pa.StructArray, column).flatten()]
    there = column.is_valid().to_pylist()
    rows = zip(*fields, strict=True) if fields else (() for _ in there)
    pairs = zip(there, rows, strict=True)
    return [dict(zip(names, row, strict=True)) if valid else None for valid, row in pairs]


def _maps(column: pa.Array) -> Values:
    kind = cast(pa.MapType, column.type)
    entries = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
    return _lists(column.cast(entries))


def _encoded_runs(column: pa.Array) -> Values:
    return values(pc.run_end_decode(column))


def _is_extension(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType)


_CONVERTERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], Values]], ...] = (
    (_is_extension, _extension),
    (
        lambda k: t.is_integer(k) or t.is_boolean(k) or t.is_float32(k) or t.is_float64(k)
        or t.is_null(k),
        _plain,
    ),
    (lambda k: t.is_string(k) or t.is_large_string(k) or t.is_string_view(k), _strings),
    (t.is_timestamp, _timestamps),
    (t.is_duration, _durations),
    (lambda k: t.is_date(k) or t.is_time(k) or t.is_decimal(k), _as_text),
    (
        lambda k: t.is_binary(k) or t.is_large_binary(k) or t.is_fixed_size_binary(k)
        or t.is_binary_view(k),
        _binary,
    ),
    (t.is_float16, _halves),
    (t.is_map, _maps),
    (
        lambda k: t.is_list(k) or t.is_large_list(k) or t.is_fixed_size_list(k)
        or t.is_list_view(k) or t.is_large_list_view(k),
        _lists,
    ),
    (t.is_struct, _structs),
    (t.is_dictionary, _dictionary),
    (t.is_run_end_encoded, _encoded_runs),
)  # fmt: skip
