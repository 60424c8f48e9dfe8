"""File formats, one file each: how a file is split, read into Arrow, and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import BinaryIO, Protocol, runtime_checkable

import pyarrow as pa
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from libs.common.errors import PermanentError, Problem
from libs.common.registry import Registry

Open = Callable[[str], BinaryIO]  # a URI → a seekable binary file; the caller closes it

ROW, HASH, SOURCE = "_row", "_hash", "_source"
# In a field's metadata: what its values are to `datasets` of Hugging Face (JSON of a feature).
FEATURE = b"huggingface"
SYSTEM_FIELDS = (
    pa.field(ROW, pa.binary(16), nullable=False),  # xxh3-128 identity of the row
    pa.field(HASH, pa.binary(8), nullable=False),  # start of the xxh3-128 of its source content
    pa.field(SOURCE, pa.int64(), nullable=False),  # libs.common.ids.source_id of its file
)


@dataclass(frozen=True)
class SourceFile:
    """One file of a run's inventory."""

    uri: str
    path: str  # below the source's root
    size: int  # bytes
    etag: str = ""  # its state, in words that libs.stores.open_uri understands


@dataclass(frozen=True)
class Split:
    """A piece of one file that one task reads; plain JSON values only.

    Record formats: records that begin in bytes [start, stop). Parquet: row groups [start, stop).
    """

    uri: str
    path: str
    start: int
    stop: int
    size: int  # bytes to read, about
    first: int = 0  # records before it in the file, where the format numbers them


@dataclass(frozen=True)
class ReadOptions:
    """What reading needs beside the split. `schema`: user columns, as `infer` found them."""

    schema: pa.Schema
    options: BaseModel
    key: tuple[str, ...] = ()


class TypeConflict(Exception):
    """A value doesn't fit the column type taken from the head; infer over everything, read again.

    Not an error for a person: the engine's driver handles it by widening.
    """

    def __init__(self, column: str, detail: str) -> None:
        super().__init__(f"{column}: {detail}")
        self.column = column


@dataclass(frozen=True)
class BadRecord:
    """What can't be read of a file, and why."""

    uri: str
    path: str
    code: str
    detail: str
    start: int = 0  # bytes [start, stop) of the file, decompressed where that is the reader's …
    stop: int | None = None  # … work; None: to its end
    line: int | None = None  # of formats that have lines
    data: bytes = b""  # the record itself, or its beginning
    whole: bool = False  # no single record, but the file or a piece of it …
    size: int = 0  # … of so many bytes, counted as the format's splits are


OnBad = Callable[[BadRecord], None]


class Writer(Protocol):
    """Writes record batches into one part file; `close` finishes the file."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


class Format(Protocol):
    """One format. Raises PermanentError (code, file and line or position) for bad content."""

    suffixes: tuple[str, ...]  # ".csv", …; the first names parts that we write
    Options: type[BaseModel]  # reader options (manifest: source.options); unknown ones refused
    WriteOptions: type[BaseModel]  # destination.options

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        """Pieces of about `target` bytes that together cover the file once."""

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        """Narrowest types that hold the split's values; `limit` bytes from its start, or all."""

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        """The narrowest schema that holds everything: `(path, what infer gave)`, in split order.

        Columns in order of first appearance. Raises PermanentError `schema_mismatch`.
        """

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        """Batches with exactly `how.schema`'s columns, then the three SYSTEM_FIELDS.

        Bounded memory: batches of at most ~64k rows and ~16 MB. Raises TypeConflict where a value
        doesn't fit `how.schema`.
        """

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        """A writer into a new local file. Raises PermanentError `inexpressible` by schema."""


@runtime_checkable
class FileFormat(Format, Protocol):
    """A format whose rows are files or parts of them: sources are many small files."""

    def read_many(
        self, splits: Sequence[Split], open: Open, how: ReadOptions
    ) -> Iterator[pa.RecordBatch]:
        """As `read`, over many splits: a batch holds rows of many files."""

    def tree(
        self, folder: str, schema: pa.Schema, options: BaseModel, rows: int
    ) -> TreeWriter | None:
        """Writes a file per row below `folder`; None where `writer` makes part files.

        `schema` has the system columns. Raises PermanentError `inexpressible`, `column_missing`.
        """


@dataclass(frozen=True)
class Leaf:
    """One file of a tree, written: its path below the folder, parts joined by `/`."""

    path: str
    size: int  # bytes
    sha256: str  # hex


class TreeWriter(Protocol):
    """Writes a file per row."""

    def write(self, batch: pa.RecordBatch) -> Iterator[Leaf]:
        """The batch has the system columns. Raises `inexpressible`, `duplicate_name`, …."""


@runtime_checkable
class Tolerant(Protocol):
    """A format that can pass over single bad records and go on with the next.

    Of other formats a piece that can't be read (a split) is bad as a whole.
    """

    def tolerating(self, on_bad: OnBad) -> Format:
        """The same format, telling `on_bad` where it would raise for a record; by split alike."""


FORMATS: Registry[Format] = Registry("libs.formats", lambda: list(__path__), noun="format")


def user_schema(schema: pa.Schema) -> pa.Schema:
    """The schema without system columns."""
    return pa.schema([f for f in schema if f.name not in (ROW, HASH, SOURCE)], schema.metadata)


def parse_options(model: type[BaseModel], values: Mapping[str, object], path: str) -> BaseModel:
    """`values` checked by a format's Options; raises PermanentError `invalid_option`, all at once.

    `path` is where they stand in the manifest, such as `spec.source.options`.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as invalid:
        problems = tuple(_problem(model, error, path) for error in invalid.errors())
    text = "; ".join(str(problem) for problem in problems)
    raise PermanentError(text, code="invalid_option", path=path, problems=problems)


def _problem(model: type[BaseModel], error: ErrorDetails, path: str) -> Problem:
    where = ".".join((path, *map(str, error["loc"])))
    if error["type"] != "extra_forbidden":
        return Problem("invalid_option", error["msg"], where)
    name = str(error["loc"][-1])
    near = get_close_matches(name, model.model_fields, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    known = ", ".join(sorted(model.model_fields)) or "none"
    return Problem("unknown_field", f"unknown option {name!r}{hint}; known: {known}", where)
