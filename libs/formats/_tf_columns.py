"""Features as Arrow columns: their types, their values, and the canonical bytes of records."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import PermanentError
from libs.formats import TypeConflict
from libs.formats._row_bytes import Fixed, joined
from libs.formats._tf_features import BYTES, FLOAT, INT64, KINDS, NONE, VALUES, Lists, Named
from libs.formats._tf_wire import Bytes, Ints, binary_array

LENGTH = struct.Struct("<I")
CANONICAL = {BYTES: "", FLOAT: "<f4", INT64: "<i8"}


def infer_field(found: Named, listed: bool, texts: bool) -> pa.Field:
    """The narrowest type: a scalar unless `listed` or some record has several values."""
    lists = found.lists
    kind = VALUES[lists.kind]
    if lists.kind == BYTES and texts and _text(lists.values) is not None:
        kind = pa.string() if len(lists.values) else pa.null()
    inner = listed or bool((lists.counts > 1).any())
    if found.steps is None:
        return pa.field(found.name, pa.list_(kind) if inner else kind)
    inner |= bool((lists.counts == 0).any())  # else steps without a value would vanish
    return pa.field(found.name, pa.list_(pa.list_(kind)) if inner else pa.list_(kind))


def join_types(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The narrowest type that holds both; None where none does."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if pa.types.is_list(a) or pa.types.is_list(b):
        inner = join_types(_member(a), _member(b))
        return None if inner is None else pa.list_(inner)
    return pa.binary() if {a, b} == {pa.string(), pa.binary()} else None


def _member(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind


def join_schemas(schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
    """All columns in order of first appearance; raises `schema_mismatch`."""
    fields: dict[str, tuple[str, pa.DataType]] = {}
    for path, schema in schemas:
        for field in schema:
            where, known = fields.get(field.name, (path, field.type))
            kind = join_types(known, field.type)
            if kind is None:
                raise PermanentError(
                    f"{path}: the feature {field.name!r} is {field.type}, in {where} it is "
                    f"{known}; a feature has one kind (int64, float or bytes) everywhere",
                    code="schema_mismatch",
                    path=path,
                )
            fields[field.name] = (where, kind)
    return pa.schema([pa.field(name, kind) for name, (_, kind) in fields.items()])


def column(found: Named, field: pa.Field, rows: int) -> pa.Array:
    """The values of `rows` records as `field` says; raises TypeConflict where they don't fit."""
    lists, kind = found.lists, field.type
    if found.steps is not None:
        if not pa.types.is_list(kind):
            raise TypeConflict(field.name, f"feature lists, not {kind}")
        member = _features(field.name, lists, kind.value_type)
        return _listed(member, _spread(found.steps, found.records, rows), found.records, rows)
    values = _features(field.name, lists, kind)
    if len(found.records) == rows:
        return values
    index = np.zeros(rows, np.int64)
    absent = np.ones(rows, np.bool_)
    index[found.records] = np.arange(len(found.records))
    absent[found.records] = False
    return values.take(pa.array(index, mask=absent))


def _features(name: str, lists: Lists, kind: pa.DataType) -> pa.Array:
    """One value (or list) for each feature."""
    n = len(lists.counts)
    if pa.types.is_list(kind):
        values = _typed(name, lists, kind.value_type)
        offsets = np.zeros(n + 1, np.int32)
        np.cumsum(lists.counts, out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), values)
    values = _typed(name, lists, kind)
    if len(values) == n and (lists.counts == 1).all():
        return values
    if (lists.counts > 1).any():
        raise TypeConflict(name, f"several values, not one {kind}")
    index = np.cumsum(lists.counts) - lists.counts
    return values.take(pa.array(index, mask=lists.counts == 0))


def _typed(name: str, lists: Lists, kind: pa.DataType) -> pa.Array:
    """The values side by side, as `kind`."""
    if not len(lists.values):
        return pa.array([], kind)
    if lists.kind == BYTES and pa.types.is_string(kind):
        if (texts := _text(lists.values)) is not None:
            return texts
    elif lists.values.type == kind:
        return lists.values
    raise TypeConflict(name, f"{KINDS[lists.kind]} values, not {kind}")


def _text(values: pa.BinaryArray) -> pa.StringArray | None:
    """The values as texts, unless one of them isn't UTF-8."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        return None


def _spread(counts: Ints, records: Ints, rows: int) -> Ints:
    spread = np.zeros(rows, np.int64)
    spread[records] = counts
    return spread


def _listed(values: pa.Array, counts: Ints, records: Ints, rows: int) -> pa.ListArray:
    """Lists by record; null where the record has none."""
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    if len(records) == rows:
        return pa.ListArray.from_arrays(pa.array(offsets), values)
    absent = np.ones(rows, np.bool_)
    absent[records] = False
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(absent))


def canonical(found: Sequence[Named], rows: int) -> pa.BinaryArray:
    """The bytes that a record's key is made from (docs/row-keys.md).

    The features that have values, by name: the name's length (uint32) and UTF-8, the kind (byte:
    1 bytes, 2 float, 3 int64; with 128 for a feature list), the count (uint32), and the values:
    int64, float32, or a uint32 length and the bytes. A feature list has the number of steps, and
    for each step the count and the values. Little endian; neither the order of features in the
    record nor what other records hold matters.
    """
    parts: list[Fixed | pa.Array] = []
    for named in sorted(found, key=lambda n: n.name.encode()):
        parts += _parts(named, rows)
    return joined(parts or [("<u1", np.zeros(rows, np.uint8))], rows)


def _parts(named: Named, rows: int) -> list[Fixed | pa.Array]:
    lists, name = named.lists, named.name.encode()
    if named.steps is None and lists.kind == NONE:
        return []
    kind = lists.kind | (0 if named.steps is None else 128)
    head = LENGTH.pack(len(name)) + name + bytes([kind])
    one_each = len(named.records) == rows and (lists.counts == 1).all()
    if named.steps is None and one_each and lists.kind != BYTES:
        values = _numbers(lists)
        fixed = np.void(head + LENGTH.pack(1))
        return [(f"V{len(head) + 4}", np.array(fixed)), (CANONICAL[lists.kind], values)]
    content, sizes = _content(lists)
    counts, records = lists.counts, named.records
    if named.steps is not None:
        content, sizes = _with_counts(content, sizes, counts)
        ends = np.concatenate([[0], np.cumsum(sizes)])[
            np.concatenate([[0], np.cumsum(named.steps)])
        ]
        sizes, counts = np.diff(ends), named.steps
    heads = np.zeros(len(records), np.dtype([("head", f"V{len(head)}"), ("count", "<u4")]))
    heads["head"], heads["count"] = np.void(head), counts
    wide = heads.dtype.itemsize
    present = np.zeros(rows, np.bool_)
    present[records] = counts > 0 if named.steps is None else True
    heads = heads[present[records]]
    shown = _offsets(present * wide)
    return [
        binary_array(heads.view(np.uint8), shown),
        binary_array(content, _offsets(_spread(sizes, records, rows))),
    ]


def _offsets(sizes: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes)])


def _numbers(lists: Lists) -> npt.NDArray[np.generic]:
    values = lists.values.to_numpy(zero_copy_only=False)
    if lists.kind == FLOAT and np.isnan(values).any():
        values = np.where(np.isnan(values), np.float32(np.nan), values)  # one NaN, not many
    return np.ascontiguousarray(values)


def _content(lists: Lists) -> tuple[Bytes, Ints]:
    """The values' bytes side by side, and how many of them each feature has."""
    if lists.kind == NONE:
        return np.zeros(0, np.uint8), np.zeros(len(lists.counts), np.int64)
    if lists.kind != BYTES:
        values = _numbers(lists)
        return values.view(np.uint8), lists.counts * values.dtype.itemsize
    lengths = pc.binary_length(lists.values).to_numpy(zero_copy_only=False).astype(np.int64)
    content, sizes = _with_counts(_raw(lists.values), lengths, lengths)
    ends = _offsets(sizes)[_offsets(lists.counts)]
    return content, np.diff(ends)


def _raw(values: pa.BinaryArray) -> Bytes:
    data = values.buffers()[2]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def _with_counts(content: Bytes, sizes: Ints, counts: Ints) -> tuple[Bytes, Ints]:
    """Each piece with a uint32 before it."""
    before = binary_array(counts.astype("<u4").view(np.uint8), np.arange(len(counts) + 1) * 4)
    whole = pc.binary_join_element_wise(before, binary_array(content, _offsets(sizes)), b"")
    return _raw(whole), sizes + 4
