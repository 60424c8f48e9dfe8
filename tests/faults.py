"""A proxy that breaks connections on purpose: refuses, resets, throttles, swallows, answers 503."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

BLOCK = 16_384


@dataclass(frozen=True)
class Rule:
    """What happens to connections made, and bytes answered, from now on."""

    refuse: bool = False
    answer: int = 0  # an HTTP status that is answered instead of asking the server …
    share: float = 1.0  # … for this share of the connections
    reset_after: int = 0  # bytes of an answer, then the connection is reset …
    times: int = 1_000_000  # … so many times
    rate: int = 0  # bytes a second
    silent: bool = False  # bytes of answers never arrive


class FaultProxy:
    """In front of one TCP port, on one of its own."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self.rule = Rule()
        self.connections = 0
        self.hits = 0  # how often a fault was done
        self._upstream, self._random = port, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def set(self, **changes: object) -> None:
        """Another rule, for new connections; what isn't named is as at the beginning."""
        self.hits, self.connections = 0, 0
        self.rule = replace(Rule(), **changes)  # type: ignore[arg-type]
        for writer in tuple(self._open):  # those that were kept would know nothing of it
            self._loop.call_soon_threadsafe(writer.close)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        rule = self.rule
        with suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            if rule.refuse:
                self.hits += 1
                _reset(writer)
            elif rule.answer and self._random.random() < rule.share:
                await self._answer(reader, writer, rule)
            else:
                await self._through(reader, writer)
        self._open.discard(writer)
        with suppress(OSError):
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rule: Rule
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.hits += 1
        body = b"<Error><Code>SlowDown</Code></Error>"
        head = (
            f"HTTP/1.1 {rule.answer} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            done, rest = await asyncio.wait(
                [
                    asyncio.ensure_future(self._pump(reader, back, answers=False)),
                    asyncio.ensure_future(self._pump(there, writer, answers=True)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in rest:
                task.cancel()
            await asyncio.gather(*done, *rest, return_exceptions=True)
        finally:
            back.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        passed = 0
        while data := await reader.read(BLOCK):
            rule = self.rule
            if answers and rule.silent:
                await asyncio.sleep(3600)
            if answers and rule.rate:
                await asyncio.sleep(len(data) / rule.rate)
            due = answers and rule.reset_after and self.hits < rule.times
            if due and passed + len(data) >= rule.reset_after:
                writer.write(data[: rule.reset_after - passed])
                await writer.drain()
                self.hits += 1
                _reset(writer)
                return
            passed += len(data)
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends with RST rather than FIN."""
    found = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@contextmanager
def fault_proxy(port: int, seed: int = 0) -> Iterator[FaultProxy]:
    """A running proxy to a loopback port that breaks nothing yet."""
    proxy = FaultProxy(port, seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
