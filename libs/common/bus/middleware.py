"""The FastStream middleware: takes a message, keeps it alive, settles it as `delivery` decides."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import structlog
from faststream import BaseMiddleware, ContextRepo
from faststream.message import StreamMessage
from nats import errors as nats_errors
from nats.aio.msg import Msg

from libs.common import metrics, trace
from libs.common.bus.deadletters import Original
from libs.common.bus.delivery import Action, Outcome, classify, decide
from libs.common.bus.failures import Failures
from libs.common.bus.fate import charged_run, run_of
from libs.common.bus.records import RunEnded
from libs.common.bus.taken import Taken, original
from libs.common.bus.topology import DURABLES, Durable
from libs.common.crashpoints import crash_point
from libs.common.errors import OneBlockError, TransientError
from libs.common.events import ErrorInfo, RunState
from libs.common.logs import about

log = structlog.get_logger("oneblock.delivery")
ACTING_FAILED = 5.0  # seconds before the next try when the outcome couldn't be told to the world
HAND_BACK = 2.0  # seconds that a cancelled handler may take to end
MAX_DETAIL = 4096  # characters of an error that are kept with a run

Next = Callable[[StreamMessage[Msg]], Awaitable[object]]


class World(Protocol):
    """What the middleware tells the outcome to."""

    async def knows(self, run: str) -> bool: ...
    async def end_run(
        self, run: str, state: RunState, error: ErrorInfo | None, durable: Durable
    ) -> None: ...
    async def retell(self, ended: RunEnded) -> None: ...
    async def bury(self, original: Original, error: Exception) -> None: ...


class Desk:
    """Where all messages of a process pass; knows what is in hand."""

    def __init__(self, world: World, ack_wait: Mapping[str, float]) -> None:
        self._world = world
        self._ack_wait = ack_wait  # durable → seconds, as the server has it
        self._working: set[asyncio.Task[None]] = set()
        self._failures = Failures()
        self._unsettled = 0
        self._idle = asyncio.Event()
        self._stopping = False

    def middleware(self, message: Msg | None, *, context: ContextRepo) -> BaseMiddleware:
        """What FastStream makes one of for every message."""
        return _Scope(self, message, context=context)

    async def handle(self, call_next: Next, message: StreamMessage[Msg]) -> None:
        """From taken to settled."""
        raw = message.raw_message
        durable = DURABLES[raw.metadata.consumer]
        self._unsettled += 1
        self._idle.clear()
        if raw.metadata.num_delivered > 1:
            metrics.REDELIVERIES.labels(durable.name).inc()
        alive = asyncio.create_task(self._heartbeat(raw, self._ack_wait[durable.name] / 3))
        try:
            taken, error = await self._decoded(message), None
        except Exception as failure:
            taken, error = None, failure
        try:
            with trace.bind(taken.delivery.trace if taken else None), _described(durable, taken):
                await self._work_and_settle(durable, call_next, message, taken, error)
        finally:
            alive.cancel()
            self._unsettled -= 1
            if not self._unsettled:
                self._idle.set()

    async def drain(self, within: float) -> None:
        """Let handlers finish; the messages of those that don't in time are handed back."""
        self._stopping = True
        if not await self._becomes_idle(within):
            for task in list(self._working):
                task.cancel()
            await self._becomes_idle(HAND_BACK)

    async def _becomes_idle(self, within: float) -> bool:
        if self._unsettled:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), within)
        return not self._unsettled

    async def _decoded(self, message: StreamMessage[Msg]) -> Taken:
        taken = await message.decode()
        assert isinstance(taken, Taken)
        return taken

    async def _work_and_settle(
        self,
        durable: Durable,
        call_next: Next,
        message: StreamMessage[Msg],
        taken: Taken | None,
        error: BaseException | None,
    ) -> None:
        began = time.monotonic()
        stopped = False
        if taken is not None:
            stopped, error = await self._run(call_next, message)
        outcome: Outcome = "stopped" if stopped else classify(error)
        run = charged_run(error) or (run_of(taken.fact, taken.delivery.id) if taken else None)
        owned = charged_run(error) is not None or durable.stage is not None
        action = await self._act(
            durable, message.raw_message, outcome, error, run if owned else None
        )
        await self._settle(message.raw_message, action)
        _told(durable, outcome, action, error, time.monotonic() - began)

    async def _run(
        self, call_next: Next, message: StreamMessage[Msg]
    ) -> tuple[bool, BaseException | None]:
        """Run the handler as a task of its own, so that stopping can end it and nothing else."""

        async def work() -> None:
            await call_next(message)

        task = asyncio.create_task(work())
        self._working.add(task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            self._working.discard(task)
        return (True, None) if task.cancelled() else (False, task.exception())

    async def _act(
        self,
        durable: Durable,
        raw: Msg,
        outcome: Outcome,
        error: BaseException | None,
        run: str | None,
    ) -> Action:
        """Tell the world what the outcome means; returns how to settle the message."""
        tries = self._failures.count(raw, outcome)
        retry_after = getattr(error, "retry_after", 0.0)
        try:
            owns = run is not None and await self._world.knows(run)
            action = decide(outcome, tries, owns_run=owns, retry_after=retry_after)
            if outcome == "stopped" and not self._stopping:
                return Action("nak", 1.0)
            if action.end == "retell" and isinstance(error, RunEnded):
                await self._world.retell(error)
            elif run is not None and action.end in ("failed", "cancelled"):
                reason = None if action.end == "cancelled" else _error_info(error)
                await self._world.end_run(run, action.end, reason, durable)
            if action.dead and isinstance(error, Exception):
                metrics.DEAD_LETTERS.labels(durable.name, _code(error)).inc()
                await self._world.bury(original(raw), error)
        except TransientError as trouble:
            log.warning("outcome_not_told", outcome=outcome, error=str(trouble))
            return Action("nak", ACTING_FAILED)
        except Exception:
            log.exception("outcome_not_told", outcome=outcome)
            return Action("nak", ACTING_FAILED)
        return action

    async def _settle(self, raw: Msg, action: Action) -> None:
        crash_point("before_ack")
        try:
            if action.settle == "ack":
                await raw.ack()
            elif action.settle == "term":
                await raw.term()
            if action.settle != "nak":
                self._failures.forget(raw)
            else:
                jitter = random.uniform(1.0, 1.2) if action.delay else 0.0
                await raw.nak(delay=action.delay * jitter)
        except nats_errors.Error as error:
            log.warning("not_settled", settle=action.settle, error=str(error))
        crash_point("after_ack")

    async def _heartbeat(self, raw: Msg, every: float) -> None:
        """Tell the server that we are at it, from the moment the message was taken."""
        while True:
            await asyncio.sleep(every)
            try:
                await raw.in_progress()
            except nats_errors.Error as error:
                log.warning("heartbeat_failed", error=str(error))


class _Scope(BaseMiddleware):
    """One message's way through; core messages (progress) just pass."""

    def __init__(self, desk: Desk, message: Msg | None, *, context: ContextRepo) -> None:
        super().__init__(message, context=context)
        self._desk = desk

    async def consume_scope(self, call_next: Next, msg: StreamMessage[Msg]) -> object:
        if not msg.raw_message.reply.startswith("$JS.ACK."):
            return await call_next(msg)
        await self._desk.handle(call_next, msg)
        return None


def _described(durable: Durable, taken: Taken | None) -> AbstractContextManager[None]:
    fact = taken.fact if taken else None
    return about(
        durable=durable.name,
        run=run_of(fact, taken.delivery.id) if taken else None,
        dataset=getattr(fact, "dataset", None),
    )


def _told(
    durable: Durable, outcome: Outcome, action: Action, error: BaseException | None, took: float
) -> None:
    """One line and one count per message."""
    metrics.MESSAGES.labels(durable.name, outcome).inc()
    if durable.stage:
        metrics.STAGE.labels(durable.stage).observe(took)
    fields = {"outcome": outcome, "settle": action.settle, "delay": action.delay}
    if outcome in ("done", "ended", "held"):
        log.debug("message_handled", **fields)
    elif outcome == "bug":
        log.error("message_handled", **fields, exc_info=error)
    else:
        log.warning("message_handled", **fields, code=_code(error), error=str(error))


def _code(error: BaseException | None) -> str:
    return error.code if isinstance(error, OneBlockError) else "internal_error"


def _error_info(error: BaseException | None) -> ErrorInfo:
    if isinstance(error, OneBlockError):
        return ErrorInfo(code=error.code, detail=error.detail[:MAX_DETAIL], path=error.path)
    detail = f"a bug in the service: {type(error).__name__}: {error}"
    return ErrorInfo(code="internal_error", detail=detail[:MAX_DETAIL])
