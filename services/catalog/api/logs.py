"""`/v1/runs/{id}/logs`: what a run's stages wrote down; whole, page by page, or as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from libs.common.errors import PermanentError
from libs.common.events import TERMINAL
from libs.common.web.tokens import Identity
from libs.warehouse import RunLog
from services.catalog.api import shapes
from services.catalog.api.context import RESPONSES, Asked, Catalog, Here, Reader, RunId
from services.catalog.api.paging import MAX_ITEMS, Cursor, decode, encode, invalid_cursor
from services.catalog.api.runs import find_run
from services.catalog.store.queries import Row

POLL = 0.4  # seconds between looks at a log that is followed
LINES = 500  # lines read at once
JSON, NDJSON, TEXT = "application/json", "application/x-ndjson", "text/plain"
FIRST = ("time", "level", "stage", "attempt", "event", "run")
router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=RESPONSES)
ANSWER: dict[int | str, dict[str, object]] = {
    200: {
        "model": shapes.Page[shapes.LogLine],
        "content": {
            NDJSON: {"schema": {"type": "string"}},
            TEXT: {"schema": {"type": "string"}},
        },
    }
}
Position = dict[str, int]


class LogsAsked(Asked):
    cursor: Cursor = None
    limit: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = MAX_ITEMS
    follow: Annotated[bool, Field(description="stream lines until the run has ended")] = False


@router.get("/{run}/logs", response_class=Response, responses=ANSWER)
async def get_logs(
    request: Request, here: Here, who: Reader, run: RunId, asked: Annotated[LogsAsked, Query()]
) -> Response:
    """The run's log, oldest first.

    JSON gives a page and a cursor, which also finds lines that are written later. Asked with
    `Accept: application/x-ndjson` or `text/plain`, and always with `follow`, lines are streamed.
    """
    row = await find_run(here, who, run)
    position = _position(asked.cursor)
    media = _media(request)
    if asked.follow or media != JSON:
        lines = _follow(here, who, row, position, asked.follow)
        kind = NDJSON if media == JSON else media
        return StreamingResponse(_written(lines, kind), media_type=kind)
    found, reached = await _read(here, row, position, asked.limit)
    ended = row["state"] in TERMINAL and len(found) < asked.limit
    page = {"items": found, "next_cursor": None if ended else encode(reached)}
    return Response(orjson.dumps(page), media_type=JSON)


def _media(request: Request) -> str:
    accepted = request.headers.get("accept", "")
    return next((kind for kind in (JSON, NDJSON, TEXT) if kind in accepted), JSON)


def _position(cursor: str | None) -> Position:
    """Bytes read of each file, from a cursor; names are compared with files, never opened."""
    match decode(cursor) if cursor else {}:
        case dict(position) if all(isinstance(n, int) and n < 2**60 for n in position.values()):
            return {str(name): int(n) for name, n in position.items()}
    raise invalid_cursor()


async def _read(
    here: Catalog, row: Row, position: Mapping[str, int], limit: int
) -> tuple[list[dict[str, object]], Position]:
    log = _log(here, row)
    return await here.readers.run(lambda: log.since(position, limit))


def _log(here: Catalog, row: Row) -> RunLog:
    """The run's log in the warehouse; a fact can't point at another dataset's folder."""
    dataset, run = str(row["dataset"]), str(row["key"])
    usual = here.readers.warehouse.run_dir(dataset, run)
    told = str(row["run_dir"] or usual)
    if ".." in told or not told.startswith(f"{dataset}."):
        raise PermanentError(f"run {run} has no log here", code="not_found")
    return here.readers.warehouse.log(told)


async def _follow(
    here: Catalog, who: Identity, row: Row, position: Position, follow: bool
) -> AsyncIterator[dict[str, object]]:
    """Every line; with `follow` also those still to come, until the run has ended."""
    while True:
        # Asked before reading: what an ended run wrote is all there by then.
        ended = not follow or row["state"] in TERMINAL or here.hub.closed
        found, position = await _read(here, row, position, LINES)
        for line in found:
            yield line
        if ended and len(found) < LINES:
            return
        if not found:
            await asyncio.sleep(POLL)
        if not ended:
            row = await find_run(here, who, str(row["key"]))


async def _written(lines: AsyncIterator[dict[str, object]], kind: str) -> AsyncIterator[bytes]:
    async for line in lines:
        yield orjson.dumps(line) + b"\n" if kind == NDJSON else _text(line)


def _text(line: Mapping[str, object]) -> bytes:
    """For people: time, level, stage, event, and the rest as name=value. Always one line."""
    rest = " ".join(f"{name}={value}" for name, value in line.items() if name not in FIRST)
    head = f"{line.get('time', '')} {line.get('level', ''):<7} {line.get('stage', ''):<9}"
    text = f"{head} {line.get('event', '')} {rest}".rstrip()
    return text.translate(_CONTROLS).encode() + b"\n"


# A line break or an escape sequence in a value mustn't forge lines or move a terminal's cursor.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 9}
