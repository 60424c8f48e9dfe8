"""tf.train.Example and SequenceExample as columns of values (tensorflow/core/example/*.proto)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.formats._tf_wire import (
    FIXED32,
    LEN,
    VARINT,
    Bools,
    Bytes,
    Fields,
    Ints,
    binaries,
    decoded,
    fields,
    gathered,
    words,
)

NONE, BYTES, FLOAT, INT64 = 0, 1, 2, 3  # Feature's fields; NONE: a Feature without a kind
KINDS = {NONE: "nothing", BYTES: "bytes", FLOAT: "float", INT64: "int64"}
VALUES = {NONE: pa.null(), BYTES: pa.binary(), FLOAT: pa.float32(), INT64: pa.int64()}
LONGEST_NAME = 1024  # bytes
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Lists:
    """Features, one list of values each, all of one kind."""

    kind: int
    counts: Ints  # values of each
    values: pa.Array  # side by side


@dataclass(frozen=True)
class Named:
    """Everything that a block's records hold under one name."""

    name: str
    records: Ints  # which records have it, ascending
    lists: Lists  # one for each of `records`; of `steps`, where there are some
    steps: Ints | None = None  # of a feature list: how many features each record has


class MixedKinds(ValueError):
    """A name that holds values of several kinds; `entry`: of the first that differs."""

    def __init__(self, entry: int, kinds: tuple[int, int]) -> None:
        super().__init__(f"{KINDS[kinds[1]]} where others have {KINDS[kinds[0]]}")
        self.entry = entry


@dataclass(frozen=True)
class Mixture:
    """In which record of the block a feature is of another kind than in those before."""

    name: str
    record: int
    detail: str


@dataclass(frozen=True)
class Examples:
    """The messages of one block; `broken[i]`: record i isn't one."""

    data: Bytes  # padded
    start: Ints
    stop: Ints
    broken: Bools

    def features(self, field: int = 1) -> Iterator[Named | Mixture]:
        """The features of Example.features, or of SequenceExample.context."""
        for name, records, values in self._entries(field):
            spans = _Spans(self.data, values.start, values.stop)
            try:
                yield Named(name, records, spans.lists(self._spoil(records)))
            except MixedKinds as wrong:
                yield Mixture(name, int(records[wrong.entry]), str(wrong))

    def feature_lists(self) -> Iterator[Named | Mixture]:
        """The feature lists of SequenceExample: a list of features for each record."""
        for name, records, values in self._entries(2):
            bad = np.zeros(len(records), np.bool_)
            found = fields(self.data, values.start, values.stop, bad)
            found = found.only((found.number == 1) & (found.wire == LEN))
            self.broken[records[bad]] = True
            of = records[found.owner]
            spans = _Spans(self.data, found.start, found.stop)
            try:
                lists = spans.lists(self._spoil(of))
            except MixedKinds as wrong:
                yield Mixture(name, int(of[wrong.entry]), str(wrong))
                continue
            yield Named(name, records, lists, np.bincount(found.owner, minlength=len(records)))

    def _spoil(self, records: Ints) -> _Spoil:
        return _Spoil(self.broken, records)

    def _entries(self, field: int) -> Iterator[tuple[str, Ints, Fields]]:
        """Map entries by key: the records that have it and where its value is, last one wins."""
        holders = self._within(fields(self.data, self.start, self.stop, self.broken), field)
        record = holders.owner
        entries = self._nested(holders, record, 1)
        record = record[entries.owner]
        bad = np.zeros(len(record), np.bool_)
        found = fields(self.data, entries.start, entries.stop, bad)
        self.broken[record[bad]] = True
        keys = _last(found.only((found.number == 1) & (found.wire == LEN)), len(record))
        values = _last(found.only((found.number == 2) & (found.wire == LEN)), len(record))
        yield from self._by_name(record, keys, values)

    def _within(self, found: Fields, number: int) -> Fields:
        return found.only((found.number == number) & (found.wire == LEN))

    def _nested(self, holders: Fields, record: Ints, number: int) -> Fields:
        bad = np.zeros(len(record), np.bool_)
        found = fields(self.data, holders.start, holders.stop, bad)
        self.broken[record[bad]] = True
        return self._within(found, number)

    def _by_name(
        self, record: Ints, keys: Fields, values: Fields
    ) -> Iterator[tuple[str, Ints, Fields]]:
        too_long = keys.stop - keys.start > LONGEST_NAME
        self.broken[record[too_long]] = True
        fine = np.flatnonzero(~too_long)
        groups = _groups(self.data, keys.start[fine], keys.stop[fine])
        for which in groups:
            which = fine[which]
            first = int(which[0])
            raw = self.data[keys.start[first] : keys.stop[first]].tobytes()
            records = record[which]
            try:
                name = raw.decode()
            except UnicodeDecodeError:
                self.broken[records] = True
                continue
            if len(records) > 1 and not (records[1:] > records[:-1]).all():  # a name twice
                order = np.argsort(records, kind="stable")
                which, records = which[order], records[order]
                last = np.append(records[1:] != records[:-1], True)
                which, records = which[last], records[last]
            yield name, records, Fields(*(part[which] for part in values.parts))


@dataclass(frozen=True)
class _Spoil:
    """Marks the records of features as broken."""

    broken: Bools
    records: Ints  # of each feature

    def __call__(self, features: npt.NDArray[np.generic]) -> None:
        self.broken[self.records[features]] = True


@dataclass(frozen=True)
class _Spans:
    """Feature messages, by where they are."""

    data: Bytes
    start: Ints
    stop: Ints

    def lists(self, spoil: _Spoil) -> Lists:
        """Their values; raises MixedKinds."""
        n = len(self.start)
        bad = np.zeros(n, np.bool_)
        found = fields(self.data, self.start, self.stop, bad)
        found = found.only((found.number <= INT64) & (found.wire == LEN))
        kinds = np.zeros(n, np.int64)
        kinds[found.owner] = found.number  # a later one of another kind replaces the earlier
        if len(found.owner) > n:
            found = found.only(found.number == kinds[found.owner])
        kind = self._one_kind(kinds)
        list_bad = np.zeros(len(found.owner), np.bool_)
        items = fields(self.data, found.start, found.stop, list_bad)
        items = items.only(items.number == 1)
        items = Fields(found.owner[items.owner], *items.parts[1:])
        bad[found.owner[list_bad]] = True
        lists = self._values(kind, items, n, bad)
        if bad.any():
            spoil(bad)
        return lists

    def _one_kind(self, kinds: Ints) -> int:
        seen = kinds[kinds != NONE]
        if not len(seen):
            return NONE
        kind = int(seen[0])
        if not (seen == kind).all():
            entry = int(np.flatnonzero((kinds != NONE) & (kinds != kind))[0])
            raise MixedKinds(entry, (kind, int(kinds[entry])))
        return kind

    def _values(self, kind: int, items: Fields, n: int, bad: Bools) -> Lists:
        """Of items that are packed, or single values, or both; in order."""
        if kind == NONE:
            return Lists(kind, np.zeros(n, np.int64), pa.nulls(0))
        single = {BYTES: LEN, FLOAT: FIXED32, INT64: VARINT}[kind]
        fitting = (items.wire == LEN) | (items.wire == single)
        if not fitting.all():
            bad[items.owner[~fitting]] = True
            items = items.only(fitting)
        if kind == BYTES:
            counts = np.bincount(items.owner, minlength=n)
            return Lists(kind, counts, binaries(self.data, items.start, items.stop))
        return self._floats(items, n, bad) if kind == FLOAT else self._integers(items, n, bad)

    def _floats(self, items: Fields, n: int, bad: Bools) -> Lists:
        sizes = items.stop - items.start
        if (odd := sizes % 4 != 0).any():
            bad[items.owner[odd]] = True
            return Lists(FLOAT, np.zeros(n, np.int64), pa.array([], pa.float32()))
        if (sizes == 4).all():
            each = np.ndarray(len(self.data) - 3, "<f4", self.data.data, strides=(1,))
            values = each[items.start]
        else:
            values = gathered(self.data, items.start, items.stop)[0].view("<f4")
        counts = np.bincount(items.owner, sizes // 4, minlength=n).astype(np.int64)
        return Lists(FLOAT, counts, pa.array(values))

    def _integers(self, items: Fields, n: int, bad: Bools) -> Lists:
        content, offsets = gathered(self.data, items.start, items.stop)
        values, per_item, wrong = decoded(content, offsets)
        if wrong.any():
            bad[items.owner[wrong]] = True
            return Lists(INT64, np.zeros(n, np.int64), pa.array([], pa.int64()))
        counts = np.bincount(items.owner, per_item, minlength=n).astype(np.int64)
        return Lists(INT64, counts, pa.array(values))


def _last(found: Fields, n: int) -> Fields:
    """The last field of each of `n` messages; an empty range where there is none."""
    if len(found.owner) == n and (found.owner == np.arange(n)).all():
        return found
    parts = [np.arange(n), *(np.zeros(n, np.int64) for _ in range(4))]
    for mine, theirs in zip(parts[1:], found.parts[1:], strict=True):
        mine[found.owner] = theirs
    return Fields(*parts)


def _groups(data: Bytes, start: Ints, stop: Ints) -> Iterator[Ints]:
    """Indexes of ranges with the same bytes, group by group, each in order."""
    if not len(start):
        return
    codes, size = _hashed(data, start, stop)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(size + 1))
    for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield from _exactly(data, start, stop, order[a:b])


def _hashed(data: Bytes, start: Ints, stop: Ints) -> tuple[npt.NDArray[np.int32], int]:
    """A number for each range; ranges with the same bytes have the same."""
    each, length = words(data), stop - start
    mixed = length.astype(np.uint64)
    for at in range(0, int(length.max()), 8):
        left = np.clip(length - at, 0, 8).astype(np.uint64)
        keep = np.where(
            left == 8, ~np.uint64(0), (np.uint64(1) << (left * np.uint64(8))) - np.uint64(1)
        )
        word = each[np.minimum(start + at, len(each) - 1)] & keep
        mixed = (mixed ^ word) * MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    codes = pa.array(mixed).dictionary_encode()
    return codes.indices.to_numpy(), len(codes.dictionary)


def _exactly(data: Bytes, start: Ints, stop: Ints, group: Ints) -> Iterator[Ints]:
    """The group as it is, or cut where different bytes had the same hash."""
    first = int(group[0])
    size = int(stop[first] - start[first])
    raw = data[start[first] : stop[first]]
    same = stop[group] - start[group] == size
    for at in range(size):
        same &= data[start[group] + at] == raw[at]
        if at == 0 and len(group) == 1:
            break
    if same.all():
        yield group
        return
    yield group[same]
    yield from _exactly(data, start, stop, group[~same])
