"""What people see of a run: lines in its log and the service's, and progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import structlog

from libs.common.errors import OneBlockError
from libs.common.events import Progress, SourceResolved
from libs.warehouse import RunLog
from services.transform.driver import Done
from services.transform.driver import Report as Listener

EVERY = 0.25  # seconds between two messages of progress, at least
log = structlog.get_logger("oneblock.transform")


class Listeners(Protocol):
    """Whoever listens to progress; the bus carries it."""

    async def progress(self, p: Progress) -> None: ...


class Report:
    """One attempt's."""

    def __init__(
        self, fact: SourceResolved, attempt: int, run_log: RunLog, listeners: Listeners
    ) -> None:
        self._fact, self._attempt = fact, attempt
        self._run_log, self._listeners = run_log, listeners
        self._done = Done(files=fact.files)
        self._told: Done | None = None

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Says in the run's log when the attempt begins, and why it failed."""
        await self.line("attempt_started")
        try:
            yield
        except OneBlockError as error:
            await self.line("attempt_failed", "error", code=error.code, detail=error.detail)
            raise
        except Exception as error:
            await self.line("attempt_failed", "error", code="internal_error", detail=str(error))
            raise

    @asynccontextmanager
    async def progress(self) -> AsyncIterator[Listener]:
        """A function for the engine's thread; what it says is told a few times a second."""
        ticking = asyncio.create_task(self._tick())
        try:
            yield self._heard
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])
            await self._tell()

    async def line(
        self, event: str, level: str = "info", **fields: str | int | float | None
    ) -> None:
        """One line, in both logs."""
        getattr(log, level)(event, dataset=self._fact.dataset, attempt=self._attempt, **fields)
        await asyncio.to_thread(self._append, event, level, fields)

    def _append(self, event: str, level: str, fields: dict[str, str | int | float | None]) -> None:
        self._run_log.append("transform", self._attempt, event, level=level, **fields)

    def _heard(self, done: Done) -> None:
        self._done = done

    async def _tick(self) -> None:
        while True:
            await self._tell()
            await asyncio.sleep(EVERY)

    async def _tell(self) -> None:
        if self._done == self._told:
            return
        self._told = self._done
        await self._listeners.progress(
            Progress(
                run=self._fact.run,
                dataset=self._fact.dataset,
                stage="transform",
                attempt=self._attempt,
                rows=self._told.rows,
                bytes=self._told.bytes,
                files=self._told.files,
                done=self._told.done,
                total=self._told.total,
                at=datetime.now(UTC),
            )
        )
