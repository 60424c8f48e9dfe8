"""`/v1/runs`: what was asked for, how far it is, how it ended."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from libs.common.events import RunState
from libs.common.web.tokens import Identity
from services.catalog.api import answers, shapes
from services.catalog.api.context import (
    NAME,
    RESPONSES,
    Catalog,
    Here,
    Reader,
    RunId,
    namespaces_of,
    run_absent,
)
from services.catalog.api.paging import PageAsked, after
from services.catalog.store import queries
from services.catalog.store.queries import Filter, Row

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses=RESPONSES)


class RunsAsked(PageAsked):
    dataset: Annotated[str | None, Field(pattern=f"^{NAME}$", max_length=317)] = None
    state: RunState | None = None


@router.get("")
async def list_runs(
    here: Here, who: Reader, asked: Annotated[RunsAsked, Query()]
) -> shapes.Page[shapes.Run]:
    """Runs, newest first."""
    by = Filter(
        namespaces=namespaces_of(who),
        dataset=asked.dataset,
        states=(asked.state,) if asked.state else (),
        after=asked.position(),
        limit=asked.limit,
    )
    rows = await here.database.read(lambda connection: queries.list_runs(connection, by))
    items = [answers.run(row, here.board.of(str(row["key"]))) for row in rows]
    return shapes.Page(items=items, next_cursor=after(rows, asked.limit))


@router.get("/{run}")
async def get_run(here: Here, who: Reader, run: RunId) -> shapes.Run:
    """One run with its stages and, while it works, their progress."""
    return answers.run(await find_run(here, who, run), here.board.of(run))


async def find_run(here: Catalog, who: Identity, run: str) -> Row:
    """The row of a run that the caller sees; raises `run_not_found`."""
    row = await here.database.read(lambda connection: queries.one_run(connection, run))
    if row is None or not who.sees(str(row["namespace"])):
        raise run_absent(run)
    return row
