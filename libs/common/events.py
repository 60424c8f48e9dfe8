"""The facts that services tell each other; contracts that only grow.

Every fact is frozen, carries references and no data, and has an id that comes from its content.
On the wire it is a CloudEvents 1.0 JSON object (https://cloudevents.io) in structured mode.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from libs.common.ids import event_id

Cause = Literal["request", "event", "notification", "schedule", "edit", "revert", "retry"]
Stage = Literal["accept", "ingest", "transform", "sink"]
RunState = Literal[
    "accepted", "running", "skipped", "coalesced", "duplicate", "failed", "cancelled", "succeeded"
]
TERMINAL: frozenset[str] = frozenset(
    {"skipped", "coalesced", "duplicate", "failed", "cancelled", "succeeded"}
)


class Frozen(BaseModel):
    """Immutable, and silent about fields of a newer release."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Fact(Frozen):
    """Something that happened, or that somebody asked for. `TYPE` is also the subject."""

    TYPE: ClassVar[str]

    def id(self) -> str:
        """Id that depends on type and content alone; fields at their defaults count for nothing."""
        return event_id(self.TYPE, self.model_dump(mode="json", exclude_defaults=True))


class ErrorInfo(Frozen):
    """Why a run failed, for people (`detail`) and programs (`code`)."""

    code: str
    detail: str
    path: str | None = None


class IngestRequested(Fact):
    """Anyone → ingest: bring this dataset up to this manifest."""

    TYPE: ClassVar[str] = "oneblock.ingest.requested"
    manifest: dict[str, object]
    cause: Cause = "request"
    force: bool = False  # process everything again even where nothing changed
    key: str | None = None  # idempotency key: the same key asks for the same run
    base: str | None = None  # directory or URL that relative things refer to


class CancelRequested(Fact):
    """Anyone → ingest: stop a run."""

    TYPE: ClassVar[str] = "oneblock.ingest.cancel"
    run: str
    reason: str = ""


class SourceResolved(Fact):
    """ingest → transform, catalog: the inventory of a run is complete, in `run_dir`."""

    TYPE: ClassVar[str] = "oneblock.event.source.resolved"
    run: str
    dataset: str  # namespace/name
    generation: int
    cause: Cause = "request"
    force: bool = False
    run_dir: str  # below the warehouse: manifest.json, inventory.parquet, logs
    digest: str  # of the inventory's content: the same files in the same state, the same digest
    files: int
    bytes: int


class DatasetTransformed(Fact):
    """transform → sink, catalog: version N is committed (or still current, when `unchanged`)."""

    TYPE: ClassVar[str] = "oneblock.event.dataset.transformed"
    run: str
    dataset: str
    generation: int
    cause: Cause = "request"
    run_dir: str
    version: int
    rows: int
    bytes: int = 0
    columns: tuple[tuple[str, str], ...] = ()  # name and Arrow type, user columns only
    engine: str = ""
    unchanged: bool = False
    bad_rows: int = 0  # set aside in quarantine, files that can't be read at all being one each
    bad_files: int = 0  # of which something else than single rows is set aside


class DatasetDelivered(Fact):
    """sink → catalog: version N is at a destination."""

    TYPE: ClassVar[str] = "oneblock.event.dataset.delivered"
    run: str
    dataset: str
    version: int
    destination: str  # its URL
    kind: str  # its type: local, s3, …
    format: str
    files: int
    rows: int
    bytes: int
    manifest: str = ""  # URL of the `_manifest.json` written there
    unchanged: bool = False


class RunChanged(Fact):
    """All → catalog, ingest: a run was accepted, or came to its end."""

    TYPE: ClassVar[str] = "oneblock.event.run.changed"
    run: str
    dataset: str
    generation: int = 0
    cause: Cause = "request"
    state: RunState
    stage: Stage | None = None
    attempt: int = 0
    version: int | None = None
    into: str | None = None  # the run that this one was coalesced into, or is a duplicate of
    error: ErrorInfo | None = None


class LabelsApplied(Fact):
    """catalog → sink, catalog: a batch of labels is durable."""

    TYPE: ClassVar[str] = "oneblock.event.labels.applied"
    dataset: str
    batch: str
    rows: int
    fields: tuple[str, ...] = ()


class DatasetEdited(Fact):
    """catalog → transform: staged edits, or a revert, were committed by a person."""

    TYPE: ClassVar[str] = "oneblock.event.dataset.edited"
    dataset: str
    staged: str
    message: str = ""


class DatasetDeleted(Fact):
    """ingest → catalog: a dataset's spec was withdrawn; its versions stay until purged."""

    TYPE: ClassVar[str] = "oneblock.event.dataset.deleted"
    dataset: str
    generation: int


class Progress(Frozen):
    """Core NATS on `oneblock.progress.<run>`: how far a stage is; lost ones don't matter."""

    run: str
    dataset: str
    stage: Stage
    attempt: int = 0
    rows: int = 0
    bytes: int = 0
    files: int = 0
    done: int = 0  # units of work (splits, parts) finished …
    total: int = 0  # … of so many
    at: Annotated[datetime | None, Field(default=None)]


FACTS: dict[str, type[Fact]] = {
    fact.TYPE: fact
    for fact in (
        IngestRequested,
        CancelRequested,
        SourceResolved,
        DatasetTransformed,
        DatasetDelivered,
        RunChanged,
        LabelsApplied,
        DatasetEdited,
        DatasetDeleted,
    )
}
