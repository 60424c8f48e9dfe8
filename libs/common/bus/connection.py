"""The connection to NATS: probed before it is made, then kept for ever."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from faststream.middlewares import AckPolicy
from faststream.nats import NatsBroker
from faststream.security import BaseSecurity
from nats.aio.client import Client

from libs.common.bus.faults import BusUnreachable
from libs.common.settings import CommonSettings

RECONNECT_WAIT = 1  # seconds between two tries at the same server
PING_INTERVAL = 10  # seconds; two unanswered pings mean that the server is gone
CONNECT_TIMEOUT = 3  # seconds for one try
PORT = 4222


def servers(settings: CommonSettings) -> list[str]:
    """The addresses of a cluster are separated by commas."""
    return [url.strip() for url in settings.nats_url.split(",") if url.strip()]


def make_broker(
    settings: CommonSettings,
    name: str,
    *,
    closed: Callable[[], Awaitable[None]],
    reconnected: Callable[[], Awaitable[None]],
    middlewares: Sequence[object],
) -> NatsBroker:
    """A broker whose defaults lose nothing; not connected yet."""
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    return NatsBroker(
        servers(settings),
        name=name,
        security=_security(token),
        connect_timeout=CONNECT_TIMEOUT,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_WAIT,
        ping_interval=PING_INTERVAL,
        max_outstanding_pings=2,
        closed_cb=closed,
        reconnected_cb=reconnected,
        graceful_timeout=settings.stop_timeout,
        ack_policy=AckPolicy.MANUAL,
        apply_types=False,
        middlewares=middlewares,
        logger=logging.getLogger("faststream"),
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


def _security(token: str | None) -> BaseSecurity | None:
    from faststream.nats.security import NatsToken

    return NatsToken(token) if token else None
