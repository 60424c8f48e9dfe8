"""What ingest answers over HTTP, as models, so that OpenAPI describes it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from libs.common.bus.records import RunRecord
from libs.common.events import Cause, ErrorInfo, RunState, Stage


class RunView(BaseModel):
    """A run as ingest knows it; the catalog knows more (stages, progress, log)."""

    id: str
    dataset: str
    state: RunState
    generation: int = 0
    cause: Cause = "request"
    force: bool = False
    stage: Stage | None = None
    attempt: int = 0
    version: int | None = None
    into: str | None = Field(None, description="the run that does this one's work")
    error: ErrorInfo | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @classmethod
    def of(cls, record: RunRecord) -> RunView:
        return cls.model_validate(record.model_dump(include=set(cls.model_fields)))


class Accepted(BaseModel):
    """The request is durable; `run` will reach exactly one end."""

    run: RunView
    dataset: str
    duplicate: bool = Field(False, description="this very request was accepted before")


class Deleted(BaseModel):
    """The dataset's spec was withdrawn; its versions stay."""

    dataset: str
    generation: int
    deleted: bool = True
    cancelled: list[str] = Field([], description="runs that were asked to stop")


class Uploaded(BaseModel):
    """The file is stored; `url` goes into a manifest."""

    url: str
    size: int
    sha256: str


class SourcePlan(BaseModel):
    """What one source URL finds now."""

    url: str
    files: int
    bytes: int
    sample: list[str] = Field([], description="paths of the first files")


class ProblemView(BaseModel):
    code: str
    detail: str
    path: str | None = None


class Plan(BaseModel):
    """What a request would do, without doing it."""

    dataset: str
    generation: int = Field(description="the spec's generation after the request")
    spec: str = Field(description="new, changed, unchanged or deleted: against what is stored")
    files: int
    bytes: int
    sources: list[SourcePlan]
    type: str = Field("", description="how the files are read; empty: not known before the run")
    complete: bool = Field(description="false: there are more files than were looked at")
    engine: str = Field(description="local or ray, as far as it can be told beforehand")
    destinations: list[str]
    active_run: str | None = Field(None, description="the run that this one would wait for")
    problems: list[ProblemView] = []


class ProblemAnswer(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: list[ProblemView] = []
