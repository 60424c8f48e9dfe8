"""Buses on real servers, and the facts to send through them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

import nats
from nats.js import JetStreamContext

from libs.common.bus import Bus
from libs.common.bus.watchdog import Fatal
from libs.common.events import DatasetTransformed, RunChanged, SourceResolved
from libs.common.settings import CommonSettings
from tests.servers import NatsServer

T = TypeVar("T")


def settings_for(
    server: NatsServer, stop_timeout: float = 5.0, lease_ttl: float = 30.0
) -> CommonSettings:
    return CommonSettings.model_validate(
        {
            "nats_url": server.url,
            "nats_token": server.token,
            "stop_timeout": stop_timeout,
            "lease_ttl": lease_ttl,
        }
    )


def must_not_end(reason: str) -> None:
    raise AssertionError(f"the process would have ended: {reason}")


def a_bus(
    server: NatsServer,
    service: str = "tester",
    *,
    stop_timeout: float = 5.0,
    lease_ttl: float = 30.0,
    fatal: Fatal = must_not_end,
) -> Bus:
    return Bus(settings_for(server, stop_timeout, lease_ttl), service, fatal=fatal)


@asynccontextmanager
async def started(bus: Bus) -> AsyncIterator[Bus]:
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def jetstream(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    """The raw driver, for looking at the server from outside."""
    client = await nats.connect(server.url, token=server.token)
    try:
        yield client.jetstream()
    finally:
        await client.close()


@overload
async def eventually(
    look: Callable[[], Coroutine[Any, Any, T]], within: float = 5.0, every: float = 0.02
) -> T: ...
@overload
async def eventually(look: Callable[[], T], within: float = 5.0, every: float = 0.02) -> T: ...
async def eventually(
    look: Callable[[], object], within: float = 5.0, every: float = 0.02
) -> object:
    """The first true answer of `look`; fails when none comes in time."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        answer = await found if isinstance(found, Awaitable) else found
        if answer:
            return answer
        assert time.monotonic() < deadline, f"nothing after {within} s"
        await asyncio.sleep(every)


def resolved(run: str, dataset: str = "default/cars") -> SourceResolved:
    return SourceResolved(
        run=run, dataset=dataset, generation=1, run_dir="x", digest="d", files=1, bytes=1
    )


def transformed(run: str, dataset: str = "default/cars") -> DatasetTransformed:
    return DatasetTransformed(
        run=run, dataset=dataset, generation=1, run_dir="x", version=1, rows=1
    )


def changed(run: str, state: str = "accepted", dataset: str = "default/cars") -> RunChanged:
    return RunChanged.model_validate({"run": run, "dataset": dataset, "state": state})


async def stored(js: JetStreamContext, stream: str) -> list[tuple[str, bytes]]:
    """Every message of a stream: its subject and body."""
    state = (await js.stream_info(stream)).state
    sequences = range(state.first_seq, state.last_seq + 1) if state.messages else range(0)
    messages = [await js.get_msg(stream, seq=seq) for seq in sequences]
    return [(message.subject or "", message.data or b"") for message in messages]
