"""What worker processes do: one task in, one answer out, both JSON; memory stays bounded."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from libs.common.errors import OneBlockError, PermanentError
from libs.formats import (
    FORMATS,
    SYSTEM_FIELDS,
    BadRecord,
    FileFormat,
    Format,
    Open,
    ReadOptions,
    Split,
    TypeConflict,
    parse_options,
)
from libs.formats._keys import gathered
from libs.stores import open_uri
from libs.warehouse.fragments import write_fragments
from services.transform.exchange import ExchangeFile, read_slices
from services.transform.operations import AT
from services.transform.operations.cast import BadValue
from services.transform.pipeline import Segment, after, bind, exchange, segments, stored
from services.transform.plan import Recipe
from services.transform.salvage import Bad, Late, attempted, bad_file, rows_of, tolerant
from services.transform.tasks import (
    TASK,
    Answer,
    Columns,
    Infer,
    Inferred,
    Join,
    Read,
    Reduce,
    Survey,
    Surveyed,
    Trouble,
    Written,
    dump_schema,
    load_schema,
)

Rows = Iterator[pa.RecordBatch]
FULL = "No space left on device"
POSITION_BITS = 40  # of a row within its split; above them the number of the split


def prepare() -> None:
    """Once per process: other workers use the other cores."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)


def answer(line: str) -> str:
    """Does one task. Never raises: what goes wrong is part of the answer."""
    try:
        return Answer(result=_do(line).model_dump_json()).model_dump_json()
    except TypeConflict as conflict:
        trouble = Trouble(kind="conflict", detail=str(conflict))
    except OneBlockError as error:
        trouble = Trouble.of(error)
    except OSError as error:
        trouble = _full(error) or Trouble(kind="bug", detail=traceback.format_exc(limit=20))
    except Exception:
        trouble = Trouble(kind="bug", detail=traceback.format_exc(limit=20))
    return Answer(trouble=trouble).model_dump_json()


def _full(error: OSError) -> Trouble | None:
    """A disk without space is nobody's bug; Lance says so in words alone."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or FULL in str(error)
    detail = "no space left in the warehouse; free some, the run goes on by itself"
    return Trouble(kind="transient", code="storage_full", detail=detail) if full else None


def _do(line: str) -> BaseModel:
    task = TASK.validate_json(line)
    match task:
        case Survey():
            return survey(task)
        case Infer():
            return infer(task)
        case Join():
            return join(task)
        case Read():
            return read(task)
        case Reduce():
            return reduce(task)


def survey(task: Survey) -> Surveyed:
    """Splits of the files; the head's column types are taken from the first file."""
    form, options = _format(task.recipe)
    opened = _pinned(task.recipe, {f.uri: f.etag for f in task.files})
    if task.recipe.quarantine:
        return _survey_good(task, form, options, opened)
    splits = [s for f in task.files for s in form.splits(f, task.recipe.split, opened, options)]
    if not task.head or not splits:
        return Surveyed(splits=tuple(splits))
    head = form.infer(splits[0], opened, options, task.recipe.head)
    columns = _columns(task.recipe, form.join([(splits[0].path, head)]))
    return Surveyed(splits=tuple(splits), columns=columns)


def _survey_good(task: Survey, form: Format, options: BaseModel, opened: Open) -> Surveyed:
    """Files that can't be cut are bad; a head that can't be read leaves types to `infer`."""
    form, bad, size = tolerant(form, None), Bad(), task.recipe.split
    splits: list[Split] = []
    for file in task.files:
        found = attempted(lambda f: list(form.splits(f, size, opened, options)), file)
        if isinstance(found, PermanentError):
            bad.add(bad_file(file, found, opened))
        else:
            splits += found
    part = bad.write(task.recipe.stage, f"survey-{task.number}")
    columns = None
    if task.head and splits:
        head = attempted(lambda s: form.infer(s, opened, options, task.recipe.head), splits[0])
        if not isinstance(head, PermanentError):
            columns = _columns(task.recipe, form.join([(splits[0].path, head)]))
    return Surveyed(splits=tuple(splits), columns=columns, bad=part)


def infer(task: Infer) -> Inferred:
    """Column types over whole splits, joined by file."""
    form, options = _format(task.recipe)
    opened = _pinned(task.recipe, task.etags)
    inferred: Iterable[tuple[Split, pa.Schema]]
    if task.recipe.quarantine:
        inferred = _infer_good(task, tolerant(form, None), options, opened)
    else:
        inferred = ((s, form.infer(s, opened, options, None)) for s in task.splits)
    found = [
        (path, form.join([(s.path, schema) for s, schema in schemas]))
        for path, schemas in groupby(inferred, key=lambda pair: pair[0].path)
    ]
    return Inferred(schemas=tuple((path, dump_schema(schema)) for path, schema in found))


def _infer_good(
    task: Infer, form: Format, options: BaseModel, opened: Open
) -> Iterator[tuple[Split, pa.Schema]]:
    """Splits that can't be read decide no types."""
    for split in task.splits:
        found = attempted(lambda s: form.infer(s, opened, options, None), split)
        if not isinstance(found, PermanentError):
            yield split, found


def join(task: Join) -> Columns:
    """What all files hold together."""
    form, _ = _format(task.recipe)
    schemas = [(path, load_schema(text)) for path, text in task.schemas]
    return _columns(task.recipe, form.join(schemas))


def read(task: Read) -> Written:
    """Reads splits through the first segment; later exchanges know rows by their position."""
    opened = _pinned(task.recipe, task.etags)
    form, options = _format(task.recipe)
    how = ReadOptions(schema=load_schema(task.schema_), options=options, key=task.recipe.key)
    many = partial(form.read_many, open=opened, how=how) if isinstance(form, FileFormat) else None
    if not task.recipe.quarantine:
        return _read(task, how, lambda split: form.read(split, opened, how), many)
    late: dict[Split, BadRecord] = {}
    while True:  # once more for each split that turns out bad when rows of it are written already
        bad = Bad(late.values())
        good = partial(_good_rows, tolerant(form, bad), late, opened, how, bad)
        all_good = None if many is None else partial(_good_files, good)
        try:
            written = _read(task, how, good, all_good)
        except Late as found:
            late[found.split] = found.record
            continue
        return written.model_copy(update={"bad": bad.write(task.recipe.stage, f"{task.number}")})


def _good_rows(
    form: Format, late: Container[Split], opened: Open, how: ReadOptions, bad: Bad, split: Split
) -> Rows:
    return iter(()) if split in late else rows_of(form, split, opened, how, bad)


def _good_files(rows_of_split: Callable[[Split], Rows], splits: Iterable[Split]) -> Rows:
    """Many to a batch, each good or bad on its own."""
    return gathered(batch for split in splits for batch in rows_of_split(split))


def _read(
    task: Read,
    how: ReadOptions,
    rows_of_split: Callable[[Split], Rows],
    rows_of_many: Callable[[Sequence[Split]], Rows] | None,
) -> Written:
    recipe, schema, counted = task.recipe, how.schema, Counted()
    positions = len(segments(recipe.steps)) > 1

    def rows() -> Rows:
        if rows_of_many is not None:  # many to a batch; the first split's number will do
            batches = counted.all(rows_of_many(task.splits))
            yield from _positioned(batches, task.first) if positions else batches
            return
        for number, split in enumerate(task.splits, task.first):
            batches = counted.all(rows_of_split(split))
            yield from _positioned(batches, number) if positions else batches

    try:
        return _write(task, 0, rows(), schema, counted)
    except BadValue as error:
        raise error.placed({s.uri: s.path for s in task.splits}) from error


def reduce(task: Reduce) -> Written:
    """Gathers one partition's rows through a later segment."""
    steps = segments(task.recipe.steps)
    schema, counted = load_schema(task.schema_), Counted()
    for segment in steps[: task.segment]:
        _, schema = bind(segment.rowwise, schema)
    before = steps[task.segment - 1].exchange
    assert before is not None  # segments before the last end in an exchange
    gathered = exchange(before).gather(before.arguments, schema, lambda: read_slices(task.slices))
    return _write(task, task.segment, counted.all(gathered), schema, counted)


class Counted:
    """Counts what passes, and keeps the error that ends it."""

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.error: Exception | None = None

    def all(self, batches: Rows) -> Rows:
        try:
            for batch in batches:
                self.rows += batch.num_rows
                self.bytes += batch.nbytes
                yield batch
        except Exception as error:
            self.error = error
            raise


def _write(
    task: Read | Reduce, at: int, batches: Rows, schema: pa.Schema, counted: Counted
) -> Written:
    segment = segments(task.recipe.steps)[at]
    apply, schema = bind(segment.rowwise, schema)
    rows = (done for batch in batches if (done := apply(batch)).num_rows)
    if segment.exchange is not None:
        return _scatter(task, at, segment, rows, schema, counted)
    return _fragments(task.recipe, rows, stored(schema), counted)


def _fragments(recipe: Recipe, rows: Rows, schema: pa.Schema, counted: Counted) -> Written:
    out = Counted()
    final = out.all(_as(batch, schema) for batch in rows)
    try:
        fragments = write_fragments(recipe.target, final, schema)
    except OSError:
        if out.error is not None:  # Lance gives back what its input raised as text in an OSError
            raise out.error from None
        raise
    return Written(
        rows_read=counted.rows, rows=out.rows, bytes=out.bytes, fragments=tuple(fragments)
    )


def _scatter(
    task: Read | Reduce, at: int, segment: Segment, rows: Rows, schema: pa.Schema, counted: Counted
) -> Written:
    assert segment.exchange is not None
    scatter = exchange(segment.exchange).scatter(segment.exchange.arguments, schema, task.parts)
    with ExchangeFile(task.recipe.stage, at, task.number) as file:
        for batch in rows:
            for part, piece in scatter(batch):
                file.add(part, piece)
    return Written(
        rows_read=counted.rows, rows=sum(c.rows for c in file.chunks), chunks=tuple(file.chunks)
    )


def _as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Exactly these columns: positions go, columns without values become text."""
    columns = [
        c if c.type == f.type else c.cast(f.type)
        for f, c in ((f, batch.column(f.name)) for f in schema)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _positioned(batches: Rows, split: int) -> Rows:
    start = split << POSITION_BITS
    for batch in batches:
        stop = start + batch.num_rows
        yield batch.append_column(AT, pa.array(np.arange(start, stop)))
        start = stop


def _columns(recipe: Recipe, schema: pa.Schema) -> Columns:
    _refuse_unsafe(schema)
    output = stored(after(recipe.steps, schema))
    return Columns(schema_=dump_schema(schema), output=dump_schema(output))


def _refuse_unsafe(schema: pa.Schema) -> None:
    reserved = {f.name for f in SYSTEM_FIELDS} | {AT}
    for field in schema:
        if field.name in reserved:
            raise PermanentError(
                f"column {field.name!r}: this name is reserved; rename it in the source",
                code="reserved_column",
            )


def _pinned(recipe: Recipe, etags: Mapping[str, str]) -> Open:
    """Opens files in the state in which they were listed; another state is `source_changed`."""
    return lambda uri: open_uri(uri, etags.get(uri) or None, recipe.reach)


def _format(recipe: Recipe) -> tuple[Format, BaseModel]:
    form = FORMATS.get(recipe.format)
    return form, parse_options(form.Options, recipe.options, "spec.source.options")
