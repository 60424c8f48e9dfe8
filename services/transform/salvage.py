"""onError: quarantine. What can't be read is noted and left out, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from libs.common.errors import PermanentError
from libs.formats import BadRecord, Format, Open, ReadOptions, SourceFile, Split, Tolerant
from libs.warehouse.quarantine import KEPT, Item, shortened, write_part

MOST = 100_000  # bad records of one task; more is no accident, and would take all memory
HELD = 64 << 20  # bytes of a split's rows that wait until the split is known to be good
OURS = "spec."  # where errors stand that the manifest has to answer for, not the data
NOT_DATA = frozenset({"source_changed", "not_found", "too_many_bad", "access_denied", "forbidden"})
A = TypeVar("A")
T = TypeVar("T")


class Late(Exception):
    """A split turned out bad when rows of it were written already: write again, without it."""

    def __init__(self, split: Split, record: BadRecord) -> None:
        super().__init__(split.path)
        self.split, self.record = split, record


class Bad:
    """What one task found."""

    def __init__(self, known: Iterable[BadRecord] = ()) -> None:
        self._items: list[Item] = []
        self._kept = 0
        for record in known:
            self.add(record)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, record: BadRecord) -> None:
        """Raises `too_many_bad`."""
        if len(self._items) >= MOST:
            raise PermanentError(
                f"{record.path}: more than {MOST:,} bad records in one piece of work; the first "
                f"ones: {self._items[0].detail}",
                code="too_many_bad",
                path="spec.onError",
            )
        data, truncated = shortened(record.data, self._kept)
        self._kept += len(data)
        fields = {k: v for k, v in vars(record).items() if k != "data"}
        self._items.append(Item(**fields, bytes=data, truncated=truncated))

    def forget(self, since: int) -> None:
        """Drops what was added after there were `since` items."""
        self._kept -= sum(len(item.bytes) for item in self._items[since:])
        del self._items[since:]

    def write(self, folder: str, name: str) -> str | None:
        """The items as a part of the run's quarantine; None where there are none."""
        if not self._items:
            return None
        path = Path(folder) / "quarantine" / f"{name}.parquet"
        write_part(path, self._items)
        return str(path)


def tolerant(form: Format, bad: Bad | None) -> Format:
    """The format, leaving bad records out where it can; without `bad` nobody is told."""
    tell: Callable[[BadRecord], None] = bad.add if bad is not None else _nobody
    return form.tolerating(tell) if isinstance(form, Tolerant) else form


def _nobody(record: BadRecord) -> None:
    """Types are taken from what is good; what is bad is told when rows are read."""


def attempted(what: Callable[[A], T], of: A) -> T | PermanentError:
    """The result, or the fault of the data that prevents it."""
    try:
        return what(of)
    except PermanentError as wrong:
        if not is_fault_of_data(wrong):
            raise
        return wrong


def is_fault_of_data(wrong: PermanentError) -> bool:
    """Whether a file's content is to blame, rather than the manifest or where the file is."""
    return wrong.code not in NOT_DATA and not (wrong.path or "").startswith(OURS)


def bad_file(file: SourceFile, wrong: PermanentError, opened: Open) -> BadRecord:
    """A file that can't even be cut into splits."""
    return BadRecord(
        file.uri, file.path, wrong.code, wrong.detail,
        stop=file.size, data=_head(file.uri, 0, opened), whole=True, size=file.size,
    )  # fmt: skip


def bad_split(split: Split, wrong: PermanentError, opened: Open) -> BadRecord:
    """A split of which nothing can be used."""
    stop = split.stop if split.size == split.stop - split.start else None  # else no bytes: groups
    start = split.start if stop is not None else 0
    return BadRecord(
        split.uri, split.path, wrong.code, wrong.detail,
        start=start, stop=stop, data=_head(split.uri, start, opened), whole=True, size=split.size,
    )  # fmt: skip


def _head(uri: str, start: int, opened: Open) -> bytes:
    """Some bytes to look at, where the file can be opened at all."""
    try:
        with opened(uri) as stream:
            stream.seek(start)
            return stream.read(KEPT + 1)
    except (OSError, PermanentError):
        return b""


def _next(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next(batches, None)


def rows_of(
    form: Format, split: Split, opened: Open, how: ReadOptions, bad: Bad
) -> Iterator[pa.RecordBatch]:
    """All rows of a split that can be used, or none of them; raises Late."""
    before, waiting, size = len(bad), list[pa.RecordBatch](), 0
    batches = form.read(split, opened, how)
    while True:
        batch = attempted(_next, batches)
        if isinstance(batch, PermanentError):
            bad.forget(before)
            record = bad_split(split, batch, opened)
            if size > HELD:
                raise Late(split, record)
            bad.add(record)
            return
        if batch is None:
            yield from waiting
            return
        size += batch.nbytes
        waiting.append(batch)
        if size > HELD:
            yield from waiting
            waiting.clear()
