"""Row keys: xxh3-128 over a canonical encoding that never changes (docs/row-keys.md).

A list of texts is encoded as its members joined with commas and a newline at the end; inside a
member ESC is doubled and a comma gets an ESC before it. So the common case, a CSV line without
quotes, is its own encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice, repeat

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from libs.common.errors import PermanentError
from libs.formats import HASH, ROW, SOURCE, SYSTEM_FIELDS
from libs.formats._bulk_digests import bulk_digests
from libs.formats._key_texts import key_texts

ESC, COMMA = b"\x1b", b","
EMPTY = ESC + b"e"  # a cell that is there and empty, where one that isn't there is nothing
CHUNK = 4096  # digests made at once
BULK = 512  # records from which a bulk call is worth it
NEWLINE = 10
BATCH_ROWS = 1 << 16
BATCH_BYTES = 16 << 20
GATHERED_ROWS = 1 << 14

Digests = npt.NDArray[np.uint8]  # one row of 16 bytes each
Place = Callable[[int], str]  # row of a batch → where it stands, for messages


def encode_texts(texts: Iterable[str]) -> bytes:
    """The canonical encoding of a list of texts."""
    members = (t.encode().replace(ESC, ESC + ESC).replace(COMMA, ESC + COMMA) for t in texts)
    return COMMA.join(members) + b"\n"


def names_seed(names: Iterable[str]) -> int:
    """Seed by which records with other column names are other records."""
    return xxh3_64_intdigest(encode_texts(names))


def digests(records: Iterable[bytes], seed: int = 0) -> Digests:
    """xxh3-128 of each record."""
    each = map(xxh3_128_digest, records, repeat(seed))
    # A few thousand at a time: what is made for them is used again while still in the cache.
    parts = list(iter(lambda: b"".join(islice(each, CHUNK)), b""))
    return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 16)


def line_digests(lines: bytes, seed: int = 0) -> Digests:
    """xxh3-128 of each line, its line end included."""
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == NEWLINE) + 1
    if len(ends) < BULK:
        return digests(BytesIO(lines), seed)
    rest = [len(lines)] if ends[-1] != len(lines) else []
    bounds = np.concatenate(([0], ends, rest)).astype(np.int64)
    return _digests_of(lines, bounds, seed)


def array_digests(records: pa.Array, seed: int = 0) -> Digests:
    """xxh3-128 of each value of a string or binary array without nulls."""
    bounds = np.frombuffer(records.buffers()[1], np.int32)
    bounds = bounds[records.offset : records.offset + len(records) + 1]
    data = records.buffers()[2]
    if data is not None and len(records) >= BULK:
        return _digests_of(data, bounds.astype(np.int64), seed)
    stream = BytesIO(data.to_pybytes() if data is not None else b"")
    stream.seek(int(bounds[0]))
    return digests(map(stream.read, np.diff(bounds).tolist()), seed)


def _digests_of(data: bytes | pa.Buffer, bounds: npt.NDArray[np.int64], seed: int) -> Digests:
    found = np.frombuffer(bulk_digests(data, bounds, seed), np.uint8)
    return found.reshape(-1, 16)


def escaped(texts: pa.StringArray) -> pa.StringArray:
    """Each text as it stands inside a canonical list."""
    data = texts.buffers()[2]
    raw = data.to_pybytes() if data is not None else b""
    if ESC in raw:
        texts = pc.replace_substring(texts, ESC.decode(), (ESC + ESC).decode())
    if COMMA in raw:
        texts = pc.replace_substring(texts, COMMA.decode(), (ESC + COMMA).decode())
    return texts


def text_digests(columns: Sequence[pa.StringArray], seed: int = 0) -> Digests:
    """Keys of the rows that these columns of escaped texts without nulls make."""
    last = pc.binary_join_element_wise(columns[-1], "", "\n")  # also where there is one only
    records = pc.binary_join_element_wise(*columns[:-1], last, ",") if columns[1:] else last
    lines = records.buffers()[2]
    found = line_digests(lines.to_pybytes() if lines is not None else b"", seed)
    if len(found) == len(records):
        return found
    return array_digests(records, seed)  # line ends inside of texts: cut by length


def require_columns(key: Sequence[str], names: Iterable[str], path: str) -> None:
    """Raises `column_missing` unless every declared key column is there."""
    known = list(names)
    missing = [name for name in key if name not in known]
    if missing:
        raise PermanentError(
            f"{path}: no column {', '.join(map(repr, missing))} to make row keys from; "
            f"columns: {', '.join(known)}",
            code="column_missing",
            path="spec.source.key",
        )


def declared_keys(columns: Mapping[str, pa.Array], key: Sequence[str], place: Place) -> Digests:
    """Keys from the declared columns; raises `key_null`, `invalid_key`."""
    texts = [key_texts(name, columns[name]) for name in key]
    for name, column in zip(key, texts, strict=True):
        if column.null_count:
            row = pc.index(pc.is_null(column), True).as_py()
            raise PermanentError(
                f"{place(row)}: the key column {name!r} is empty; a row without a key can't be "
                "told from others: fill it in, or declare another key",
                code="key_null",
                path="spec.source.key",
            )
    return text_digests([escaped(column) for column in texts])


def with_system_columns(
    columns: Sequence[pa.Array], schema: pa.Schema, rows: Digests, content: Digests, source: int
) -> Iterator[pa.RecordBatch]:
    """The columns with `_row`, `_hash` and `_source` after them, in batches of bounded size."""
    n = len(rows)
    hashes = np.ascontiguousarray(content[:, :8])
    system = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(rows)]),
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), n, [None, pa.py_buffer(hashes)]),
        pa.array(np.full(n, source, np.int64)),
    ]
    batch = pa.RecordBatch.from_arrays([*columns, *system], schema=full_schema(schema))
    parts = max(-(-n // BATCH_ROWS), -(-batch.nbytes // BATCH_BYTES))
    step = max(-(-n // max(parts, 1)), 1)
    for at in range(0, n, step):
        yield batch.slice(at, step)


def gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small batches put together: what is done per batch is worth it for some thousand rows."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if waiting and (rows + batch.num_rows > BATCH_ROWS or size + batch.nbytes > BATCH_BYTES):
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= GATHERED_ROWS:
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_batches(waiting)


def full_schema(schema: pa.Schema) -> pa.Schema:
    """The user's columns, then the system's."""
    return pa.schema([*schema, *SYSTEM_FIELDS], schema.metadata)


def refuse_reserved(names: Iterable[str], path: str) -> None:
    """Raises `reserved_column` for columns called like system columns."""
    for name in names:
        if name in (ROW, HASH, SOURCE):
            raise PermanentError(
                f"{path}: the column name {name!r} is reserved; rename it in the source",
                code="reserved_column",
                path=path,
            )
