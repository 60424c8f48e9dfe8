"""128-bit digests of rows, to find equal ones within one run; never stored, so free to change.

NULL equals NULL, NaN equals NaN, 0.0 equals -0.0, as in SQL's DISTINCT.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

Lane = NDArray[np.uint64]
DIGEST = pa.binary(16)
ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
NULL = np.uint64(0xA0761D6478BD642F)


def digests(batch: pa.RecordBatch, columns: Sequence[str]) -> NDArray[np.uint64]:
    """Shape (rows, 2): equal rows have equal pairs, different ones practically never."""
    lanes = np.empty((batch.num_rows, 2), np.uint64)
    lanes[:] = ODD
    for name in columns:
        values = _lanes(batch.column(name))
        for at in (0, 1):
            lanes[:, at] = _mix((lanes[:, at] * ODD[at]) ^ values[at])
    return lanes


def as_array(lanes: NDArray[np.uint64]) -> pa.Array:
    """As fixed-size binary, to travel in an exchange file."""
    data = np.ascontiguousarray(lanes)
    return pa.Array.from_buffers(DIGEST, len(data), [None, pa.py_buffer(data)])


def first_of_each(found: NDArray[np.uint64], at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows are the first, by position `at`, among those with the same digest."""
    keep = np.zeros(len(found), np.bool_)
    if not len(found):
        return keep
    order, starts = _grouped(found, at)
    keep[order[starts]] = True
    return keep


def _grouped(
    found: NDArray[np.uint64], at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """An order with equal digests side by side, earlier positions first; where each one starts."""
    starts = np.ones(len(found), np.bool_)
    if (at[1:] > at[:-1]).all():  # as usual: one lane decides, unless two digests share it
        order = np.argsort(found[:, 0], kind="stable")
        first, second = found[order, 0], found[order, 1]
        starts[1:] = first[1:] != first[:-1]
        if (starts[1:] | (second[1:] == second[:-1])).all():
            return order, starts
    order = np.lexsort((at, found[:, 1], found[:, 0]))
    ordered = found[order]
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, starts


def _lanes(values: pa.Array) -> tuple[Lane, Lane]:
    kind = values.type
    if pa.types.is_null(kind):
        same = np.full(len(values), NULL)
        return same, same
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind):
        word = _words(values)
        lanes = (_mix(word + ODD[0]), _mix(word ^ ODD[1]))
    else:
        lanes = _hashed(values)
    if values.null_count:
        missing = values.is_null().to_numpy(zero_copy_only=False)
        for lane in lanes:
            lane[missing] = NULL
    return lanes


def _words(values: pa.Array) -> Lane:
    filled = pc.fill_null(values, False if pa.types.is_boolean(values.type) else 0)
    array = filled.to_numpy(zero_copy_only=False)
    if array.dtype.kind == "f":
        real = array.astype(np.float64) + 0.0  # -0.0 becomes 0.0
        real[np.isnan(real)] = np.nan
        array = real.view(np.uint64)
    whole: Lane = array.astype(np.uint64 if array.dtype.kind == "u" else np.int64).view(np.uint64)
    return whole


def _hashed(values: pa.Array) -> tuple[Lane, Lane]:
    """Each distinct value hashed once where the type can be dictionary-encoded."""
    try:
        encoded = values.dictionary_encode()
        distinct = encoded.dictionary
        indices = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
    except pa.ArrowNotImplementedError:
        distinct, indices = values, np.arange(len(values))
    if not len(distinct):
        return np.zeros(len(values), np.uint64), np.zeros(len(values), np.uint64)
    joined = b"".join(xxhash.xxh3_128_digest(_bytes(v)) for v in distinct.to_pylist())
    pairs = np.frombuffer(joined, np.uint64).reshape(-1, 2)[indices]
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    plain = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
    return orjson.dumps(value, default=repr, option=plain)


def _mix(word: Lane) -> Lane:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Lane = word ^ (word >> np.uint64(31))
    return mixed
