"""Opaque files: one row each, with size and checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import pyarrow as pa
from pydantic import BaseModel

from libs.common.errors import PermanentError
from libs.formats import OnBad, Open, ReadOptions, SourceFile, Split, Writer
from libs.formats import _files as files
from libs.formats import _keys as keys
from libs.formats._signatures import kind_of
from libs.formats._trees import Leaves, Tree, TreeOptions, no_parts, suffix_of

SCHEMA = pa.schema(
    [
        pa.field("bytes", pa.binary()),
        pa.field("path", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("sha256", pa.string()),  # hex
    ]
)


class BinaryOptions(files.FileOptions):
    """Reader options of binary."""

    allowEmpty: bool = False  # files of no bytes are rows too


class Binary:
    """The format binary."""

    suffixes: tuple[str, ...] = (".bin",)
    Options: type[BaseModel] = BinaryOptions
    WriteOptions: type[BaseModel] = TreeOptions

    def __init__(self, on_bad: OnBad | None = None) -> None:
        self._on_bad = on_bad

    def tolerating(self, on_bad: OnBad) -> Binary:
        return Binary(on_bad)

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        return [files.whole(file)]

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        return SCHEMA

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return SCHEMA

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        return self.read_many([split], open, how)

    def read_many(
        self, splits: Sequence[Split], open: Open, how: ReadOptions
    ) -> Iterator[pa.RecordBatch]:
        options = cast(BinaryOptions, how.options)
        rows = files.Gathering(how)
        if splits:
            keys.require_columns(how.key, SCHEMA.names, splits[0].path)
        for split, data in files.contents(splits, open, options.maxBytes):
            if isinstance(data, PermanentError) and data.code == "empty_file":
                data = b"" if options.allowEmpty else data
            if isinstance(data, PermanentError):
                files.told(data, split, b"", self._on_bad)
                continue
            if not rows.fits(len(data)):
                yield from rows.flush()
            digest = hashlib.sha256(data).hexdigest()
            rows.add(split, (split.path,), data, (data, split.path, len(data), digest))
        yield from rows.flush()

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        raise no_parts("binary")

    def tree(self, folder: str, schema: pa.Schema, options: BaseModel, rows: int) -> Tree:
        leaves = Leaves("binary", ("bytes",), SCHEMA.names, _suffix)
        return Tree(folder, schema, cast(TreeOptions, options), leaves, rows)


def _suffix(data: bytes, path: str | None) -> str:
    """As the file was called that the row was, else by content."""
    kind = kind_of(data[:32])
    return (suffix_of(path) if path else "") or (kind.suffix if kind else ".bin")


PLUGIN = Binary()
