"""Writing a file per row: which column, which names, and folders where they are many."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from xxhash import xxh3_64_hexdigest

from libs.common.errors import PermanentError
from libs.formats import ROW, Leaf, user_schema
from libs.formats._key_texts import key_texts

FLAT = 10_000  # files in one folder; more are spread over 256
MOST = 100_000  # files of one delivery: each has a line in its manifest
ALIKE = {".jpeg": ".jpg", ".tiff": ".tif"}
RESERVED = "_manifest.json"
OTHERS = "parquet, jsonl and tfrecords hold every column"


class TreeOptions(BaseModel):
    """Writer options of formats that write a file per row; each names a column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str | None = None  # the content; the others are left out
    name: str | None = None  # the files' names; / makes folders. Without: the row key
    extension: str | None = None  # the names' ends. Without: by content


@dataclass(frozen=True)
class Leaves:
    """What a format knows of the files it writes."""

    format: str
    columns: tuple[str, ...]  # what the content's column is called, if nobody says
    made: Sequence[str]  # columns that reading such files makes again: they may be left out
    suffix: Callable[[bytes, str | None], str]  # of content and its old path; `inexpressible`
    texts: bool = False  # content is text, not bytes


class Tree:
    """Writes files below a folder."""

    def __init__(
        self, folder: str, schema: pa.Schema, options: TreeOptions, leaves: Leaves, rows: int
    ) -> None:
        _check_rows(rows, leaves)
        self._folder, self._options, self._leaves = Path(folder), options, leaves
        self._spread = rows > FLAT
        self._column = content_column(user_schema(schema), options, leaves)
        for name in (options.name, options.extension):
            if name is not None:
                _require(name, schema)

    def write(self, batch: pa.RecordBatch) -> Iterator[Leaf]:
        datas, paths = _contents(batch, self._column)
        names = self._texts(batch, self._options.name)
        ends = self._texts(batch, self._options.extension)
        for row, data in enumerate(datas):
            if data is None:
                raise _inexpressible(f"a row has nothing in {self._column!r}; filter such rows out")
            end = _extension(ends[row]) if ends else self._leaves.suffix(data, paths[row])
            if names:
                leaf = self._named(names[row], end, data)
            else:
                leaf = self._keyed(batch.column(ROW)[row].as_py().hex(), end, data)
            yield Leaf(leaf, len(data), hashlib.sha256(data).hexdigest())

    def _texts(self, batch: pa.RecordBatch, column: str | None) -> list[str | None]:
        found: list[str | None] = []
        if column is not None:
            found = key_texts(column, batch.column(column)).to_pylist()
        return found

    def _named(self, name: str | None, end: str, data: bytes) -> str:
        path = _safe(name or "", end)
        if self._spread and "/" not in path:
            path = f"{xxh3_64_hexdigest(path.encode())[:2]}/{path}"
        try:
            self._put(path, data)
        except (FileExistsError, NotADirectoryError) as twice:
            raise PermanentError(
                f"two rows have the name {path!r}; name a column whose values differ "
                "(option name), or none: then the row keys are the names",
                code="duplicate_name",
            ) from twice
        return path

    def _keyed(self, key: str, end: str, data: bytes) -> str:
        """Identical records share a key: the second is `…-2`."""
        folder = f"{key[:2]}/" if self._spread else ""
        for number in count(1):
            path = f"{folder}{key}{f'-{number}' if number > 1 else ''}{end}"
            try:
                self._put(path, data)
            except FileExistsError:
                continue
            break
        return path

    def _put(self, path: str, data: bytes) -> None:
        goal = self._folder / path
        if "/" in path:
            goal.parent.mkdir(parents=True, exist_ok=True)
        with goal.open("xb") as file:
            file.write(data)


def content_column(schema: pa.Schema, options: TreeOptions, leaves: Leaves) -> str:
    """The column that is written; raises `inexpressible` where others would be lost unasked."""
    if options.column is not None:
        _require(options.column, schema)
        kind = schema.field(options.column).type
        if not holds(kind, leaves):
            raise _inexpressible(f"column {options.column!r}: no {leaves.format} files from {kind}")
        return options.column
    able = [field.name for field in schema if holds(field.type, leaves)]
    chosen = [name for name in leaves.columns if name in able] or able
    if not chosen:
        wanted = "text" if leaves.texts else "bytes (or a struct of bytes and path)"
        raise _inexpressible(
            f"{leaves.format} files need a column of {wanted}; there are: "
            f"{', '.join(f'{f.name} ({f.type})' for f in schema)}. {OTHERS}"
        )
    used = {chosen[0], options.name, options.extension, *leaves.made}
    lost = [name for name in schema.names if name not in used]
    if lost:
        raise _inexpressible(
            f"{leaves.format} files hold one column; {', '.join(map(repr, lost))} would be lost. "
            f"Say which one to write (option column: {chosen[0]}), or choose a format: {OTHERS}"
        )
    return chosen[0]


def holds(kind: pa.DataType, leaves: Leaves) -> bool:
    """Whether such values can be the content of files."""
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind):
        return leaves.texts or leaves.format == "binary"
    if types.is_struct(kind):
        return not leaves.texts and "bytes" in {f.name for f in kind}
    return not leaves.texts and (types.is_binary(kind) or types.is_large_binary(kind))


def suffix_of(path: str) -> str:
    """The end of a name where it is one that can stand in another name."""
    end = PurePosixPath(path).suffix
    return end if end[1:].isalnum() and end.isascii() and len(end) <= 17 else ""


def no_parts(format: str) -> PermanentError:
    """For a destination that knows part files alone."""
    return PermanentError(
        f"{format} is written as a file per row, which this destination can't hold; {OTHERS}",
        code="inexpressible",
    )


def _contents(
    batch: pa.RecordBatch, name: str
) -> tuple[Sequence[bytes | None], Sequence[str | None]]:
    """Bytes of each row, and the path it had, if a column says so."""
    column = batch.column(name)
    paths: Sequence[str | None] = [None] * batch.num_rows
    if "path" in batch.schema.names and pa.types.is_string(batch.column("path").type):
        paths = batch.column("path").to_pylist()
    if pa.types.is_struct(column.type):
        fields = {field.name for field in column.type}
        if "path" in fields:
            paths = pa.compute.struct_field(column, "path").to_pylist()
        column = pa.compute.struct_field(column, "bytes")
    return column.cast(pa.large_binary()).to_pylist(), paths


def _safe(name: str, end: str) -> str:
    """A path below the folder; raises `invalid_name`."""
    have = PurePosixPath(name).suffix.lower()
    path = name if ALIKE.get(have, have) == ALIKE.get(end, end) else name + end
    parts = path.split("/")
    odd = any(p.startswith(".") or not p or len(p.encode()) > 255 or "\\" in p for p in parts)
    if not name or odd or not path.isprintable() or path == RESERVED or len(parts) > 16:
        raise PermanentError(
            f"{name!r} can't be a file's name: no part of it may be empty, begin with a point, or "
            "have backslashes, control characters or more than 255 bytes",
            code="invalid_name",
        )
    return path


def _extension(text: str | None) -> str:
    end = f".{(text or '').removeprefix('.')}"
    if not suffix_of(f"x{end}"):
        raise PermanentError(
            f"{text!r} can't be the end of a file's name: at most 16 letters and digits",
            code="invalid_name",
        )
    return end


def _require(name: str, schema: pa.Schema) -> None:
    if name not in schema.names:
        columns = ", ".join(user_schema(schema).names)
        raise PermanentError(f"no column {name!r}; columns: {columns}", code="column_missing")


def _check_rows(rows: int, leaves: Leaves) -> None:
    if rows > MOST:
        raise _inexpressible(
            f"{rows:,} rows would be as many {leaves.format} files; at most {MOST:,} are written. "
            f"Filter or sample them, or choose a format: {OTHERS}"
        )


def _inexpressible(text: str) -> PermanentError:
    return PermanentError(text, code="inexpressible")
