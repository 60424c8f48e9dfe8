"""Canonical bytes of typed rows, computed a column at a time (docs/row-keys.md has the rules).

A value is a byte that says whether it is there, and its content: integers as int64, floats as
float64, booleans as one byte, times as whole seconds (int64) and nanoseconds (int32); texts and
binaries as a uint32 length and the bytes; lists as a uint32 count and the members; structs as
their fields by name. Little endian throughout; absent content is zeros of its fixed part. A row is
the concatenation of its columns by name, so the order of columns and the width of types don't
matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import PermanentError

Bytes = npt.NDArray[np.uint8]
Fixed = tuple[str, npt.NDArray[np.generic]]  # numpy type and values of a fixed part
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
PRESENT = "<u1"


def row_bytes(columns: Mapping[str, pa.Array], rows: int) -> pa.BinaryArray:
    """The canonical bytes of each row."""
    parts: list[Fixed | pa.Array] = []
    for name in sorted(columns):
        parts += _parts(columns[name])
    return joined(parts, rows)


def _parts(column: pa.Array) -> list[Fixed | pa.Array]:
    """A column as fixed parts (numpy) and variable parts (binary arrays)."""
    kind = column.type
    present = _present(column)
    if pa.types.is_null(kind):
        return [present]
    if pa.types.is_struct(kind):
        return [present, *_struct_parts(column)]
    if pa.types.is_map(kind):
        return _parts(_entries(column))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [present, *_list_parts(column)]
    if pa.types.is_fixed_size_list(kind):
        return _parts(_as_list(column))
    if (fixed := _fixed(column)) is not None:
        return [present, *fixed]
    binary = _binary(column)
    lengths = pc.fill_null(pc.binary_length(binary), 0)
    return [present, ("<u4", lengths.to_numpy(zero_copy_only=False)), _filled(binary)]


def _present(column: pa.Array) -> Fixed:
    if not column.null_count:
        return PRESENT, np.ones(len(column), np.uint8)
    return PRESENT, pc.is_valid(column).cast(pa.uint8()).to_numpy(zero_copy_only=False)


def _fixed(column: pa.Array) -> list[Fixed] | None:
    """The fixed parts of a scalar of fixed size; None for others."""
    kind = column.type
    types = pa.types
    if types.is_boolean(kind):
        return [("<u1", _numbers(column.cast(pa.uint8())))]
    if types.is_integer(kind):
        return [("<i8", _numbers(column).astype(np.int64))]
    if types.is_floating(kind):
        values = _numbers(column).astype(np.float64)
        return [("<f8", np.where(np.isnan(values), np.nan, values))]  # one NaN, not many
    if types.is_date32(kind):
        return [("<i8", _numbers(column.cast(pa.int32())).astype(np.int64))]
    if types.is_date64(kind):
        return _fixed(column.cast(pa.date32()))
    if types.is_time32(kind):
        return _moment(column.cast(pa.int32()).cast(pa.int64()), kind.unit)
    if types.is_timestamp(kind) or types.is_time64(kind) or types.is_duration(kind):
        return _moment(column.cast(pa.int64()), kind.unit)
    return None


def _moment(counts: pa.Int64Array, unit: str) -> list[Fixed]:
    seconds, below = np.divmod(_numbers(counts), PER_SECOND[unit])
    nanoseconds = below * (10**9 // PER_SECOND[unit])
    return [("<i8", seconds), ("<i4", nanoseconds.astype(np.int32))]


def _numbers(column: pa.Array) -> npt.NDArray[np.generic]:
    filled = column.fill_null(0) if column.null_count else column
    numbers: npt.NDArray[np.generic] = filled.to_numpy(zero_copy_only=False)
    return numbers


def _binary(column: pa.Array) -> pa.BinaryArray:
    kind = column.type
    if pa.types.is_decimal(kind):
        return column.cast(pa.string())
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_large_binary(kind):
        return column.cast(pa.binary())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.binary())
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return column
    raise PermanentError(f"columns of the type {kind} can't be read", code="unsupported_type")


def _filled(binary: pa.Array) -> pa.Array:
    return binary.fill_null(b"" if pa.types.is_binary(binary.type) else "")


def _struct_parts(column: pa.StructArray) -> list[Fixed | pa.Array]:
    parts: list[Fixed | pa.Array] = []
    children = dict(zip([f.name for f in column.type], column.flatten(), strict=True))
    for name in sorted(children):
        parts += _parts(children[name])
    return parts


def _as_list(column: pa.FixedSizeListArray) -> pa.ListArray:
    """The same members with offsets; a null list has none."""
    return column.cast(pa.list_(column.type.value_field))


def _entries(column: pa.MapArray) -> pa.ListArray:
    """A map as the list of its entries, in the order they have."""
    entries = pa.StructArray.from_arrays([column.keys, column.items], names=["key", "value"])
    kind, buffers = pa.list_(entries.type), column.buffers()[:2]
    return pa.Array.from_buffers(
        kind, len(column), buffers, offset=column.offset, children=[entries]
    )


def _list_parts(column: pa.ListArray) -> list[Fixed | pa.Array]:
    """Counts, and each list's members, which lie side by side in the members' own bytes."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    members = column.flatten()  # without those of null lists
    encoded = joined(_parts(members), len(members))
    bounds = np.frombuffer(encoded.buffers()[1], np.int32)[: len(members) + 1]
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    offsets = pa.py_buffer(np.ascontiguousarray(bounds[ends]))
    content = pa.Array.from_buffers(
        pa.binary(), len(lengths), [None, offsets, encoded.buffers()[2]]
    )
    return [("<u4", lengths), content]


def joined(parts: Sequence[Fixed | pa.Array], rows: int) -> pa.BinaryArray:
    """Fixed parts that lie side by side are packed together; then all is joined per row."""
    pieces: list[pa.Array] = []
    run: list[Fixed] = []
    for part in parts:
        if isinstance(part, tuple):
            run.append(part)
            continue
        pieces += _packed(run, rows)
        pieces.append(part.cast(pa.binary()))
        run = []
    pieces += _packed(run, rows)
    if len(pieces) == 1:
        return pieces[0]
    return pc.binary_join_element_wise(*pieces, b"")


def _packed(run: list[Fixed], rows: int) -> list[pa.BinaryArray]:
    if not run:
        return []
    packed = np.zeros(rows, np.dtype([(f"f{i}", kind) for i, (kind, _) in enumerate(run)]))
    for i, (_, values) in enumerate(run):
        packed[f"f{i}"] = values
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(packed.dtype.itemsize)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(packed)]
    return [pa.Array.from_buffers(pa.binary(), rows, buffers)]
