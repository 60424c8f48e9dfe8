"""`/v1/datasets`: what exists, and the versions of each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import Connection

from libs.common.manifest.names import LABEL
from services.catalog.api import answers, shapes
from services.catalog.api.context import (
    RESPONSES,
    Asked,
    Here,
    Name,
    Namespace,
    Reader,
    dataset_absent,
    namespaces_of,
    visible,
)
from services.catalog.api.paging import (
    Cursor,
    Limit,
    PageAsked,
    after,
    decode,
    encode,
    invalid_cursor,
)
from services.catalog.store import queries
from services.catalog.store.queries import Filter, Row

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], responses=RESPONSES)
DELIVERIES = 100  # destinations shown of a dataset


class DatasetsAsked(PageAsked):
    namespace: Annotated[str | None, Field(pattern=f"^{LABEL}$", max_length=63)] = None
    q: Annotated[
        str | None, Field(max_length=200, pattern=r"^[^\x00]*$", description="text in the name")
    ] = None


class VersionsAsked(Asked):
    cursor: Cursor = None
    limit: Limit = 100


@router.get("")
async def list_datasets(
    here: Here, who: Reader, asked: Annotated[DatasetsAsked, Query()]
) -> shapes.Page[shapes.Dataset]:
    """Datasets, newest first, without deleted ones."""
    by = Filter(
        namespaces=namespaces_of(who),
        namespace=asked.namespace,
        q=asked.q,
        after=asked.position(),
        limit=asked.limit,
    )

    def found(connection: Connection) -> shapes.Page[shapes.Dataset]:
        rows = queries.list_datasets(connection, by)
        items = _filled(connection, rows)
        return shapes.Page(items=items, next_cursor=after(rows, asked.limit))

    return await here.database.read(found)


@router.get("/{namespace}/{name}")
async def get_dataset(
    here: Here, who: Reader, namespace: Namespace, name: Name
) -> shapes.DatasetDetail:
    """One dataset: manifest, newest version, columns, and what stands at each destination."""
    key = f"{namespace}/{name}"
    visible(who, key)
    return await here.database.read(lambda connection: _detail(connection, key))


@router.get("/{namespace}/{name}/versions")
async def list_versions(
    here: Here,
    who: Reader,
    namespace: Namespace,
    name: Name,
    asked: Annotated[VersionsAsked, Query()],
) -> shapes.Page[shapes.Version]:
    """A dataset's versions, newest first, each with where it was delivered."""
    key = f"{namespace}/{name}"
    visible(who, key)
    below = _below(asked.cursor)
    return await here.database.read(lambda c: _versions(c, key, below, asked.limit))


def _detail(connection: Connection, key: str) -> shapes.DatasetDetail:
    row = queries.one_dataset(connection, key)
    if row is None:
        raise dataset_absent(key)
    (brief,) = _filled(connection, [row])
    newest = queries.versions_named(connection, [f"{key}@{row['version']}"])
    delivered = queries.newest_deliveries(connection, key, DELIVERIES)
    spec = queries.spec_of(connection, key)
    version = answers.version(newest[key], delivered) if key in newest else None
    return shapes.DatasetDetail(
        **brief.model_dump(),
        manifest=spec["manifest"] if spec else None,
        manifest_generation=spec["generation"] if spec else None,
        latest_version=version,
        columns=version.columns if version else [],
        deliveries=[answers.delivery(d) for d in delivered],
    )


def _versions(
    connection: Connection, key: str, below: int | None, limit: int
) -> shapes.Page[shapes.Version]:
    rows = queries.list_versions(connection, key, below, limit)
    if not rows and queries.one_dataset(connection, key) is None:
        raise dataset_absent(key)
    numbers = [int(str(row["number"])) for row in rows]
    delivered = queries.deliveries_of(connection, key, numbers)
    return shapes.Page(
        items=[answers.version(row, delivered) for row in rows],
        next_cursor=encode(numbers[-1]) if len(rows) == limit else None,
    )


def _below(cursor: str | None) -> int | None:
    """The version number in a cursor."""
    if cursor is None:
        return None
    match decode(cursor):
        case bool():
            pass
        case int(number) if 0 <= number < 2**63:
            return number
    raise invalid_cursor()


def _filled(connection: Connection, rows: list[Row]) -> list[shapes.Dataset]:
    """Datasets with the size of their newest version and the state of their newest run."""
    keys = [str(row["key"]) for row in rows]
    named = [f"{row['key']}@{row['version']}" for row in rows if row["version"] is not None]
    versions = queries.versions_named(connection, named)
    runs = queries.newest_runs(connection, keys)
    return [
        answers.dataset(row, versions.get(k), runs.get(k))
        for k, row in zip(keys, rows, strict=True)
    ]
