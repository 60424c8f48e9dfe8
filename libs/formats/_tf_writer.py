"""Writing rows as tf.train.Example, a column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal, cast

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from libs.common.errors import PermanentError
from libs.formats._key_texts import key_texts
from libs.formats._tf_features import BYTES, FLOAT, INT64, NONE, Lists
from libs.formats._tf_frames import MASK, length_crc
from libs.formats._tf_streams import Deflating
from libs.formats._tf_wire import Bytes, Ints, binary_array, encoded

LEN_1 = b"\x0a"  # field 1, length-delimited
LEN_2 = b"\x12"
TAGS = {BYTES: b"\x0a", FLOAT: b"\x12", INT64: b"\x1a"}
FLOAT_MAX = float(np.finfo(np.float32).max)

Pieces = list[pa.BinaryArray]  # one text each of every row, to be joined


class TfWriteOptions(BaseModel):
    """Writer options of tfrecords."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compression: Literal["none", "gzip", "zlib"] = "none"


class TfWriter:
    """One Example per row: a feature per column, nulls left out."""

    def __init__(self, path: str, schema: pa.Schema, options: TfWriteOptions) -> None:
        for field in schema:
            _check(field.name, field.type)
        file = cast(BinaryIO, Path(path).open("wb"))  # noqa: SIM115  # closed by close()
        packed = options.compression != "none"
        self._file = cast(BinaryIO, Deflating(file, options.compression)) if packed else file

    def write(self, batch: pa.RecordBatch) -> None:
        try:
            data = framed(examples(batch))
        except PermanentError:
            self.close()
            raise
        self._file.write(data)

    def close(self) -> None:
        self._file.close()


def examples(batch: pa.RecordBatch) -> pa.BinaryArray:
    """Each row as the bytes of an Example."""
    rows = batch.num_rows
    entries = [_entry(f.name, c, rows) for f, c in zip(batch.schema, batch.columns, strict=True)]
    sizes = np.zeros(rows, np.int64)
    for _, more in entries:
        sizes = sizes + more
    pieces = [piece for found, _ in entries for piece in found]
    return _joined([_prefix(LEN_1, sizes), *pieces])


def framed(records: pa.BinaryArray) -> pa.Buffer:
    """The records with lengths and checksums, as they stand in a file."""
    bounds = np.frombuffer(records.buffers()[1], np.int32)[: len(records) + 1].astype(np.int64)
    raw = records.buffers()[2].to_pybytes()
    crc_of = google_crc32c.value
    ends = bounds.tolist()
    crcs = [crc_of(raw[a:b]) for a, b in pairwise(ends)]
    found = np.array(crcs, np.uint32)
    sizes = np.diff(bounds)
    heads = np.zeros(len(records), np.dtype([("length", "<u8"), ("crc", "<u4")]))
    heads["length"] = sizes
    known, which = np.unique(sizes, return_inverse=True)
    heads["crc"] = np.array([length_crc(n) for n in known.tolist()], np.uint32)[which]
    tails = (found >> 15 | found << 17) + np.uint32(MASK)
    whole = _joined([_fixed(heads.view(np.uint8), 12), records, _fixed(tails.view(np.uint8), 4)])
    return whole.buffers()[2]


def _joined(pieces: Sequence[pa.BinaryArray]) -> pa.BinaryArray:
    return pc.binary_join_element_wise(*pieces, b"")


def _fixed(content: Bytes, size: int) -> pa.BinaryArray:
    return binary_array(content, np.arange(len(content) // size + 1) * size)


def _entry(name: str, column: pa.Array, rows: int) -> tuple[Pieces, Ints]:
    """A column's map entry in each row, and its size; nothing where the value is null."""
    present = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    lists = _lists(name, column.drop_null() if len(present) < rows else column)
    if lists.kind == NONE:
        return [], np.zeros(rows, np.int64)
    pieces, sizes = _list_message(lists)
    key = name.encode()
    before = LEN_1 + encoded(np.array([len(key)], np.uint64))[0].tobytes() + key + LEN_2
    for tag in (TAGS[lists.kind], before, LEN_1):
        prefix = _prefix(tag, sizes)
        pieces = [prefix, *pieces]
        sizes = sizes + np.diff(np.frombuffer(prefix.buffers()[1], np.int32)[: len(prefix) + 1])
    if len(present) == rows:
        return pieces, sizes
    spread = np.zeros(rows, np.int64)
    spread[present] = sizes
    return [binary_array(_content(_joined(pieces)), _offsets(spread))], spread


def _list_message(lists: Lists) -> tuple[Pieces, Ints]:
    """BytesList, FloatList or Int64List of each row, and its size."""
    counts, ends = lists.counts, _offsets(lists.counts)
    if lists.kind == BYTES:
        lengths = pc.binary_length(lists.values).to_numpy(zero_copy_only=False).astype(np.int64)
        items = _joined([_prefix(LEN_1, lengths), lists.values])
        bounds = np.frombuffer(items.buffers()[1], np.int32)[: len(items) + 1].astype(np.int64)
        offsets = bounds[ends]
        return [binary_array(_content(items), offsets)], np.diff(offsets)
    if lists.kind == FLOAT:
        content, payload = lists.values.to_numpy().view(np.uint8), counts * 4
    else:
        content, each = encoded(lists.values.to_numpy().view(np.uint64))
        payload = np.diff(_offsets(each)[ends])
    packed = binary_array(content, _offsets(payload))
    filled = payload > 0
    if filled.all():
        prefix = _prefix(LEN_1, payload)
    else:  # an empty list has no payload at all
        some = _prefix(LEN_1, payload[filled])
        sizes = np.zeros(len(payload), np.int64)
        sizes[filled] = pc.binary_length(some).to_numpy(zero_copy_only=False)
        prefix = binary_array(_content(some), _offsets(sizes))
    extra = pc.binary_length(prefix).to_numpy(zero_copy_only=False)
    return [prefix, packed], payload + extra


def _prefix(tag: bytes, sizes: Ints) -> pa.BinaryArray:
    """The tag, and a length as varint."""
    content, lengths = encoded(sizes.astype(np.uint64))
    offsets = _offsets(lengths + len(tag))
    whole = np.empty(int(offsets[-1]), np.uint8)
    rest = np.ones(len(whole), np.bool_)
    for i, byte in enumerate(tag):
        whole[offsets[:-1] + i] = byte
        rest[offsets[:-1] + i] = False
    whole[rest] = content
    return binary_array(whole, offsets)


def _offsets(sizes: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes)])


def _content(values: pa.BinaryArray) -> Bytes:
    data = values.buffers()[2]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def _check(name: str, kind: pa.DataType) -> None:
    """Raises `inexpressible` for types that an Example has no form for."""
    member = kind.value_type if _is_list(kind) or pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(member) or pa.types.is_interval(member):
        raise _inexpressible(
            name, f"tfrecords has no form for {kind}: int64, float, bytes, and lists of them"
        )


def _is_list(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind))


def _inexpressible(name: str, detail: str) -> PermanentError:
    return PermanentError(f"column {name!r}: {detail}", code="inexpressible")


def _lists(name: str, column: pa.Array) -> Lists:
    """The values of a column without nulls."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    counts = np.ones(len(column), np.int64)
    if _is_list(kind):
        counts = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
        column = column.flatten()
        if column.null_count:
            raise _inexpressible(name, "a list with a null in it; tfrecords can't say that")
    found, values = _values(name, column)
    return Lists(found, counts, values)


def _values(name: str, column: pa.Array) -> tuple[int, pa.Array]:
    kind, t = column.type, pa.types
    if t.is_null(kind):
        return NONE, column
    if t.is_boolean(kind) or t.is_integer(kind):
        try:
            return INT64, column.cast(pa.int64())
        except pa.ArrowInvalid as wrong:
            raise _inexpressible(name, f"doesn't fit int64: {wrong}") from wrong
    if t.is_floating(kind):
        return FLOAT, _floats(name, column)
    if t.is_fixed_size_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind):
        return BYTES, column.cast(pa.binary())
    texts = column if t.is_binary(kind) else key_texts(name, column).cast(pa.binary())
    return BYTES, pa.concat_arrays([texts]) if texts.offset == 0 else _compact(texts)


def _compact(values: pa.BinaryArray) -> pa.BinaryArray:
    """The same values from offset zero."""
    return values.take(pa.array(np.arange(len(values))))


def _floats(name: str, column: pa.Array) -> pa.FloatArray:
    if pa.types.is_float64(column.type) and len(column):
        values = column.to_numpy(zero_copy_only=False)
        if (np.isfinite(values) & (np.abs(values) > FLOAT_MAX)).any():
            raise _inexpressible(name, "a number beyond float32, which is all that tfrecords has")
    return column.cast(pa.float32(), safe=False)


__all__ = ["TfWriteOptions", "TfWriter", "examples", "framed"]
