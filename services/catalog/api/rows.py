"""`…/rows`: a page of a version; by resource, and as the Hugging Face dataset viewer asks."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import Connection

from libs.common.errors import PermanentError
from libs.common.web.tokens import Identity
from services.catalog.api import shapes
from services.catalog.api.context import (
    NAME,
    RESPONSES,
    Asked,
    Catalog,
    Here,
    Name,
    Namespace,
    Reader,
    dataset_absent,
    version_absent,
    visible,
)
from services.catalog.rows import Ask
from services.catalog.store import queries

MAX_ROWS = 1000
LARGEST = 2**63 - 1 - MAX_ROWS
ANSWER: dict[int | str, dict[str, object]] = {200: {"model": shapes.Rows}}
router = APIRouter(tags=["rows"], responses=RESPONSES)

Offset = Annotated[int, Field(ge=0, le=LARGEST)]
Length = Annotated[int | None, Field(ge=1, le=MAX_ROWS)]
VersionNumber = Annotated[int | None, Field(ge=1, le=2**63 - 1, description="default: the newest")]
Columns = Annotated[
    list[str] | None,
    Field(max_length=100, description="names, repeated or separated by commas; default: all"),
]


class RowsAsked(Asked):
    offset: Offset = 0
    limit: Length = None
    length: Annotated[Length, Field(description="the same as `limit`")] = None
    version: VersionNumber = None
    columns: Columns = None


class ViewerAsked(Asked):
    dataset: Annotated[str, Field(pattern=f"^{NAME}$", max_length=317, examples=["default/cars"])]
    config: Literal["default"] = "default"
    split: Literal["train"] = "train"
    offset: Offset = 0
    length: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100
    version: VersionNumber = None
    columns: Columns = None


@router.get("/v1/datasets/{namespace}/{name}/rows", response_class=Response, responses=ANSWER)
async def get_rows(
    here: Here, who: Reader, namespace: Namespace, name: Name, asked: Annotated[RowsAsked, Query()]
) -> Response:
    """Rows of a version in its order; beyond the last row: none."""
    if asked.limit is not None and asked.length is not None and asked.limit != asked.length:
        raise PermanentError(
            "limit and length say different things; give one of them",
            code="invalid_value",
            path="query.limit",
        )
    limit = asked.limit or asked.length or 100
    ask = Ask(asked.offset, limit, _tuple(asked.columns))
    return await _page(here, who, f"{namespace}/{name}", asked.version, ask)


@router.get("/rows", response_class=Response, responses=ANSWER)
async def get_viewer_rows(
    here: Here, who: Reader, asked: Annotated[ViewerAsked, Query()]
) -> Response:
    """The same with the parameters of the Hugging Face dataset viewer."""
    ask = Ask(asked.offset, asked.length, _tuple(asked.columns))
    return await _page(here, who, asked.dataset, asked.version, ask)


async def _page(
    here: Catalog, who: Identity, dataset: str, version: int | None, ask: Ask
) -> Response:
    visible(who, dataset)
    number = await _number(here, dataset, version)
    content = await here.readers.page(dataset, number, ask)
    return Response(content, media_type="application/json")


async def _number(here: Catalog, dataset: str, version: int | None) -> int:
    """The version to read. The tables decide, so that what is told is what can be read."""
    if version is not None and here.readers.has(dataset, version):
        return version
    return await here.database.read(lambda connection: recorded(connection, dataset, version))


def recorded(connection: Connection, dataset: str, version: int | None) -> int:
    """That version, or the newest; raises `version_not_found`, `dataset_not_found`."""
    if version is None:
        newest = queries.newest_version(connection, dataset)
        if newest is not None:
            return newest
    elif queries.one_version(connection, dataset, version) is not None:
        return version
    if queries.one_dataset(connection, dataset) is None:
        raise dataset_absent(dataset)
    raise version_absent(dataset, version)


def _tuple(columns: list[str] | None) -> tuple[str, ...] | None:
    return None if columns is None else tuple(columns)
