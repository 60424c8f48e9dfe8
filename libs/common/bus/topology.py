"""Streams, durable consumers and buckets: what exists on the server, as values."""

from __future__ import annotations

from dataclasses import dataclass

from libs.common.events import (
    CancelRequested,
    DatasetTransformed,
    IngestRequested,
    RunChanged,
    SourceResolved,
    Stage,
)

DAY = 24 * 3600.0
DUPLICATE_WINDOW = 600.0  # seconds in which the server drops a second message of the same id
ACK_WAIT = 30.0  # seconds without a sign of life after which a message is given to another
MAX_MESSAGE = 1024 * 1024  # bytes, headers included; also nats-server's default max_payload
PROGRESS = "oneblock.progress"


@dataclass(frozen=True)
class Stream:
    """A stream with limits retention on file storage."""

    name: str
    subjects: tuple[str, ...]
    max_age: float  # seconds that a message is kept


@dataclass(frozen=True)
class Durable:
    """A durable pull consumer that some service shares among its processes."""

    name: str
    stream: str
    subject: str
    stage: Stage | None = None  # set where a failing handler means that the run has failed
    # Taken and unsettled, over all processes. Messages that wait for their next try count too, so
    # a small number would let a few hundred failing ones hold up all others.
    max_ack_pending: int = 5000


@dataclass(frozen=True)
class BucketSpec:
    """A key-value bucket without expiry."""

    name: str
    history: int


STREAMS: tuple[Stream, ...] = (
    Stream("OB_INGEST", ("oneblock.ingest.>",), 30 * DAY),
    Stream("OB_EVENTS", ("oneblock.event.>",), 30 * DAY),
    Stream("OB_DEAD", ("oneblock.dead.>",), 90 * DAY),
)

DURABLES: dict[str, Durable] = {
    durable.name: durable
    for durable in (
        Durable("ingest-requests", "OB_INGEST", IngestRequested.TYPE, "ingest"),
        Durable("ingest-cancels", "OB_INGEST", CancelRequested.TYPE),
        Durable("ingest-runs", "OB_EVENTS", RunChanged.TYPE),
        Durable("transform-sources", "OB_EVENTS", SourceResolved.TYPE, "transform"),
        Durable("sink-versions", "OB_EVENTS", DatasetTransformed.TYPE, "sink"),
        Durable("catalog-facts", "OB_EVENTS", "oneblock.event.>"),
    )
}

SPECS = BucketSpec("oneblock_specs", history=8)
RUNS = BucketSpec("oneblock_runs", history=1)
BUCKETS: tuple[BucketSpec, ...] = (SPECS, RUNS)


def stream_of(subject: str) -> str:
    """The stream that keeps messages of `subject`."""
    for stream in STREAMS:
        if any(subject.startswith(pattern.removesuffix(">")) for pattern in stream.subjects):
            return stream.name
    raise ValueError(f"no stream keeps {subject!r}")
