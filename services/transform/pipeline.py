"""The operations of a plan cut into segments: row-wise steps, then an exchange or the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from libs.common.errors import OneBlockError, PermanentError
from libs.formats import FEATURE, SYSTEM_FIELDS
from services.transform.operations import OPERATIONS, Apply, Exchange, Operation, Rowwise
from services.transform.plan import Step


@dataclass(frozen=True)
class Segment:
    """What one task does in one go; the last segment has no exchange."""

    rowwise: tuple[Step, ...]
    exchange: Step | None = None


def segments(steps: Sequence[Step]) -> list[Segment]:
    """At least one; a plan of row-wise steps alone is one segment and runs fused."""
    found: list[Segment] = []
    row: list[Step] = []
    for step in steps:
        if OPERATIONS.get(step.name).rowwise:
            row.append(step)
        else:
            found.append(Segment(tuple(row), step))
            row = []
    return [*found, Segment(tuple(row))]


def exchange(step: Step) -> Exchange:
    """The plug-in of a step that is no row-wise one."""
    plugin = OPERATIONS.get(step.name)
    assert isinstance(plugin, Exchange)  # segments() looked at `rowwise`
    return plugin


def after(steps: Sequence[Step], schema: pa.Schema) -> pa.Schema:
    """User columns after the steps. Raises PermanentError that names the step's path."""
    for number, step in enumerate(steps):
        try:
            schema = OPERATIONS.get(step.name).schema(step.arguments, schema)
        except OneBlockError as error:
            place = f"spec.transform[{number}].{step.name}"
            raise PermanentError(error.detail, code=error.code, path=place) from error
    return schema


def bind(steps: Sequence[Step], schema: pa.Schema) -> tuple[Apply, pa.Schema]:
    """One function over batches for row-wise steps in order, and the user columns after it."""
    functions: list[Apply] = []
    for step in steps:
        plugin: Operation = OPERATIONS.get(step.name)
        assert isinstance(plugin, Rowwise)
        functions.append(plugin.bind(step.arguments, schema))
        schema = plugin.schema(step.arguments, schema)

    def apply(batch: pa.RecordBatch) -> pa.RecordBatch:
        for function in functions:
            if not batch.num_rows:
                break
            batch = function(batch)
        return batch

    return apply, schema


def stored(schema: pa.Schema) -> pa.Schema:
    """The version's schema: user columns as they are kept, then the system's.

    A column without a single value has no type of its own: it is kept as text.
    """
    user = (pa.field(f.name, _kept(f.type), f.nullable, _feature(f)) for f in schema)
    return pa.schema([*user, *SYSTEM_FIELDS])


def _feature(field: pa.Field) -> dict[bytes, bytes] | None:
    """Of the field's metadata that part which readers of the version need."""
    feature = (field.metadata or {}).get(FEATURE)
    return {FEATURE: feature} if feature else None


def _kept(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_kept(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_kept(f.type)) for f in kind])
    return kind
