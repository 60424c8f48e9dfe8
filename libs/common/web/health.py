"""`/healthz`, `/readyz` and `/metrics`: is it alive, can it work, what does it do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

READY_TIMEOUT = 2.0  # seconds that all readiness checks together may take

# What keeps the service from working: part → reason; an empty mapping means ready.
Ready = Callable[[], Awaitable[Mapping[str, str]]]


async def always_ready() -> Mapping[str, str]:
    """For a service that needs nothing but the bus."""
    return {}


def routes(bus_state: Callable[[], str], ready: Ready = always_ready) -> list[Route]:
    """The three routes; they need no token and touch nothing that can block."""

    async def healthz(_request: Request) -> Response:
        return _json(200, {"status": "ok", "bus": bus_state()})

    async def readyz(_request: Request) -> Response:
        wrong = await _reasons(bus_state, ready)
        body = {"status": "degraded" if wrong else "ready", "bus": bus_state(), "reasons": wrong}
        return _json(503 if wrong else 200, body)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


async def _reasons(bus_state: Callable[[], str], ready: Ready) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if (state := bus_state()) != "connected":
        return {"bus": f"the connection to NATS is {state}"}
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            wrong |= await ready()
    except TimeoutError:
        wrong["checks"] = f"readiness checks took longer than {READY_TIMEOUT:g} s"
    except Exception as error:
        wrong["checks"] = f"a readiness check failed: {type(error).__name__}"
    return wrong


def _json(status: int, body: Mapping[str, object]) -> Response:
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": "2"} if status == 503 else {})
    return Response(orjson.dumps(body), status, headers, "application/json")
