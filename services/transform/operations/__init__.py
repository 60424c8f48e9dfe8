"""Built-in operations, one file each: what `transform:` in a manifest can name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import pyarrow as pa
from pydantic import JsonValue

from libs.common.errors import PermanentError
from libs.common.registry import Registry
from libs.formats import HASH, ROW, SOURCE
from services.transform.plan import nearest
from services.transform.tasks import Chunk, Slice

AT = "_oneblock_at"  # int64 position of a row in the sources; only within exchanges
SYSTEM = (ROW, HASH, SOURCE)
Apply = Callable[[pa.RecordBatch], pa.RecordBatch]


class Operation(Protocol):
    """What every operation can do. System columns ride along and are never its business.

    Arguments come as `libs.common.manifest` normalises them.
    """

    rowwise: ClassVar[bool]  # rows come out alone: no row's result depends on another row

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        """User columns after it. Raises PermanentError where the arguments don't fit."""


@runtime_checkable
class Rowwise(Operation, Protocol):
    """Changes rows one by one."""

    def bind(self, arguments: JsonValue, schema: pa.Schema) -> Apply:
        """A function over batches of `schema` with system columns after the user's."""


@runtime_checkable
class Exchange(Operation, Protocol):
    """Needs rows of several tasks together: scattered to partitions, gathered from them."""

    def parts(self, arguments: JsonValue, total: int) -> int:
        """How many partitions, for so many source bytes; bounds what a reducer holds."""

    def scatter(self, arguments: JsonValue, schema: pa.Schema, parts: int) -> Scatter:
        """A function over one task's batches, in order."""

    def assign(self, arguments: JsonValue, chunks: Sequence[Chunk]) -> list[list[Slice]]:
        """Which rows each reducer gets; chunks come in source order."""

    def gather(
        self, arguments: JsonValue, schema: pa.Schema, batches: Batches
    ) -> Iterator[pa.RecordBatch]:
        """One reducer's rows; `batches()` starts anew at each call and streams."""


Scatter = Callable[[pa.RecordBatch], Iterable[tuple[int, pa.RecordBatch]]]
Batches = Callable[[], Iterator[pa.RecordBatch]]

OPERATIONS: Registry[Operation] = Registry(
    "services.transform.operations", lambda: list(__path__), noun="operation"
)


def invalid(operation: str, detail: str) -> PermanentError:
    """The error for arguments that an operation can't take."""
    return PermanentError(f"{operation}: {detail}", code="invalid_argument", path="spec.transform")


def column(operation: str, schema: pa.Schema, name: str) -> pa.Field:
    """The user column called `name`; raises PermanentError `column_missing` with the nearest."""
    if name in SYSTEM:
        raise PermanentError(
            f"{operation}: {name} is a system column; it goes along by itself",
            code="system_column",
            path="spec.transform",
        )
    if name not in schema.names:
        raise PermanentError(
            f"{operation}: no column {name!r}{nearest(name, schema.names)};"
            f" there are: {', '.join(schema.names)}",
            code="column_missing",
            path="spec.transform",
        )
    return schema.field(name)


def names(arguments: JsonValue) -> list[str]:
    """Arguments that are a list of column names; the manifest was checked when it was accepted."""
    assert isinstance(arguments, list)
    return [str(name) for name in arguments]


def mapping(arguments: JsonValue) -> dict[str, str]:
    """Arguments that are `{column: text}`."""
    assert isinstance(arguments, dict)
    return {name: str(value) for name, value in arguments.items()}


def riding(batch: pa.RecordBatch) -> list[str]:
    """The system columns that this batch carries."""
    return [n for n in (*SYSTEM, AT) if n in batch.schema.names]
