"""Row keys: xxh3-128 over a canonical encoding that never changes (see docs/row-keys.md).

A list of texts is encoded as its members joined with a comma; inside a member ESC is doubled, a
comma gets an ESC before it. So the common case, a raw CSV line without quotes, is its own encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from libs.common.errors import PermanentError
from libs.formats import HASH, ROW, SOURCE, SYSTEM_FIELDS

ESC, COMMA = b"\x1b", b","
EMPTY = ESC + b"e"  # a text that is there and empty, where absent ones are nothing


def encode_texts(texts: Iterable[str]) -> bytes:
    """The canonical encoding of a list of texts."""
    return COMMA.join(
        text.encode().replace(ESC, ESC + ESC).replace(COMMA, ESC + COMMA) for text in texts
    )


def names_seed(names: Iterable[str]) -> int:
    """Seed that makes records with other column names other records."""
    return xxh3_64_intdigest(encode_texts(names))


def digests(records: Iterable[bytes], seed: int = 0) -> np.ndarray:
    """xxh3-128 of each, as rows of 16 bytes."""
    joined = b"".join([xxh3_128_digest(record, seed) for record in records])
    return np.frombuffer(joined, np.uint8).reshape(-1, 16)


def records_of(array: pa.Array) -> list[bytes]:
    """The values of a binary or string array as bytes."""
    offsets = np.frombuffer(array.buffers()[1], np.int32)
    bounds = offsets[array.offset : array.offset + len(array) + 1].tolist()
    data = array.buffers()[2]
    raw = data.to_pybytes() if data is not None else b""
    return [raw[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


def escaped(texts: pa.Array) -> pa.Array:
    """Each text as it stands inside a canonical list."""
    data = texts.buffers()[2]
    raw = memoryview(data) if data is not None else b""
    raw = bytes(raw)
    if ESC in raw:
        texts = pc.replace_substring(texts, ESC.decode(), (ESC + ESC).decode())
    if COMMA in raw:
        texts = pc.replace_substring(texts, ",", (ESC + COMMA).decode())
    return texts


def join_texts(columns: Sequence[pa.Array]) -> pa.Array:
    """One canonical list per row out of columns of escaped texts without nulls."""
    if len(columns) == 1:
        return columns[0]
    return pc.binary_join_element_wise(*columns, ",")


def key_texts(name: str, column: pa.Array) -> pa.Array:
    """Canonical texts of a declared key's values, the same from every format."""
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if pa.types.is_large_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        raise PermanentError(
            f"column {name!r} can't be a key: its type is {kind}; a key is a scalar",
            code="invalid_key", path="spec.source.key",
        )  # fmt: skip
    return pa.array([_text(value) for value in column.to_pylist()], pa.string())


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 2**53
        return str(int(value)) if whole else repr(value)
    if isinstance(value, bytes):
        return value.hex()
    iso = getattr(value, "isoformat", None)
    if iso is not None:
        return str(iso()).replace("+00:00", "Z")
    return str(value)


def declared_keys(columns: dict[str, pa.Array], key: Sequence[str], where: str) -> np.ndarray:
    """Keys from the declared columns; raises PermanentError `column_missing`, `key_null`."""
    texts = []
    for name in key:
        if name not in columns:
            raise PermanentError(
                f"{where}: no column {name!r} to make keys from; columns: {', '.join(columns)}",
                code="column_missing", path="spec.source.key",
            )  # fmt: skip
        column = key_texts(name, columns[name])
        if column.null_count:
            raise PermanentError(
                f"{where}: key column {name!r} is empty in {column.null_count} rows; "
                "a row without a key can't be told from others: fill it in or leave it out",
                code="key_null", path="spec.source.key",
            )  # fmt: skip
        texts.append(escaped(column))
    return digests(records_of(join_texts(texts)))


def with_system_columns(
    columns: list[pa.Array], schema: pa.Schema, rows: np.ndarray, content: np.ndarray, source: int
) -> pa.RecordBatch:
    """The columns with `_row`, `_hash` and `_source` after them."""
    n = len(rows)
    hashes = np.ascontiguousarray(content[:, :8])
    system = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(rows)]),
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), n, [None, pa.py_buffer(hashes)]),
        pa.array(np.full(n, source, np.int64)),
    ]
    return pa.RecordBatch.from_arrays(
        [*columns, *system], schema=pa.schema([*schema, *SYSTEM_FIELDS])
    )


def refuse_reserved(names: Iterable[str], where: str) -> None:
    """Columns of the input may not be called like system columns."""
    for name in names:
        if name in (ROW, HASH, SOURCE):
            raise PermanentError(
                f"{where}: the column name {name!r} is reserved; rename it in the source",
                code="reserved_column",
            )
