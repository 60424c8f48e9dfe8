"""`/v1/events`: facts and progress as they happen, as server-sent events.

`id` is given to facts alone: who reconnects with Last-Event-ID gets what was missed, or an event
`reset` when that isn't known any more (too long ago, another process): then ask for the state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from libs.common.errors import PermanentError
from libs.common.web.tokens import Identity, identity_of
from services.catalog.api.context import NAME, RESPONSES, RUN, Asked, Here, Reader
from services.catalog.hub import Hub, Message, Wanted

HEARTBEAT = 10.0  # seconds of silence until a comment shows that the connection lives
router = APIRouter(tags=["events"], responses=RESPONSES)
STREAM: dict[int | str, dict[str, object]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


class EventsAsked(Asked):
    dataset: Annotated[str | None, Field(pattern=f"^{NAME}$", max_length=317)] = None
    run: Annotated[str | None, Field(pattern=f"^{RUN}$")] = None


@router.get("/v1/events", response_class=StreamingResponse, responses=STREAM)
async def get_events(
    request: Request,
    here: Here,
    who: Reader,
    asked: Annotated[EventsAsked, Query()],
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> StreamingResponse:
    """`fact` and `progress`, from now on: `{"type", "time", "data"}` each."""
    here.hub.check_room()
    stream = _stream(request, here.hub, _wanted(who, asked), last_event_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def _wanted(who: Identity, asked: EventsAsked) -> Wanted:
    def wanted(message: Message) -> bool:
        return (
            who.sees(message.namespace)
            and asked.dataset in (None, message.dataset)
            and asked.run in (None, message.run)
        )

    return wanted


async def _stream(
    request: Request, hub: Hub, wanted: Wanted, last_id: str | None
) -> AsyncIterator[bytes]:
    with hub.listen(wanted) as listener:
        yield b"retry: 1000\n\n"
        for message in _missed(hub, wanted, last_id):
            yield _written(hub, message)
        async for told in listener.messages(HEARTBEAT):
            if told is not None:
                yield _written(hub, told)
            elif _revoked(request):
                return
            else:
                yield b": still here\n\n"


def _missed(hub: Hub, wanted: Wanted, last_id: str | None) -> list[Message]:
    if not last_id:
        return []
    missed = hub.since(last_id)
    if missed is None:
        return [Message("", "", b"{}", event="reset")]
    return [message for message in missed if wanted(message)]


def _written(hub: Hub, message: Message) -> bytes:
    ident = hub.id_of(message)
    head = f"id: {ident}\n" if ident else ""
    return f"{head}event: {message.event}\ndata: ".encode() + message.data + b"\n\n"


def _revoked(request: Request) -> bool:
    """A stream may outlive its token."""
    try:
        return not identity_of(request).may("read")
    except PermanentError:
        return True
