"""The bus of one service process: facts out, messages in, runs and specs beside them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

import structlog
from faststream.nats import JStream, NatsBroker, PullSub
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from libs.common import metrics
from libs.common.bus import admin, connection
from libs.common.bus.bucket import Bucket
from libs.common.bus.deadletters import Original
from libs.common.bus.faults import TIMEOUT, BusNotMigrated
from libs.common.bus.intake import Intake
from libs.common.bus.middleware import Desk
from libs.common.bus.outbox import Outbox
from libs.common.bus.records import RunEnded, RunRecord
from libs.common.bus.runs import Runs
from libs.common.bus.specs import Specs
from libs.common.bus.taken import Handler, Taken, decode
from libs.common.bus.topology import (
    DURABLES,
    PROGRESS,
    RUNS,
    SPECS,
    Durable,
)
from libs.common.bus.watchdog import Fatal, Watchdog, end_process
from libs.common.errors import OneBlockError
from libs.common.events import ErrorInfo, Fact, Progress, RunState
from libs.common.settings import CommonSettings

log = structlog.get_logger("oneblock.bus")
FETCH_TIMEOUT = 5.0  # seconds
WATCH_EVERY = 10.0  # seconds between two looks at the consumers
START_WITHIN = 8.0  # seconds for reaching NATS at start
CLOSE_WITHIN = 2.0  # seconds for closing the connection
STUCK = 30.0  # seconds of not being connected to a server that answers others

ProgressHandler = Callable[[Progress], Awaitable[None]]


class Bus:
    """One per service process. `subscribe` and `on_progress` come before `start`."""

    broker: NatsBroker
    specs: Specs
    runs: Runs

    def __init__(
        self,
        settings: CommonSettings,
        service: str,
        instance: str | None = None,
        *,
        fatal: Fatal = end_process,
        hang_limit: float = 30.0,
    ) -> None:
        self.service = service
        self.instance = instance or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.problem: str | None = None  # what keeps messages from coming, for readiness
        self._settings = settings
        self._fatal = fatal
        self._ack_wait: dict[str, float] = {}
        self._desk = Desk(self, self._ack_wait)
        self._durables: list[str] = []
        self._intakes: list[Intake] = []
        self._client: Client | None = None
        self._watchdog = Watchdog(hang_limit, fatal)
        self._watching: asyncio.Task[None] | None = None
        self._live = False  # from the end of `start` to the beginning of `stop`
        self.broker = connection.make_broker(
            settings,
            f"{service}/{self.instance}",
            closed=self._closed,
            reconnected=self._reconnected,
            middlewares=[self._desk.middleware],
        )
        self._outbox = Outbox(self.broker, service)

    @property
    def state(self) -> Literal["connected", "reconnecting", "closed"]:
        """How the connection is at this moment."""
        if self._client is None or self._client.is_closed:
            return "closed"
        return "connected" if self._client.is_connected else "reconnecting"

    async def start(self) -> None:
        """Connect, check that everything is as declared, begin to take messages.

        Raises BusUnreachable (within 10 s), BusNotMigrated.
        """
        self._client = await connection.connect(self.broker, self._settings, START_WITHIN)
        js = self._client.jetstream(timeout=TIMEOUT)
        try:
            if drift := await admin.differences(js):
                raise BusNotMigrated(drift)
            for name in self._durables:
                self._ack_wait[name] = await admin.ack_wait(js, DURABLES[name])
        except OneBlockError:
            await self.stop()
            raise
        self.specs = Specs(Bucket(self._client, SPECS.name))
        self.runs = Runs(Bucket(self._client, RUNS.name), self._settings.lease_ttl)
        await self.broker.start()
        self._intakes = Intake.before(self.broker)
        self._live = True
        self._watchdog.start()
        self._watching = asyncio.create_task(self._watch(js), name="bus-watch")
        metrics.CONNECTED.set(1)
        log.info("bus_started", service=self.service, durables=sorted(set(self._durables)))

    async def stop(self) -> None:
        """Take nothing new; finish or hand back what is held, within `settings.stop_timeout`."""
        self._live = False
        for intake in self._intakes:
            await intake.close()
        await self._desk.drain(self._settings.stop_timeout)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._watchdog.stop()
        with suppress(nats_errors.Error, TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await self.broker.stop()
        if self._client is not None and not self._client.is_closed:
            with suppress(nats_errors.Error, OSError, TimeoutError):
                await asyncio.wait_for(self._client.close(), CLOSE_WITHIN)
        metrics.CONNECTED.set(0)
        log.info("bus_stopped", service=self.service)

    def subscribe(self, durable: str, handler: Handler, *, concurrency: int = 1) -> None:
        """Give each message of `durable` to `handler`; at most `concurrency` at once.

        That many pull loops take one message at a time, so that no message waits here, unseen by
        another process, behind one that takes long.
        """
        declared = DURABLES[durable]

        async def handle(taken: Taken) -> None:
            await handler(taken.fact, taken.delivery)

        for _ in range(concurrency):
            subscriber = self.broker.subscriber(
                declared.subject,
                durable=declared.name,
                stream=JStream(declared.stream, declare=False),
                pull_sub=PullSub(batch_size=1, timeout=FETCH_TIMEOUT),
                decoder=decode,
                no_reply=True,
            )
            subscriber(handle)
        self._durables.append(durable)

    async def publish(self, fact: Fact, *, id: str | None = None) -> None:
        """Make the fact known; returns when JetStream has stored it, once however often we ask.

        Raises TransientError `bus_unavailable`, PermanentError `message_too_large`.
        """
        await self._outbox.publish(fact, id)

    async def progress(self, p: Progress) -> None:
        """Tell how far it is; may be lost, never raises, costs nothing while disconnected."""
        if self.state == "connected":
            await self._outbox.progress(p)

    def on_progress(self, handler: ProgressHandler) -> None:
        """Hear every progress there is; `handler` must not take long."""

        async def parse(message: object) -> object:
            return getattr(message, "body", b"")

        async def handle(body: bytes) -> None:
            try:
                await handler(Progress.model_validate_json(body))
            except Exception as error:
                log.warning("progress_ignored", error=str(error)[:200])

        subscriber = self.broker.subscriber(f"{PROGRESS}.*", decoder=parse, no_reply=True)
        subscriber(handle)

    async def fail(self, run: str, error: OneBlockError) -> RunRecord:
        """End the run as failed and tell it; for code that runs outside any handler."""
        reason = ErrorInfo(code=error.code, detail=error.detail, path=error.path)
        record = await self.runs.finish(run, "failed", error=reason)
        await self.publish(record.changed())
        return record

    async def knows(self, run: str) -> bool:
        """World: whether the run was accepted."""
        return await self.runs.get(run) is not None

    async def end_run(
        self, run: str, state: RunState, error: ErrorInfo | None, durable: Durable
    ) -> None:
        """World: end the run once, and tell the end that stands."""
        record = await self.runs.finish(run, state, error=error, stage=durable.stage)
        await self.publish(record.changed())

    async def retell(self, ended: RunEnded) -> None:
        """World: the process may have died after the end was written and before it was told."""
        await self.publish(ended.record.changed())

    async def bury(self, original: Original, error: Exception) -> None:
        """World: keep what can't be handled, once."""
        await self._outbox.bury(original, error)

    async def _watch(self, js: JetStreamContext) -> None:
        """Notice what callbacks don't tell: a connection closed silently, a consumer removed."""
        looked, stuck = 0.0, 0.0
        while True:
            state = self.state
            metrics.CONNECTED.set(state == "connected")
            if state == "closed":
                await self._closed()
            elif state == "connected" and time.monotonic() - looked > WATCH_EVERY:
                looked = time.monotonic()
                await self._look(js)
            reachable = state == "reconnecting" and await connection.speaks(self._settings)
            stuck = stuck + 1.0 if reachable else 0.0
            if stuck >= STUCK:
                # FastStream's error callback ends the driver's reconnecting on some errors.
                self._fatal(f"NATS answers, but for {STUCK:g} s not to this connection")
            await asyncio.sleep(1.0)

    async def _look(self, js: JetStreamContext) -> None:
        problem = None
        for name in sorted(set(self._durables)):
            try:
                info = await js.consumer_info(DURABLES[name].stream, name)
            except NotFoundError:
                problem = f"consumer {name} is gone: run `oneblock admin migrate`"
            except (nats_errors.Error, TimeoutError, OSError) as error:
                problem = f"NATS doesn't say how consumer {name} is: {error}"
            else:
                metrics.LAG.labels(name).set(info.num_pending or 0)
                metrics.ACK_PENDING.labels(name).set(info.num_ack_pending or 0)
        if problem and problem != self.problem:
            log.error("bus_problem", problem=problem)
        self.problem = problem

    async def _closed(self) -> None:
        """The driver has given up for good; a new process is the only way on."""
        if self._live:
            self._fatal("the connection to NATS was closed for good")

    async def _reconnected(self) -> None:
        metrics.RECONNECTS.inc()
        for intake in self._intakes:
            intake.ask_again()
        log.info("bus_reconnected", service=self.service)
