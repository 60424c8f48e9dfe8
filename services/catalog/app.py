"""The service: wires bus, tables, warehouse and HTTP together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
import structlog
from fastapi import FastAPI

from libs.common.bus import Bus, Delivery
from libs.common.errors import TransientError
from libs.common.events import TERMINAL, Fact, Progress, RunChanged
from libs.common.web import edge, health
from libs.warehouse import Warehouse
from services.catalog.api import config, datasets, events, logs, quarantine, rows, runs
from services.catalog.api.context import Catalog
from services.catalog.api.openapi import describe
from services.catalog.evidence import stamp
from services.catalog.hub import Hub
from services.catalog.progress import Board
from services.catalog.readers import Readers
from services.catalog.record import Event
from services.catalog.recorder import Recorder
from services.catalog.settings import CatalogSettings
from services.catalog.store.database import Database
from services.catalog.store.schema import migrate

SERVICE = "catalog"
AT_ONCE = 16  # facts that are taken at once, and so share a commit
log = structlog.get_logger()


def make_app(settings: CatalogSettings) -> FastAPI:
    """The whole service; nothing connects before the app starts."""
    app = FastAPI(title="OneBlock Data: catalog", lifespan=_lifespan)
    app.state.settings = settings
    app.state.bus = bus = Bus(settings, SERVICE)
    for resource in (datasets, rows, quarantine, runs, logs, events, config):
        app.include_router(resource.router)
    app.router.routes.extend(health.routes(lambda: bus.state, lambda: _ready(app)))
    edge.install(app, settings)
    describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Tables first, then the bus; at the end the other way round."""
    settings: CatalogSettings = app.state.settings
    bus: Bus = app.state.bus
    database = Database(settings.database_url)
    catalog = Catalog(
        settings, database, Readers(Warehouse(settings.warehouse_url)), Board(), Hub()
    )
    app.state.catalog = catalog
    revision = await migrate(database)
    log.info("tables_ready", database=database.url.get_backend_name(), revision=revision)
    recorder = Recorder(database, lambda name: bus.specs.get(name), lambda e: _tell(catalog, e))
    bus.subscribe("catalog-facts", _handler(recorder), concurrency=AT_ONCE)
    bus.on_progress(_listener(catalog))
    recorder.start()
    ending = asyncio.create_task(_close_streams(app, catalog.hub))
    try:
        await bus.start()
        yield
    finally:
        ending.cancel()
        catalog.hub.close()
        await bus.stop()
        await recorder.stop()
        catalog.readers.close()
        await database.close()


def _handler(recorder: Recorder) -> Callable[[Fact, Delivery], Awaitable[None]]:
    async def handle(fact: Fact, delivery: Delivery) -> None:
        await recorder.keep(Event(fact, delivery.time))

    return handle


def _listener(catalog: Catalog) -> Callable[[Progress], Awaitable[None]]:
    async def heard(progress: Progress) -> None:
        catalog.board.note(progress)
        said = {"type": "oneblock.progress", "data": progress.model_dump(mode="json")}
        catalog.hub.tell_progress(progress.dataset, progress.run, orjson.dumps(said))

    return heard


def _tell(catalog: Catalog, event: Event) -> None:
    """What became durable, to those who listen. Its columns can be many and are asked for."""
    fact = event.fact
    run, dataset = getattr(fact, "run", ""), getattr(fact, "dataset", "")
    if isinstance(fact, RunChanged) and fact.state in TERMINAL:
        catalog.board.forget(run)
    data = fact.model_dump(mode="json", exclude={"columns"})
    said = {"type": fact.TYPE, "time": stamp(event.time), "data": data}
    catalog.hub.tell_fact(dataset, run, orjson.dumps(said))


async def _close_streams(app: FastAPI, hub: Hub) -> None:
    """Streams end as soon as a stop is asked for: they would never end by themselves."""
    stopping: asyncio.Event | None = getattr(app.state, "stopping", None)
    if stopping is not None:
        await stopping.wait()
        hub.close()


async def _ready(app: FastAPI) -> Mapping[str, str]:
    catalog: Catalog | None = getattr(app.state, "catalog", None)
    if catalog is None:
        return {"database": "not open yet"}
    bus: Bus = app.state.bus
    wrong = {"bus": bus.problem} if bus.problem else {}
    try:
        await catalog.database.ping()
    except TransientError as error:
        wrong["database"] = error.detail
    return wrong
