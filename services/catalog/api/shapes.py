"""What the catalog answers, as OpenAPI tells it."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from libs.common.events import Cause, ErrorInfo, RunState
from services.catalog.stages import StageName, StageState

DatasetState = Literal[
    "accepted", "running", "skipped", "failed", "cancelled", "succeeded", "deleted", "unknown"
]
T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A list, newest first; `next_cursor` asks for what follows, null at the end."""

    items: list[T]
    next_cursor: str | None = None


class Column(BaseModel):
    name: str
    type: str = Field(description="Arrow's name of the type")


class Delivery(BaseModel):
    """One version brought to one destination."""

    version: int
    destination: str
    kind: str
    format: str
    run: str
    files: int
    rows: int
    bytes: int
    manifest: str
    delivered_at: datetime


class Version(BaseModel):
    """An immutable state of a dataset's rows."""

    dataset: str
    version: int
    name: str = Field(description="v1, v2, …")
    run: str | None
    rows: int
    bytes: int
    engine: str
    columns: list[Column]
    created_at: datetime
    deliveries: list[Delivery] = []


class Stage(BaseModel):
    """How far one stage of a run is; counts come from its end, or from its last progress."""

    name: StageName
    state: StageState
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    files: int
    rows: int
    bytes: int
    done: int = Field(description="units of work finished …")
    total: int = Field(description="… of so many; 0 when that isn't known")


class Run(BaseModel):
    """One attempt to bring a dataset up to its spec and sources."""

    id: str
    dataset: str
    generation: int
    cause: Cause
    state: RunState
    attempt: int
    version: int | None
    into: str | None = Field(description="the run that this one was coalesced into")
    stages: list[Stage]
    error: ErrorInfo | None
    created_at: datetime
    finished_at: datetime | None


class RunBrief(BaseModel):
    """A dataset's newest run."""

    id: str
    state: RunState
    created_at: datetime
    finished_at: datetime | None
    error: ErrorInfo | None


class Dataset(BaseModel):
    """A dataset as lists show it; rows and bytes are those of the newest version."""

    dataset: str
    namespace: str
    name: str
    state: DatasetState = Field(description="that of the newest run")
    generation: int
    version: int | None
    rows: int | None
    bytes: int | None
    latest_run: RunBrief | None
    created_at: datetime
    updated_at: datetime


class DatasetDetail(Dataset):
    """One dataset with all that is known of it."""

    manifest_generation: int | None = Field(description="the generation of `manifest`")
    manifest: dict[str, object] | None
    latest_version: Version | None
    columns: list[Column]
    deliveries: list[Delivery] = Field(description="what stands at each destination")


class Feature(BaseModel):
    feature_idx: int
    name: str
    type: dict[str, object]


class RowItem(BaseModel):
    row_idx: int
    row_key: str = Field(description="identity of the row, hex")
    row: dict[str, object]
    truncated_cells: list[str]


class Rows(BaseModel):
    """A page of rows, as the Hugging Face dataset viewer writes it, and the version."""

    features: list[Feature]
    rows: list[RowItem]
    num_rows_total: int
    num_rows_per_page: int
    partial: bool
    version: int


class QuarantineItem(BaseModel):
    """Something of a version's sources that couldn't be read."""

    number: int = Field(description="place in the list")
    path: str = Field(description="the file, below the source's root")
    code: str
    detail: str
    whole: bool = Field(description="no single record, but the file or a piece of it")
    start: int = Field(description="where it begins in the file, in bytes …")
    stop: int | None = Field(description="… and ends; null: with the file")
    line: int | None
    bytes: str = Field(description="base64; all of it, or its beginning")
    truncated: bool


class LogLine(BaseModel):
    """One line of a run's log; more fields by event."""

    model_config = {"extra": "allow"}

    time: str
    run: str
    stage: str
    attempt: int
    level: str
    event: str


class Limits(BaseModel):
    rows_per_page: int
    items_per_page: int
    cell: int = Field(description="characters of JSON that a cell has at most")


class Config(BaseModel):
    """What UI and SDK need to know."""

    version: str
    ingest_url: str | None
    endpoints: dict[str, str]
    limits: Limits


class ProblemItem(BaseModel):
    code: str
    detail: str
    path: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: list[ProblemItem] = []
