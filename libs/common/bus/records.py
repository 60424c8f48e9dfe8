"""What the key-value buckets hold: desired specs, runs, and the one active slot of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import Field

from libs.common.errors import OneBlockError
from libs.common.events import TERMINAL, Cause, ErrorInfo, Frozen, RunChanged, RunState, Stage


def now() -> datetime:
    """This machine's clock: for people to read, never to decide anything by."""
    return datetime.now(UTC)


class Record(Frozen):
    """A frozen value with a changed copy."""

    def evolve(self, **changes: object) -> Self:
        """A validated copy with these fields changed."""
        return type(self).model_validate({**dict(self), **changes})


class Desired(Record):
    """What somebody wants a dataset to be; `generation` grows whenever the spec changes."""

    dataset: str  # namespace/name
    generation: int
    manifest: dict[str, object]  # canonical form
    digest: str  # of the spec alone
    deleted: bool = False


class RunRecord(Record):
    """A run from request to end. Once `state` is terminal, nothing of it changes any more."""

    id: str
    dataset: str  # namespace/name
    generation: int = 0
    cause: Cause = "request"
    force: bool = False
    request_id: str = ""  # the CloudEvent id of the request
    manifest: dict[str, object] = Field(default_factory=dict)
    base: str | None = None
    state: RunState = "accepted"
    stage: Stage | None = None  # how far it has come; where it ended
    error: ErrorInfo | None = None
    version: int | None = None
    into: str | None = None  # the run that this one was coalesced into
    attempt: int = 0
    cancel: bool = False  # a person asked for it to stop
    created_at: datetime = Field(default_factory=now)
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL

    def changed(self) -> RunChanged:
        """The fact that tells this state; from an ended run always the same, so also its id."""
        return RunChanged(
            run=self.id,
            dataset=self.dataset,
            generation=self.generation,
            cause=self.cause,
            state=self.state,
            stage=self.stage,
            attempt=self.attempt,
            version=self.version,
            into=self.into,
            error=self.error,
        )


class Slot(Record):
    """Which run of a dataset works, and the one that follows it, as it was asked for last."""

    dataset: str
    run: str | None = None
    pending: RunRecord | None = None
    after: str | None = None  # the run that made way for `run`


@dataclass(frozen=True)
class Acceptance:
    """What became of a request.

    active: the run has the dataset's slot and is to be started (again, after a crash).
    coalesced: `into` None: it waits as THE following run (`run.state` is still `accepted`);
        else it ended (`run.state` is `coalesced`), and the waiting run `into` has its manifest.
    duplicate: the same run is known already and needs nothing.
    `run.changed()` is the fact to publish for the first two; a duplicate needs none.
    """

    outcome: Literal["active", "coalesced", "duplicate"]
    run: RunRecord
    into: str | None = None


class RunEnded(OneBlockError):
    """The run has come to its end already; there is nothing to do for it any more."""

    def __init__(self, record: RunRecord) -> None:
        super().__init__(f"run {record.id} has ended: {record.state}", code="run_ended")
        self.record = record
