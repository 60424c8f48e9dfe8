"""Facts on their way into the tables: those that wait together are committed together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from libs.common.bus.records import Desired
from libs.common.crashpoints import crash_point
from libs.common.errors import PermanentError, TransientError
from libs.common.events import Fact
from services.catalog.record import Event
from services.catalog.store.database import Database
from services.catalog.store.ledger import record, record_spec

BATCH = 64  # facts in one transaction
KNOWN = 10_000  # datasets whose generation is remembered
log = structlog.get_logger()

GetSpec = Callable[[str], Awaitable[Desired | None]]
Kept = Callable[[Event], None]


@dataclass(frozen=True)
class _Waiting:
    event: Event
    kept: asyncio.Future[None]


class Recorder:
    """One writer for all handlers; `keep` returns when the fact is durable.

    One commit costs a flush of the disk: alone each fact would pay for its own. `told` hears of
    every fact after its commit.
    """

    def __init__(self, database: Database, spec: GetSpec, told: Kept) -> None:
        self._database = database
        self._spec = spec
        self._told = told
        self._generations: dict[str, int] = {}
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._writer = asyncio.create_task(self._write(), name="catalog-writer")

    async def stop(self) -> None:
        """Call it when no handler works any more."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])

    async def keep(self, event: Event) -> None:
        """Folds the fact in, with the manifest of its generation."""
        await self._remember_spec(event.fact)
        waiting = _Waiting(event, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        await waiting.kept

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < BATCH:
                batch.append(self._queue.get_nowait())
            if not await self._commit(batch) and len(batch) > 1:
                for one in batch:  # so that one bad fact doesn't hold up the others
                    await self._commit([one])

    async def _commit(self, batch: list[_Waiting]) -> bool:
        """Tells each who waits; False when a batch must be tried one by one."""
        crash_point("catalog_before_commit")
        try:
            await record(self._database, [waiting.event for waiting in batch])
        except TransientError as error:
            for waiting in batch:
                _settle(waiting, error)
            return True
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0], error)
            return False
        crash_point("catalog_after_commit")
        for waiting in batch:
            self._told(waiting.event)
            _settle(waiting, None)
        return True

    async def _remember_spec(self, fact: Fact) -> None:
        """The manifest isn't in the facts: it is read from the bus once for each generation."""
        dataset, generation = getattr(fact, "dataset", ""), getattr(fact, "generation", 0)
        if generation <= self._generations.get(dataset, 0):
            return
        try:
            desired = await self._spec(dataset)
        except PermanentError as error:  # a name that can't be a key
            log.warning("spec_unreadable", dataset=dataset, detail=error.detail)
            return
        if desired is not None:
            await record_spec(self._database, dataset, desired.generation, desired.manifest)
            generation = max(generation, desired.generation)
        if len(self._generations) >= KNOWN:
            self._generations.clear()
        self._generations[dataset] = generation


def _settle(waiting: _Waiting, error: Exception | None) -> None:
    if waiting.kept.done():  # its handler was cancelled meanwhile
        return
    if error is None:
        waiting.kept.set_result(None)
    else:
        waiting.kept.set_exception(error)
