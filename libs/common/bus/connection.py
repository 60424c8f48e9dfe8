"""The connection to NATS: probed before it is made, then kept for ever."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from faststream import BaseMiddleware, ContextRepo
from faststream.middlewares import AckPolicy
from faststream.nats import NatsBroker
from faststream.nats.security import NatsToken
from nats.aio.client import Client, Server
from nats.aio.msg import Msg

from libs.common.bus.faults import BusUnreachable
from libs.common.settings import CommonSettings

RECONNECT_AT_MOST = 1.5  # seconds between two tries, once there were several
PING_INTERVAL = 10  # seconds; two unanswered pings mean that the server is gone
CONNECT_TIMEOUT = 3  # seconds for one try
PORT = 4222


class Middleware(Protocol):
    """What FastStream makes a middleware with, for each message."""

    def __call__(self, msg: Msg | None, /, *, context: ContextRepo) -> BaseMiddleware: ...


def servers(settings: CommonSettings) -> list[str]:
    """The addresses of a cluster are separated by commas."""
    return [url.strip() for url in settings.nats_url.split(",") if url.strip()]


def make_broker(
    settings: CommonSettings,
    name: str,
    *,
    closed: Callable[[], Awaitable[None]],
    reconnected: Callable[[], Awaitable[None]],
    middlewares: Sequence[Middleware] = (),
) -> NatsBroker:
    """A broker whose defaults lose nothing; not connected yet."""
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    return NatsBroker(
        servers(settings),
        name=name,
        security=NatsToken(token) if token else None,
        connect_timeout=CONNECT_TIMEOUT,
        max_reconnect_attempts=-1,
        reconnect_to_server_handler=next_try,
        ping_interval=PING_INTERVAL,
        max_outstanding_pings=2,
        closed_cb=closed,
        reconnected_cb=reconnected,
        graceful_timeout=settings.stop_timeout,
        ack_policy=AckPolicy.MANUAL,
        apply_types=False,
        middlewares=middlewares,
        log_level=logging.DEBUG,
        logger=logging.getLogger("oneblock.faststream"),
    )


async def connect(broker: NatsBroker, settings: CommonSettings, within: float) -> Client:
    """Connect, or say in so many seconds what is wrong. Raises BusUnreachable."""
    deadline = time.monotonic() + within
    await _probe(servers(settings), deadline - CONNECT_TIMEOUT)
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + CONNECT_TIMEOUT):
            return await broker.connect()
    except TimeoutError as error:
        raise BusUnreachable(
            f"NATS at {settings.nats_url} accepts connections but doesn't answer; "
            "is it overloaded, or does it want TLS (tls://)?"
        ) from error
    except Exception as error:
        raise BusUnreachable(
            f"NATS at {settings.nats_url} refused the connection: {error}; "
            "check ONEBLOCK_NATS_URL and ONEBLOCK_NATS_TOKEN"
        ) from error


def next_try(pool: list[Server], _info: dict[str, object]) -> tuple[Server, float]:
    """The server that failed us least, and how long to wait: at once, then with backoff."""
    server = min(pool, key=lambda known: known.reconnects)
    wait = 0.1 * 2.0 ** min(server.reconnects, 10) if server.reconnects else 0.0
    return server, min(wait, RECONNECT_AT_MOST) * random.uniform(0.8, 1.0)


async def speaks(settings: CommonSettings) -> bool:
    """Whether one of the servers answers new connections at this moment."""
    return None in [await _speaks(url) for url in servers(settings)]


async def _probe(urls: list[str], deadline: float) -> None:
    """Wait until one of the servers speaks."""
    while True:
        said = [await _speaks(url) for url in urls]
        if None in said:
            return
        if time.monotonic() + 0.25 > deadline:
            listed = "; ".join(str(reason) for reason in said)
            raise BusUnreachable(
                f"can't reach NATS: {listed}. Start it (`oneblock up` does), "
                "or set ONEBLOCK_NATS_URL to where it is"
            )
        await asyncio.sleep(0.25)


async def _speaks(url: str) -> str | None:
    """None if a NATS server answers there, else what is wrong."""
    address = urlsplit(url if "://" in url else f"nats://{url}")
    host, port = address.hostname or "127.0.0.1", address.port or PORT
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                said = await reader.read(4) if address.scheme == "nats" else b"INFO"
            finally:
                writer.close()
    except TimeoutError:
        return f"{host}:{port} doesn't answer within 2 s"
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    return None if said == b"INFO" else f"{host}:{port} is no NATS server (it said {said!r})"
