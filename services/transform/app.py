"""Wires transform: bus, warehouse, engines, and a page for its health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from libs.common.bus import Bus, Delivery
from libs.common.errors import PermanentError
from libs.common.events import Fact, SourceResolved
from libs.common.web import health
from libs.warehouse import Warehouse
from services.transform.build import Workshop, build
from services.transform.engines import ENGINES, Engine
from services.transform.plan import EngineName, Sizes
from services.transform.settings import Settings

DURABLE = "transform-sources"


def make_app(settings: Settings) -> Starlette:
    """The app; bus, warehouse and engines are reached when it starts."""
    warehouse = Warehouse(settings.warehouse)
    bus = Bus(settings, "transform")
    engines = make_engines(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        threads = ThreadPoolExecutor(settings.transform_runs, "run")
        handler = _handler(bus, warehouse, engines, threads, settings)
        bus.subscribe(DURABLE, handler, concurrency=settings.transform_runs)
        for engine in engines.values():
            engine.start()
        try:
            await bus.start()
            yield
        finally:
            await bus.stop()
            await asyncio.gather(*(asyncio.to_thread(e.stop) for e in engines.values()))
            threads.shutdown(wait=False, cancel_futures=True)

    async def ready() -> Mapping[str, str]:
        return {"bus": bus.problem} if bus.problem else {}

    return Starlette(routes=health.routes(lambda: bus.state, ready), lifespan=lifespan)


def make_engines(settings: Settings) -> dict[EngineName, Engine]:
    """The local lane always, Ray where a cluster is configured."""
    engines: dict[EngineName, Engine] = {"local": ENGINES.get("local")(settings)}
    if settings.ray_address:
        engines["ray"] = ENGINES.get("ray")(settings)
    return engines


def _handler(
    bus: Bus,
    warehouse: Warehouse,
    engines: Mapping[EngineName, Engine],
    threads: ThreadPoolExecutor,
    settings: Settings,
) -> Callable[[Fact, Delivery], Awaitable[None]]:
    sizes = Sizes(
        split=settings.split_bytes, head=settings.head_bytes, local=settings.local_max_bytes
    )

    async def heard(fact: Fact, _delivery: Delivery) -> None:
        if not isinstance(fact, SourceResolved):
            raise PermanentError(f"{fact.TYPE} is not for transform", code="unexpected_fact")
        shop = Workshop(warehouse, bus.runs, bus, engines, threads, sizes, bus.instance)
        await build(fact, shop)

    return heard
