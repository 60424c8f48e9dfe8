"""Canonical texts of declared keys: 5 in an int column, in a CSV and in a string are one key."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa

from libs.common.errors import PermanentError

EXACT = 2**53


def key_texts(name: str, column: pa.Array) -> pa.StringArray:
    """The same text for the same value from every format; raises `invalid_key` for nested ones."""
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_nested(kind):
        raise PermanentError(
            f"column {name!r} can't be a key: it is a {kind}, and a key is a single value",
            code="invalid_key",
            path="spec.source.key",
        )
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return _nanoseconds(column)
    return pa.array([text_of(value) for value in column.to_pylist()], pa.string())


def text_of(value: object) -> str | None:
    """The canonical text of one value."""
    match value:
        case None:
            return None
        case str():
            return value
        case float():
            whole = value.is_integer() and abs(value) <= EXACT
            return str(int(value)) if whole else repr(value)
        case bytes():
            return value.hex()
        case Decimal():
            text = format(value, "f")
            return text.rstrip("0").rstrip(".") if "." in text else text
        case datetime() | date() | time():
            return value.isoformat().replace("+00:00", "Z")
        case timedelta():
            return str(value // timedelta(microseconds=1)) + "us"
        case _:
            return str(value)


def _nanoseconds(column: pa.TimestampArray) -> pa.StringArray:
    """ISO 8601 with microseconds where nothing is below them, else with nanoseconds."""
    zone = "Z" if column.type.tz else ""
    texts: list[str | None] = []
    for whole in column.cast(pa.int64()).to_pylist():
        if whole is None:
            texts.append(None)
            continue
        micros, below = divmod(whole, 1000)
        text = (datetime(1970, 1, 1) + timedelta(microseconds=micros)).isoformat()
        if below:
            text = (text if "." in text else text + ".000000") + f"{below:03d}"
        texts.append(text + zone)
    return pa.array(texts, pa.string())
