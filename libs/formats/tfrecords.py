"""TFRecord files of tf.train.Example, SequenceExample or plain bytes, without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, BinaryIO, Literal, cast

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import (
    BadRecord,
    Format,
    OnBad,
    Open,
    ReadOptions,
    SourceFile,
    Split,
    TypeConflict,
    Writer,
)
from libs.formats import _keys as keys
from libs.formats._tf_columns import canonical, column, infer_field, join_schemas
from libs.formats._tf_features import Examples, Mixture, Named
from libs.formats._tf_frames import END, HEAD, TAIL, Fault, Framer, Frames, length_crc, record_ends
from libs.formats._tf_frames import HEADER as FRAME_HEADER
from libs.formats._tf_streams import Compression, Inflated, looks_compressed
from libs.formats._tf_wire import binaries, padded
from libs.formats._tf_writer import TfWriteOptions, TfWriter

RECORD = "record"  # the column of raw records


class TfOptions(BaseModel):
    """Reader options of tfrecords."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    records: Literal["example", "sequence", "raw"] = "example"
    compression: Compression = "auto"
    lists: list[str] = []  # features that are lists even where each record has one value
    text: bool = True  # bytes that all are UTF-8 become text
    max_record_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 64 << 20


class TfRecords:
    """The format tfrecords; with `on_bad` it passes over bad records."""

    suffixes: tuple[str, ...] = (".tfrecord", ".tfrecords", ".tfrec")
    Options: type[BaseModel] = TfOptions
    WriteOptions: type[BaseModel] = TfWriteOptions

    def __init__(self, on_bad: OnBad | None = None) -> None:
        self._on_bad = on_bad

    def tolerating(self, on_bad: OnBad) -> Format:
        return TfRecords(on_bad)

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        if file.size == 0:
            raise PermanentError(
                f"{file.path}: the file is empty", code="empty_file", path=file.path
            )
        start = 0
        if file.size > target:
            with open(file.uri) as stream:
                if not _compressed(stream, cast(TfOptions, options)):
                    stream.seek(0)
                    for end in record_ends(stream, file.size, target):
                        yield Split(file.uri, file.path, start, end, end - start)
                        start = end
        yield Split(file.uri, file.path, start, file.size, file.size - start)

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        how, done = cast(TfOptions, options), 0
        if how.records == "raw":
            return pa.schema([(RECORD, pa.binary())])
        schema = pa.schema([])
        for block in self._blocks(split, open, how):
            fields = [infer_field(n, n.name in how.lists, how.text) for n in block.named]
            schema = join_schemas([(split.path, schema), (split.path, pa.schema(fields))])
            done += block.size
            if limit is not None and done >= limit:
                break
        return schema

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return join_schemas(schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        keys.refuse_reserved(how.schema.names, split.path)
        keys.require_columns(how.key, how.schema.names, split.path)
        return keys.gathered(self._read(split, open, how))

    def _read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        of = source_id(split.uri)
        for block in self._blocks(split, open, cast(TfOptions, how.options)):
            columns = block.columns(how.schema)
            content = made = keys.array_digests(block.canonical())
            if how.key:
                named = dict(zip(how.schema.names, columns, strict=True))
                made = keys.declared_keys(named, how.key, block.place)
            yield from keys.with_system_columns(columns, how.schema, made, content, of)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return TfWriter(path, schema, cast(TfWriteOptions, options))

    def _blocks(self, split: Split, open: Open, options: TfOptions) -> Iterator[_Block]:
        def on_fault(fault: Fault) -> None:
            if self._on_bad is None:
                raise fault.error(split.path)
            where = f"{split.path}: record at byte {fault.offset:,}"
            self._on_bad(
                BadRecord(
                    split.uri, split.path, fault.code, f"{where}: {fault.detail}",
                    start=fault.offset, stop=fault.stop, data=fault.data, whole=fault.rest,
                    size=_size(fault, split) if fault.rest else 0,
                )
            )  # fmt: skip

        with _opened(open, split, options) as (stream, stop):
            frames: Iterable[Frames] = Framer(
                stream, split.start, stop, options.max_record_bytes, on_fault
            )
            for found in frames:
                block = _Block.of(found, split, options)
                if block.broken.any():
                    for i in np.flatnonzero(block.broken).tolist():
                        on_fault(_not_an_example(found, i, options))
                    block = _Block.of(found.only(~block.broken), split, options)
                if len(block.frames.starts):
                    yield block


@dataclass(frozen=True)
class _Block:
    """Some records, taken apart."""

    frames: Frames
    named: list[Named]
    broken: np.ndarray[tuple[int], np.dtype[np.bool_]]
    split: Split

    @classmethod
    def of(cls, frames: Frames, split: Split, options: TfOptions) -> _Block:
        broken = np.zeros(len(frames.starts), np.bool_)
        if options.records == "raw":
            return cls(frames, [], broken, split)
        examples = Examples(padded(frames.data), frames.starts, frames.stops, broken)
        lists = examples.feature_lists() if options.records == "sequence" else ()
        named: dict[str, Named] = {}
        for found in chain(examples.features(), lists):
            if isinstance(found, Mixture):
                if not broken[found.record]:
                    raise _mixed(found, frames, split)
                continue
            if found.name in named:
                raise _twice(found.name, split)
            named[found.name] = found
        return cls(frames, list(named.values()), broken, split)

    @property
    def size(self) -> int:
        return len(self.frames.data)

    def columns(self, schema: pa.Schema) -> list[pa.Array]:
        """The values as the schema says; raises TypeConflict."""
        rows = len(self.frames.starts)
        if schema.names == [RECORD] and not self.named:
            return [self._raw()]
        named = {n.name: n for n in self.named}
        if unknown := set(named) - set(schema.names):
            raise TypeConflict(min(unknown), "a feature that wasn't there before")
        return [
            column(named[f.name], f, rows) if f.name in named else pa.nulls(rows, f.type)
            for f in schema
        ]

    def canonical(self) -> pa.BinaryArray:
        """What row keys are made from."""
        return canonical(self.named, len(self.frames.starts)) if self.named else self._raw()

    def _raw(self) -> pa.BinaryArray:
        return binaries(padded(self.frames.data), self.frames.starts, self.frames.stops)

    def place(self, row: int) -> str:
        return f"{self.split.path}: record at byte {self.frames.place(row):,}"


def _not_an_example(frames: Frames, i: int, options: TfOptions) -> Fault:
    what = "SequenceExample" if options.records == "sequence" else "tf.train.Example"
    detail = f"not a {what}; set the option records: raw to take records as they are"
    data = frames.record(i)
    stop = frames.place(i) + HEAD + len(data) + TAIL
    return Fault(frames.place(i), stop, "parse_error", detail, data)


def _size(fault: Fault, split: Split) -> int:
    return split.size if fault.stop is None else fault.stop - fault.offset


def _mixed(found: Mixture, frames: Frames, split: Split) -> PermanentError:
    where = f"{split.path}: record at byte {frames.place(found.record):,}"
    return PermanentError(
        f"{where}: the feature {found.name!r} has {found.detail}; a feature has one kind "
        "everywhere",
        code="schema_mismatch",
        path=split.path,
    )


def _twice(name: str, split: Split) -> PermanentError:
    return PermanentError(
        f"{split.path}: {name!r} is a feature of the context and a feature list; rename one",
        code="duplicate_columns",
        path=split.path,
    )


def _compressed(stream: BinaryIO, options: TfOptions) -> bool:
    """By the option, or by how the file begins: a header whose checksum holds is no accident."""
    if options.compression != "auto":
        return options.compression != "none"
    head = stream.read(HEAD)
    if len(head) == HEAD:
        length, crc = FRAME_HEADER.unpack(head)
        if length_crc(length) == crc:
            return False
    return looks_compressed(head)


@contextmanager
def _opened(open: Open, split: Split, options: TfOptions) -> Iterator[tuple[BinaryIO, int]]:
    """The stream at the split's first record, and where its records stop."""
    with open(split.uri) as stream:
        packed = split.start == 0 and _compressed(stream, options)
        stream.seek(split.start)
        yield (cast(BinaryIO, Inflated(stream)), END) if packed else (stream, split.stop)


PLUGIN = TfRecords()
