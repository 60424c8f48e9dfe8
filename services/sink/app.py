"""Wires the sink: bus, warehouse, destinations, and a page for its health."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette

from libs.common.bus import Bus, Delivery
from libs.common.errors import PermanentError
from libs.common.events import DatasetTransformed, Fact
from libs.common.web import health
from libs.warehouse import Warehouse
from services.sink.deliver import Deliverer
from services.sink.destinations import Access
from services.sink.settings import SinkSettings

DURABLE = "sink-versions"


def make_app(settings: SinkSettings) -> Starlette:
    """The app; bus and warehouse are reached when it starts."""
    bus = Bus(settings, "sink")

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        warehouse = Warehouse(settings.warehouse)
        handler = _handler(bus, warehouse, settings)
        bus.subscribe(DURABLE, handler, concurrency=settings.sink_concurrency)
        await bus.start()
        try:
            yield
        finally:
            await bus.stop()

    async def ready() -> Mapping[str, str]:
        broken = {"bus": bus.problem} if bus.problem else {}
        return broken | unwritable(settings.sink_roots)

    return Starlette(routes=health.routes(lambda: bus.state, ready), lifespan=lifespan)


def _handler(
    bus: Bus, warehouse: Warehouse, settings: SinkSettings
) -> Callable[[Fact, Delivery], Awaitable[None]]:
    access = Access(roots=settings.sink_roots, closed=(warehouse.root,))

    async def heard(fact: Fact, _delivery: Delivery) -> None:
        if not isinstance(fact, DatasetTransformed):
            raise PermanentError(f"{fact.TYPE} is not for the sink", code="unexpected_fact")
        await Deliverer(warehouse, bus.runs, bus, access, bus.instance).deliver(fact)

    return heard


def unwritable(roots: tuple[Path, ...]) -> dict[str, str]:
    """Roots that nothing can be delivered to, with the reason."""
    return {
        str(root): "is no folder that the sink's user may write in"
        for root in roots
        if root.exists() and not (root.is_dir() and os.access(root, os.W_OK | os.X_OK))
    }
