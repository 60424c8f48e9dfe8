"""Wires ingest: the bus, the warehouse, the routes, the sweeper."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import FastAPI

from libs.common.bus import Bus, Delivery
from libs.common.errors import PermanentError
from libs.common.events import CancelRequested, Fact, IngestRequested, RunChanged
from libs.common.web import edge, health
from libs.warehouse import RunDirs
from services.ingest.api import datasets, openapi, runs, tus, uploads
from services.ingest.intake import Intake
from services.ingest.requests import Requests
from services.ingest.settings import IngestSettings
from services.ingest.sweeper import Sweeper
from services.ingest.tus.notes import Notes
from services.ingest.tus.resumable import Resumable
from services.ingest.uploads import Limits, Uploads
from services.ingest.wiring import Wiring

F = TypeVar("F", bound=Fact)
CONCURRENCY = 8  # requests worked on at once, so that a long listing holds up no other


def make_app(settings: IngestSettings) -> FastAPI:
    """The app; bus and warehouse are reached when it starts."""
    bus = Bus(settings, "ingest")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        wired = app.state.wiring = _wire(settings, bus)
        await asyncio.to_thread(wired.uploads.sweep)
        intake = Intake(bus, wired.warehouse, wired.access)
        _subscribe(bus, intake)
        await bus.start()
        sweeping = asyncio.create_task(_sweeper(bus, intake, settings).run(settings.sweep_seconds))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.wait([sweeping])
            await bus.stop()
            wired.uploads.close()
            wired.resumable.close()

    app = FastAPI(
        title="OneBlock Data: ingest",
        lifespan=lifespan,
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(tus.Speaking)
    edge.install(app, settings, streams=("/v1/uploads",))

    async def ready() -> Mapping[str, str]:
        return _unready(bus, app.state.wiring)

    app.router.routes.extend(health.routes(lambda: bus.state, ready))
    for part in (datasets, runs, tus, uploads):
        app.include_router(part.router)
    openapi.install(app)
    return app


def _wire(settings: IngestSettings, bus: Bus) -> Wiring:
    warehouse = RunDirs(settings.warehouse)
    access = settings.access(warehouse)
    limits = Limits(
        settings.max_upload_bytes, settings.upload_idle_seconds, settings.upload_min_rate
    )
    return Wiring(
        settings=settings,
        bus=bus,
        warehouse=warehouse,
        access=access,
        requests=Requests(bus),
        uploads=Uploads(warehouse.path("uploads"), limits, settings.max_uploads),
        resumable=Resumable(
            Notes(warehouse.path("uploads"), settings.upload_keep_seconds),
            limits,
            settings.max_uploads,
        ),
    )


def _subscribe(bus: Bus, intake: Intake) -> None:
    async def requested(fact: Fact, delivery: Delivery) -> None:
        await intake.requested(_as(IngestRequested, fact), delivery.id)

    async def cancel(fact: Fact, _delivery: Delivery) -> None:
        await intake.cancel(_as(CancelRequested, fact))

    async def changed(fact: Fact, _delivery: Delivery) -> None:
        await intake.changed(_as(RunChanged, fact))

    bus.subscribe("ingest-requests", requested, concurrency=CONCURRENCY)
    bus.subscribe("ingest-cancels", cancel, concurrency=2)
    bus.subscribe("ingest-runs", changed, concurrency=CONCURRENCY)


def _sweeper(bus: Bus, intake: Intake, settings: IngestSettings) -> Sweeper:
    return Sweeper(
        intake,
        bus,
        resume_after=settings.resume_after_seconds,
        give_up_after=settings.give_up_seconds,
    )


def _as(kind: type[F], fact: Fact) -> F:
    if not isinstance(fact, kind):
        raise PermanentError(f"{fact.TYPE} is not expected here", code="unexpected_fact")
    return fact


def _unready(bus: Bus, wired: Wiring) -> dict[str, str]:
    """What keeps requests from being worked on, with the reason."""
    wrong: dict[str, str] = {}
    if bus.problem:
        wrong["bus"] = bus.problem
    root = wired.warehouse.root
    if root.exists() and not os.access(root, os.W_OK | os.X_OK):
        wrong["warehouse"] = f"{root} can't be written to"
    for folder in wired.settings.roots():
        if not folder.is_dir():
            wrong[f"file root {folder}"] = "is no folder"
    return wrong
