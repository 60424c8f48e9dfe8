"""What the driver asks of workers and what they answer; JSON alone crosses between them."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field, TypeAdapter

from libs.common.errors import OneBlockError, PermanentError, Problem, TransientError
from libs.formats import SourceFile, Split
from services.transform.plan import Frozen, Recipe


class Survey(Frozen):
    """Cut these files into splits; with `head`, take column types from the first one's head."""

    kind: Literal["survey"] = "survey"
    recipe: Recipe
    files: tuple[SourceFile, ...]
    head: bool = False
    number: int = 0  # of this task within its phase


class Infer(Frozen):
    """Column types that hold every value of these splits, by file path."""

    kind: Literal["infer"] = "infer"
    recipe: Recipe
    splits: tuple[Split, ...]
    etags: dict[str, str] = Field(
        default_factory=dict
    )  # uri → the state that was listed; another one is an error


class Join(Frozen):
    """Column types that hold what all these (path, schema) hold; do the operations fit them?"""

    kind: Literal["join"] = "join"
    recipe: Recipe
    schemas: tuple[tuple[str, str], ...]


class Read(Frozen):
    """Read splits, apply the first segment, write fragments or exchange files."""

    kind: Literal["read"] = "read"
    recipe: Recipe
    schema_: str  # user columns to read
    splits: tuple[Split, ...]
    number: int  # of this task within its phase
    first: int  # number of its first split within the run
    etags: dict[str, str] = Field(default_factory=dict)
    parts: int = 1  # partitions of the exchange that ends the segment


class Slice(Frozen):
    """Rows [start, stop) of one chunk (record batch) of an exchange file."""

    path: str
    chunk: int
    start: int
    stop: int


class Reduce(Frozen):
    """Gather slices of one partition, apply a later segment, write as Read does."""

    kind: Literal["reduce"] = "reduce"
    recipe: Recipe
    schema_: str  # user columns as read from the source
    segment: int  # ≥ 1; the exchange before it is that of segment - 1
    slices: tuple[Slice, ...]
    number: int
    parts: int = 1


Task = Survey | Infer | Join | Read | Reduce
TASK: TypeAdapter[Task] = TypeAdapter(Annotated[Task, Field(discriminator="kind")])


class Columns(Frozen):
    """What to read from the source, and what the version will have."""

    schema_: str  # user columns
    output: str  # user columns after all operations, then the system's


class Surveyed(Frozen):
    """`columns` only where the head was asked for."""

    splits: tuple[Split, ...]
    columns: Columns | None = None
    bad: str | None = None  # path of a part of the quarantine


class Inferred(Frozen):
    """One schema for each file that the splits belong to."""

    schemas: tuple[tuple[str, str], ...]


class Chunk(Frozen):
    """One record batch of an exchange file: which partition it belongs to."""

    path: str
    chunk: int
    partition: int
    rows: int


class Written(Frozen):
    """What Read and Reduce left: fragments at the end, chunks before it."""

    rows_read: int
    rows: int = 0
    bytes: int = 0
    fragments: tuple[str, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    bad: str | None = None  # path of a part of the quarantine


class Trouble(Frozen):
    """An error that travels as data; `bug` carries a traceback."""

    kind: Literal["permanent", "transient", "conflict", "bug"]
    detail: str
    code: str = ""
    path: str | None = None
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, error: OneBlockError) -> Trouble:
        kind: Literal["permanent", "transient"] = (
            "transient" if isinstance(error, TransientError) else "permanent"
        )
        return cls(
            kind=kind,
            detail=error.detail,
            code=error.code,
            path=error.path,
            problems=error.problems,
        )

    def error(self) -> OneBlockError:
        """The error again, on the driver's side."""
        family = TransientError if self.kind == "transient" else PermanentError
        return family(self.detail, code=self.code, path=self.path, problems=self.problems)


class Answer(Frozen):
    """A worker's line: a result (as JSON of the model that the task promises) or trouble."""

    result: str | None = None
    trouble: Trouble | None = None


class WorkerBug(Exception):
    """A worker raised what it never should; the text is its traceback."""


def dump_schema(schema: pa.Schema) -> str:
    """A schema as text, exactly."""
    return base64.b64encode(schema.serialize()).decode()


def load_schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
