"""`/v1/config` and `/`: what a client needs to know first."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from services.catalog.api import shapes
from services.catalog.api.context import RESPONSES, Here, Reader
from services.catalog.api.paging import MAX_ITEMS
from services.catalog.api.rows import MAX_ROWS
from services.catalog.rows import CELL

router = APIRouter(tags=["config"])
WELCOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>OneBlock Data</title>
<body style="font-family: system-ui; max-width: 40rem; margin: 4rem auto">
<h1>OneBlock Data: the catalog</h1>
<p>The web UI comes later. Until then:</p>
<ul><li><a href="/docs">the API, to try out</a></li><li><a href="/v1/datasets">datasets</a></li>
<li><a href="/v1/runs">runs</a></li><li><a href="/v1/events">what happens now</a></li></ul></html>
"""


@router.get("/v1/config", responses=RESPONSES)
async def get_config(here: Here, _who: Reader) -> shapes.Config:
    """Where ingest is, the release, and limits."""
    ingest = here.settings.ingest_url
    return shapes.Config(
        version=release(),
        ingest_url=ingest,
        endpoints={"ingest": ingest} if ingest else {},
        limits=shapes.Limits(rows_per_page=MAX_ROWS, items_per_page=MAX_ITEMS, cell=CELL),
    )


@router.get("/", include_in_schema=False)
async def get_root() -> HTMLResponse:
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    return HTMLResponse(WELCOME, headers={"Content-Security-Policy": policy})


def release() -> str:
    try:
        return version("oneblock-data")
    except PackageNotFoundError:
        return "0"
