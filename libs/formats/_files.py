"""Reading many whole files: their bytes in order, and the rows they make in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from xxhash import xxh3_128_digest

from libs.common.errors import PermanentError
from libs.common.ids import source_id
from libs.formats import BadRecord, OnBad, Open, ReadOptions, SourceFile, Split
from libs.formats import _keys as keys

THREADS = 8  # of files that lie elsewhere; waiting is what takes time there
AHEAD = 16 << 20  # bytes that wait to be worked on, beyond one file
ROWS, BYTES = 4096, 16 << 20  # of a batch; it has one row at least

# What is wrong with the place of a file rather than with its content.
STORES_SAY = frozenset(
    {"source_changed", "source_not_found", "source_forbidden", "source_unreadable", "not_a_file",
     "secret_not_found", "path_outside_root", "endpoint_forbidden"}
)  # fmt: skip

Content = tuple[Split, bytes | PermanentError]


class FileOptions(BaseModel):
    """Reader options of all formats of whole files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A file is in memory as a whole while it is read.
    maxBytes: Annotated[int, Field(gt=0, le=1 << 30)] = 256 << 20


def whole(file: SourceFile) -> Split:
    """The split that is the whole file."""
    return Split(file.uri, file.path, 0, file.size, file.size)


def contents(splits: Iterable[Split], open: Open, limit: int) -> Iterator[Content]:
    """Each file's bytes or what is wrong with it, in order; remote ones are read ahead."""
    waiting: deque[tuple[Split, Future[bytes | PermanentError]]] = deque()
    ahead = 0
    with ThreadPoolExecutor(THREADS, "read-ahead") as threads:  # starts them when there is work
        for split in splits:
            if local(split.uri):
                yield split, content(split, open, limit)
                continue
            while waiting and (ahead + split.size > AHEAD or len(waiting) >= 2 * THREADS):
                done, future = waiting.popleft()
                ahead -= done.size
                yield done, future.result()
            waiting.append((split, threads.submit(content, split, open, limit)))
            ahead += split.size
        for done, future in waiting:
            yield done, future.result()


def local(uri: str) -> bool:
    """Whether a file lies on this machine, so that threads would only be in each other's way."""
    return uri.startswith("file:") or "://" not in uri


def content(split: Split, open: Open, limit: int) -> bytes | PermanentError:
    """The file's bytes; what is permanently wrong with it is returned, all else raised."""
    if split.size > limit:
        return too_large(split.path, limit)
    try:
        with open(split.uri) as file:
            data = file.read(split.size + 1)
            if len(data) > split.size:  # what was listed was the size of a compressed file
                data += file.read(limit + 1 - len(data))
    except PermanentError as wrong:
        return wrong
    if len(data) > limit:
        return too_large(split.path, limit)
    return data or empty(split.path)


def too_large(path: str, limit: int) -> PermanentError:
    """A file that can't be held in memory."""
    return PermanentError(
        f"{path}: larger than {limit:,} bytes; raise the option maxBytes (at most {1 << 30:,}) "
        "if there is memory for it, or leave the file out",
        code="file_too_large",
        path=path,
    )


def empty(path: str) -> PermanentError:
    """A file of no bytes."""
    return PermanentError(f"{path}: the file is empty", code="empty_file", path=path)


class Gathering:
    """Rows on their way into batches, with the keys of file formats (docs/row-keys.md)."""

    def __init__(self, how: ReadOptions) -> None:
        self._how = how
        self._schema = keys.full_schema(how.schema)
        self._reset()

    def _reset(self) -> None:
        self._columns: list[list[object]] = [[] for _ in self._how.schema]
        self._keys: list[bytes] = []
        self._hashes: list[bytes] = []
        self._sources: list[int] = []
        self._paths: list[str] = []
        self._bytes = 0

    def add(self, split: Split, name: Sequence[str], data: bytes, values: Sequence[object]) -> None:
        """One row: what its key is made of, its content, its columns in the schema's order."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        self._keys.append(xxh3_128_digest(keys.encode_texts(name)))
        self._hashes.append(xxh3_128_digest(data)[:8])
        self._sources.append(source_id(split.uri))
        self._paths.append(split.path)
        self._bytes += len(data)

    def fits(self, size: int) -> bool:
        """Whether a row of `size` bytes belongs to this batch rather than to the next."""
        return not self._keys or (len(self._keys) < ROWS and self._bytes + size <= BYTES)

    def flush(self) -> Iterator[pa.RecordBatch]:
        """The batch so far, if it has rows."""
        if not self._keys:
            return
        fields = zip(self._how.schema, self._columns, strict=True)
        columns = {field.name: pa.array(values, field.type) for field, values in fields}
        rows = np.frombuffer(b"".join(self._keys), np.uint8).reshape(-1, 16)
        if self._how.key:
            rows = keys.declared_keys(columns, self._how.key, self._paths.__getitem__)
        system = [
            pa.array([row.tobytes() for row in rows], pa.binary(16)),
            pa.array(self._hashes, pa.binary(8)),
            pa.array(self._sources, pa.int64()),
        ]
        batch = pa.RecordBatch.from_arrays([*columns.values(), *system], schema=self._schema)
        self._reset()
        yield batch


def told(wrong: PermanentError, split: Split, data: object, on_bad: OnBad | None) -> None:
    """Tells of a bad file, so that reading goes on; raises it where nobody listens."""
    if on_bad is None or wrong.code in STORES_SAY:
        raise wrong
    known = data if isinstance(data, bytes) else b""
    on_bad(
        BadRecord(split.uri, split.path, wrong.code, wrong.detail, stop=split.size, data=known,
                  whole=True)
    )  # fmt: skip
