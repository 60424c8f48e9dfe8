"""Finds runs that nobody works on any more, and sets them going again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from libs.common.bus.records import RunRecord
from libs.common.bus.slots import unresolved
from libs.common.errors import Cancelled, OneBlockError, PermanentError, TransientError
from libs.common.events import CancelRequested
from services.ingest.intake import Intake, World

log = structlog.get_logger()


class Sweeper:
    """Looks at every active slot, again and again.

    A slot whose run has ended is released (the process died between the end and telling it). A run
    without an inventory is resumed when two looks `resume_after` seconds apart found it so. Time
    is this process's own, so that no clock of another machine decides.
    """

    def __init__(
        self,
        intake: Intake,
        world: World,
        *,
        resume_after: float,
        give_up_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._world = world
        self._resume_after = resume_after
        self._give_up_after = give_up_after
        self._clock = clock
        self._seen: dict[str, float] = {}  # unresolved run → when it was first seen so

    async def run(self, every: float) -> None:
        """For ever; trouble is logged and tried again."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.sweep()
            except TransientError as error:
                log.warning("sweep_failed", code=error.code, error=error.detail)
            except Exception:
                log.exception("sweep_failed")

    async def sweep(self) -> None:
        """One look at all of them."""
        stuck: set[str] = set()
        for slot in await self._world.runs.active():
            record = await self._world.runs.get(slot.run) if slot.run else None
            if record is None:
                continue
            if record.ended or (unresolved(record) and not self._intake.busy(record.id)):
                stuck.add(record.id)
                waited = self._clock() - self._seen.setdefault(record.id, self._clock())
                await (self._release if record.ended else self._resume)(record, waited)
        self._seen = {run: at for run, at in self._seen.items() if run in stuck}

    async def _release(self, record: RunRecord, waited: float) -> None:
        if not waited:
            return  # its end is perhaps being told just now
        log.warning("slot_of_ended_run", run=record.id, dataset=record.dataset)
        await self._world.publish(record.changed())
        following = await self._world.runs.release(record.dataset, record.id)
        if following is not None:
            await self._start(following)

    async def _resume(self, record: RunRecord, waited: float) -> None:
        if waited >= self._resume_after:
            log.warning("run_resumed", run=record.id, dataset=record.dataset)
            await self._world.publish(record.changed())  # it may not have been told either
            await self._start(record, last=waited >= self._give_up_after)

    async def _start(self, run: RunRecord, *, last: bool = False) -> None:
        try:
            await self._intake.start(run)
        except Cancelled:
            await self._intake.cancel(CancelRequested(run=run.id))
        except OneBlockError as error:
            if last or isinstance(error, PermanentError):
                await self._world.fail(run.id, error)
            else:
                log.warning("run_not_resumed", run=run.id, code=error.code, error=error.detail)
