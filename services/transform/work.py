"""What worker processes do: one task in, one answer out, both JSON; memory stays bounded."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from libs.common.errors import OneBlockError, PermanentError
from libs.formats import (
    FORMATS,
    SYSTEM_FIELDS,
    FileFormat,
    Format,
    Open,
    ReadOptions,
    TypeConflict,
    parse_options,
)
from libs.stores import open_uri
from libs.warehouse.fragments import write_fragments
from services.transform.exchange import ExchangeFile, read_slices
from services.transform.operations import AT
from services.transform.operations.cast import BadValue
from services.transform.pipeline import Segment, after, bind, exchange, segments, stored
from services.transform.plan import Recipe
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
    splits = [s for f in task.files for s in form.splits(f, task.recipe.split, opened, options)]
    if not task.head or not splits:
        return Surveyed(splits=tuple(splits))
    head = form.infer(splits[0], opened, options, task.recipe.head)
    columns = _columns(task.recipe, form.join([(splits[0].path, head)]))
    return Surveyed(splits=tuple(splits), columns=columns)


def infer(task: Infer) -> Inferred:
    """Column types over whole splits, joined by file."""
    form, options = _format(task.recipe)
    opened = _pinned(task.recipe, task.etags)
    found = [
        (path, form.join([(s.path, form.infer(s, opened, options, None)) for s in splits]))
        for path, splits in groupby(task.splits, key=lambda split: split.path)
    ]
    return Inferred(schemas=tuple((path, dump_schema(schema)) for path, schema in found))


def join(task: Join) -> Columns:
    """What all files hold together."""
    form, _ = _format(task.recipe)
    schemas = [(path, load_schema(text)) for path, text in task.schemas]
    return _columns(task.recipe, form.join(schemas))


def read(task: Read) -> Written:
    """Reads splits through the first segment; later exchanges know rows by their position."""
    recipe, opened = task.recipe, _pinned(task.recipe, task.etags)
    form, options = _format(recipe)
    schema, counted = load_schema(task.schema_), Counted()
    how = ReadOptions(schema=schema, options=options, key=recipe.key)
    positions = len(segments(recipe.steps)) > 1

    def rows() -> Rows:
        if isinstance(form, FileFormat):  # many to a batch; the first split's number will do
            batches = counted.all(form.read_many(task.splits, opened, how))
            yield from _positioned(batches, task.first) if positions else batches
            return
        for number, split in enumerate(task.splits, task.first):
            batches = counted.all(form.read(split, opened, how))
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
