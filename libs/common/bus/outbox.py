"""What leaves the process: facts, dead letters, progress."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from faststream.nats import NatsBroker
from nats import errors as nats_errors

from libs.common import metrics, trace
from libs.common.bus import deadletters
from libs.common.bus.deadletters import Original
from libs.common.bus.faults import patiently, too_large
from libs.common.bus.topology import MAX_MESSAGE, PROGRESS, stream_of
from libs.common.cloudevents import CONTENT_TYPE, to_structured
from libs.common.crashpoints import crash_point
from libs.common.errors import PermanentError
from libs.common.events import Fact, Progress, RunChanged

HEADROOM = 16 * 1024  # bytes of a message that headers may take


class Outbox:
    """Publishes so that a thing said twice is there once."""

    def __init__(self, broker: NatsBroker, service: str) -> None:
        self._broker = broker
        self._service = service

    async def publish(self, fact: Fact, id: str | None = None) -> None:
        """Make the fact known; returns when JetStream has stored it (once, however often we ask).

        Raises TransientError `bus_unavailable`, PermanentError `message_too_large`.
        """
        event_id = id or fact.id()
        parent = trace.outgoing()
        try:
            body = to_structured(
                fact,
                source=f"oneblock/{self._service}",
                time=datetime.now(UTC),
                trace=parent,
                id=event_id,
            )
        except PermanentError as error:
            raise too_large(f"publishing {fact.TYPE}") from error
        headers = {
            "Nats-Msg-Id": event_id,
            "content-type": CONTENT_TYPE,
            "traceparent": parent,
        }
        await self.store(fact.TYPE, body, headers)
        crash_point("after_publish")
        metrics.PUBLISHED.labels(fact.TYPE).inc()
        if isinstance(fact, RunChanged):
            metrics.RUNS.labels(fact.state).inc()

    async def bury(self, original: Original, error: Exception) -> None:
        """Keep what can't be handled, once."""
        body = deadletters.letter(original, error, self._service, datetime.now(UTC))
        headers = {
            "Nats-Msg-Id": deadletters.message_id(original),
            "content-type": CONTENT_TYPE,
            "traceparent": trace.outgoing(),
        }
        await self.store(deadletters.subject(self._service), body, headers)

    async def progress(self, p: Progress) -> None:
        """Tell how far it is; may be lost, never raises."""
        with suppress(nats_errors.Error, OSError, TimeoutError):
            await self._broker.publish(p.model_dump_json().encode(), f"{PROGRESS}.{p.run}")

    async def store(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Publish until JetStream says it has it; the id in the headers makes that once."""
        if len(body) > MAX_MESSAGE - HEADROOM:
            raise too_large(f"publishing {subject}")

        async def publish(timeout: float) -> None:
            await self._broker.publish(
                body, subject, headers=headers, stream=stream_of(subject), timeout=timeout
            )

        await patiently(f"publishing {subject}", publish)
