"""`…/quarantine`: what couldn't be read of a version's sources, and the bytes to repair it."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from libs.common.errors import PermanentError
from libs.common.web.tokens import Identity
from libs.warehouse.quarantine import Item, read_items
from services.catalog.api import shapes
from services.catalog.api.context import (
    RESPONSES,
    Asked,
    Catalog,
    Here,
    Name,
    Namespace,
    Reader,
    version_absent,
    visible,
)
from services.catalog.api.paging import Cursor, decode, encode, invalid_cursor
from services.catalog.api.rows import VersionNumber, recorded

PER_PAGE = 100  # up to 64 KiB of bytes each
router = APIRouter(
    prefix="/v1/datasets/{namespace}/{name}/quarantine", tags=["quarantine"], responses=RESPONSES
)
Number = Annotated[int, Path(ge=0, le=2**31, description="place in the list")]
RAW: dict[int | str, dict[str, object]] = {200: {"content": {"application/octet-stream": {}}}}


class VersionAsked(Asked):
    version: VersionNumber = None


class QuarantineAsked(VersionAsked):
    cursor: Cursor = None
    limit: Annotated[int, Field(ge=1, le=PER_PAGE)] = PER_PAGE


@router.get("")
async def list_quarantine(
    here: Here,
    who: Reader,
    namespace: Namespace,
    name: Name,
    asked: Annotated[QuarantineAsked, Query()],
) -> shapes.Page[shapes.QuarantineItem]:
    """What was set aside when a version was made, in the order of its sources."""
    start = _start(asked.cursor)
    found = await _items(here, who, f"{namespace}/{name}", asked.version, start, asked.limit)
    return shapes.Page(
        items=[_shown(start + i, item) for i, item in enumerate(found)],
        next_cursor=encode(start + len(found)) if len(found) == asked.limit else None,
    )


@router.get("/{number}", response_class=Response, responses=RAW)
async def get_quarantined_bytes(
    here: Here,
    who: Reader,
    namespace: Namespace,
    name: Name,
    number: Number,
    asked: Annotated[VersionAsked, Query()],
) -> Response:
    """The bytes that are kept of one item, as they were."""
    dataset = f"{namespace}/{name}"
    found = await _items(here, who, dataset, asked.version, number, 1)
    if not found:
        raise PermanentError(f"{dataset}: no item {number} in quarantine", code="not_found")
    headers = {
        "Content-Disposition": f'attachment; filename="item-{number}.bin"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(found[0].bytes, media_type="application/octet-stream", headers=headers)


async def _items(
    here: Catalog, who: Identity, dataset: str, version: int | None, start: int, limit: int
) -> list[Item]:
    visible(who, dataset)
    number = await here.database.read(lambda connection: recorded(connection, dataset, version))
    return await here.readers.run(lambda: _read(here, dataset, number, start, limit))


def _read(here: Catalog, dataset: str, number: int, start: int, limit: int) -> list[Item]:
    """Blocks."""
    warehouse = here.readers.warehouse
    version = warehouse.version(dataset, number)
    if version is None:
        raise version_absent(dataset, number)
    if version.commit.quarantine is None:
        return []
    return list(read_items(warehouse.path(version.commit.quarantine), start, limit))


def _start(cursor: str | None) -> int:
    if cursor is None:
        return 0
    match decode(cursor):
        case bool():
            pass
        case int(number) if 0 <= number < 2**31:
            return number
    raise invalid_cursor()


def _shown(number: int, item: Item) -> shapes.QuarantineItem:
    return shapes.QuarantineItem(
        number=number,
        path=item.path,
        code=item.code,
        detail=item.detail,
        whole=item.whole,
        start=item.start,
        stop=item.stop,
        line=item.line,
        bytes=base64.b64encode(item.bytes).decode(),
        truncated=item.truncated,
    )
