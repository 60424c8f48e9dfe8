"""A message in our hands: decoded where it can be, kept as it came where it can't."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from faststream.message import StreamMessage
from nats.aio.msg import Msg

from libs.common.bus.deadletters import Original
from libs.common.bus.delivery import Delivery, Undecodable
from libs.common.cloudevents import from_message
from libs.common.errors import PermanentError
from libs.common.events import Fact

Handler = Callable[[Fact, Delivery], Awaitable[None]]


@dataclass(frozen=True)
class Taken:
    """A message, decoded."""

    fact: Fact
    delivery: Delivery


async def decode(message: StreamMessage[Msg]) -> Taken:
    """The decoder of every subscriber. Raises Undecodable."""
    raw, meta = message.raw_message, message.raw_message.metadata
    position = f"{meta.stream}:{meta.sequence.stream}:{meta.timestamp.isoformat()}"
    try:
        got = from_message(
            raw.subject, raw.headers, raw.data, position=position, received=meta.timestamp
        )
    except PermanentError as error:
        raise Undecodable(
            error.detail, code=error.code, path=error.path, problems=error.problems
        ) from error
    delivery = Delivery(
        id=got.id,
        time=got.time,
        deliveries=meta.num_delivered,
        trace=got.trace,
        stream_sequence=meta.sequence.stream,
        reply=_reply(raw.headers),
    )
    return Taken(got.data, delivery)


def original(raw: Msg) -> Original:
    """What a dead letter keeps of the message."""
    meta = raw.metadata
    return Original(
        meta.stream, meta.sequence.stream, raw.subject, dict(raw.headers or {}), raw.data
    )


def _reply(headers: Mapping[str, str] | None) -> str | None:
    return (headers or {}).get("reply-to")
