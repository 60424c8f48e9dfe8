"""Protobuf's wire format for very many small messages at once, as numpy does things.

https://protobuf.dev/programming-guides/encoding. A message is a range of bytes; `fields` walks all
messages side by side, field by field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

VARINT, FIXED64, LEN, FIXED32 = 0, 1, 2, 5
LANES = 32  # fewer messages than this are walked one by one
MOST_FIELDS = 1 << 22  # of all messages together: 40 bytes of memory each
MOST_ALONE = 1 << 18  # of a message that is walked alone: 200 bytes each
PADDING = 16  # zeros behind the data, so that looking ahead needs no check
SHORT = 64  # bytes per range, below which gathering by index is faster than joining slices
LOW7 = np.uint64(0x7F)


@dataclass(frozen=True)
class Fields:
    """Fields by message, in each message's order; [start, stop) is the value's bytes."""

    owner: Ints  # index of the message
    number: Ints
    wire: Ints
    start: Ints
    stop: Ints

    def only(self, chosen: Bools) -> Fields:
        if chosen.all():
            return self
        return Fields(*(part[chosen] for part in self.parts))

    @property
    def parts(self) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        return self.owner, self.number, self.wire, self.start, self.stop

    @classmethod
    def joined(cls, steps: Sequence[Fields]) -> Fields:
        if len(steps) == 1:
            return steps[0]
        by_part = list(zip(*(s.parts for s in steps), strict=True))
        first = steps[0].owner
        if all(len(s.owner) == len(first) and (s.owner == first).all() for s in steps):
            return cls(*(np.stack(part, axis=1).ravel() for part in by_part))  # as many in each
        parts = [np.concatenate(part) for part in by_part]
        order = np.argsort(parts[0], kind="stable")
        return cls(*(part[order] for part in parts))


def padded(data: bytes) -> Bytes:
    """The bytes as numpy sees them, with zeros behind."""
    return np.frombuffer(data + bytes(PADDING), np.uint8)


def words(data: Bytes) -> npt.NDArray[np.uint64]:
    """At each position the eight bytes from there on, little endian."""
    return np.ndarray(len(data) - 7, "<u8", data.data, strides=(1,))


def fields(data: Bytes, start: Ints, stop: Ints, broken: Bools) -> Fields:
    """All fields of the messages [start, stop); marks in `broken` those that aren't messages."""
    steps: list[Fields] = []
    owner, walked = np.flatnonzero(start < stop), 0
    at, end = start[owner], stop[owner]
    while len(owner) >= LANES or (len(owner) and not steps):
        step, bad = _step(data, owner, at, end)
        walked += len(owner)
        bad |= walked > MOST_FIELDS
        broken[owner[bad]] = True
        steps.append(step.only(~bad))
        going = ~bad & (step.stop < end)
        owner, at, end = owner[going], step.stop[going], end[going]
    if len(owner):
        steps.append(_one_by_one(data, owner, at, end, broken))
    return Fields.joined(steps or [_one_by_one(data, owner, at, end, broken)])


def _step(data: Bytes, owner: Ints, at: Ints, end: Ints) -> tuple[Fields, Bools]:
    """The next field of each message, and which aren't fields."""
    tag, at = varints_at(data, at)
    wire, number = tag & 7, tag >> 3
    if (wire == LEN).all():
        length, start = varints_at(data, np.minimum(at, end))
    else:
        start, length = _mixed(data, wire, np.minimum(at, end))
    bad = (number <= 0) | (length < 0) | (length > end - start)
    return Fields(owner, number, wire, start, np.where(bad, start, start + length)), bad


def _mixed(data: Bytes, wire: Ints, at: Ints) -> tuple[Ints, Ints]:
    """Where the value is and how long: by wire type; -1 for one that doesn't exist."""
    value, behind = varints_at(data, at)
    start = np.where(wire == LEN, behind, at)
    sizes = np.array([0, 8, 0, -1, -1, 4, -1, -1])[wire]
    length = np.where(wire == LEN, value, np.where(wire == VARINT, behind - at, sizes))
    return start, length


def varints_at(data: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """The varint at each position and where it ends; -1 for one that doesn't fit an int64."""
    first = data[at]
    value, behind = first.astype(np.int64), at + 1
    if not (longer := np.flatnonzero(first > 127)).size:
        return value, behind
    value[longer] &= 127
    for shift in range(7, 70, 7):
        more = data[np.minimum(behind[longer], len(data) - 1)]
        behind[longer] += 1
        if shift < 63:
            value[longer] |= (more & 127).astype(np.int64) << shift
        else:
            value[longer] = -1
        longer = longer[more > 127]
        if not longer.size:
            break
    value[longer] = -1
    return value, behind


def _one_by_one(data: Bytes, owner: Ints, at: Ints, end: Ints, broken: Bools) -> Fields:
    """As `fields`, for the few messages with more fields than the others."""
    rows: list[int] = []
    view = data.data
    for message, pos, stop in zip(owner.tolist(), at.tolist(), end.tolist(), strict=True):
        before = len(rows)
        while pos < stop:
            tag, pos = _varint(view, pos, stop)
            wire, begin = tag & 7, pos
            if wire == LEN:
                length, begin = _varint(view, pos, stop)
                pos = begin + length
            elif wire == VARINT:
                _, pos = _varint(view, pos, stop)
            else:
                pos += {FIXED64: 8, FIXED32: 4}.get(wire, stop + 1)
            if pos > stop or tag < 8 or len(rows) - before > 5 * MOST_ALONE:
                broken[message] = True
                break
            rows += (message, tag >> 3, wire, begin, pos)
    table = np.array(rows, np.int64).reshape(-1, 5)
    return Fields(*(np.ascontiguousarray(table[:, i]) for i in range(5)))


def _varint(view: memoryview, pos: int, stop: int) -> tuple[int, int]:
    """A varint and where it ends; one that doesn't end gives a place beyond `stop`."""
    value = shift = 0
    while pos < stop and shift < 70:
        byte = view[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return min(value, 1 << 62), pos
        shift += 7
    return 0, stop + 1


def gathered(data: Bytes, start: Ints, stop: Ints) -> tuple[Bytes, Ints]:
    """The ranges side by side, and the offsets of each."""
    lengths = stop - start
    offsets = np.zeros(len(start) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    total = int(offsets[-1])
    if total == 0:
        return np.zeros(0, np.uint8), offsets
    if total > SHORT * len(start):
        view = data.data
        ranges = zip(start.tolist(), stop.tolist(), strict=True)
        return np.frombuffer(b"".join([view[a:b] for a, b in ranges]), np.uint8), offsets
    index = np.repeat(start - offsets[:-1], lengths)
    index += np.arange(total)
    return data[index], offsets


def binaries(data: Bytes, start: Ints, stop: Ints) -> pa.BinaryArray:
    """The ranges as binary values."""
    content, offsets = gathered(data, start, stop)
    return binary_array(content, offsets)


def binary_array(content: Bytes, offsets: Ints) -> pa.BinaryArray:
    """Binary values that lie side by side in `content`."""
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def decoded(content: Bytes, offsets: Ints) -> tuple[Ints, Ints, Bools]:
    """Varints of ranges that lie side by side: values, count per range, and which are broken."""
    last = content < 128
    ends = np.flatnonzero(last)
    before = np.zeros(len(content) + 1, np.int64)
    np.cumsum(last, out=before[1:])
    counts = before[offsets[1:]] - before[offsets[:-1]]
    filled = offsets[1:] > offsets[:-1]
    bad = np.zeros(len(offsets) - 1, np.bool_)
    bad[filled] = ~last[offsets[1:][filled] - 1]
    if bad.any():
        return np.zeros(0, np.int64), counts, bad
    starts = np.zeros(len(ends), np.int64)
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    values = _joined_bits(content, starts, lengths)
    if (long := np.flatnonzero(lengths > 10)).size:
        bad[np.searchsorted(offsets, ends[long], side="right") - 1] = True
    return values.view(np.int64), counts, bad


def _joined_bits(content: Bytes, starts: Ints, lengths: Ints) -> npt.NDArray[np.uint64]:
    values = (content[starts] & 127).astype(np.uint64)
    rest = np.flatnonzero(lengths > 1)
    for i in range(1, 10):
        if not rest.size:
            break
        more = content[starts[rest] + i].astype(np.uint64) & LOW7
        values[rest] |= more << np.uint64(7 * i)
        rest = rest[lengths[rest] > i + 1]
    return values


def encoded(values: npt.NDArray[np.uint64]) -> tuple[Bytes, Ints]:
    """The values as varints side by side, and the length of each."""
    lengths = np.ones(len(values), np.int64)
    for i in range(1, 10):
        bigger = values >= np.uint64(1) << np.uint64(7 * i)
        if not bigger.any():
            break
        lengths += bigger
    offsets = np.cumsum(lengths) - lengths
    content = np.empty(int(lengths.sum()), np.uint8)
    rest = np.arange(len(values))
    for i in range(10):
        rest = rest[lengths[rest] > i] if i else rest
        if not rest.size:
            break
        bits = (values[rest] >> np.uint64(7 * i) & LOW7).astype(np.uint8)
        content[offsets[rest] + i] = bits | ((lengths[rest] > i + 1).astype(np.uint8) << 7)
    return content, lengths
