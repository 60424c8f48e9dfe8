"""What people see of a delivery: lines in the run's log and the service's, and progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import structlog

from libs.common import metrics
from libs.common.errors import OneBlockError
from libs.common.events import DatasetTransformed, Progress
from libs.warehouse import RunLog
from services.sink.destinations import Order, Receipt
from services.sink.watch import RunWatch

PROGRESS_SECONDS = 0.25
log = structlog.get_logger()


class Listeners(Protocol):
    """Whoever listens to progress; the bus carries it."""

    async def progress(self, p: Progress) -> None: ...


class Report:
    """One attempt's."""

    def __init__(
        self, fact: DatasetTransformed, attempt: int, run_log: RunLog, listeners: Listeners
    ) -> None:
        self._fact = fact
        self._attempt = attempt
        self._run_log = run_log
        self._listeners = listeners

    async def done(self, order: Order, receipt: Receipt) -> None:
        """A destination has its version; or something newer, that stays."""
        event = "superseded" if receipt.superseded else "delivered"
        await self._line(
            "already_there" if receipt.unchanged else event,
            destination=order.url,
            version=order.version,
            files=receipt.files,
            rows=receipt.rows,
            bytes=receipt.bytes,
        )
        if receipt.kept:
            names = ", ".join(receipt.kept)
            await self._line("files_set_aside", "warning", destination=order.url, names=names)
        if not receipt.unchanged and not receipt.superseded:
            metrics.ROWS.labels("sink").inc(receipt.rows)
            metrics.BYTES.labels("sink").inc(receipt.bytes)
            metrics.FILES.labels("sink").inc(receipt.files)

    async def failed(self, order: Order, error: OneBlockError) -> None:
        """A destination refused; the others are tried all the same."""
        await self._line(
            "delivery_failed",
            "error",
            destination=order.url,
            version=order.version,
            code=error.code,
            detail=error.detail,
        )

    @asynccontextmanager
    async def progress(self, watch: RunWatch, total: int) -> AsyncIterator[None]:
        """Tells rows done of `total`, a few times a second and once at the end."""
        ticking = asyncio.create_task(self._tick(watch, total))
        try:
            yield
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])
            await self._tell(watch, total)

    async def _tick(self, watch: RunWatch, total: int) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            await self._tell(watch, total)

    async def _tell(self, watch: RunWatch, total: int) -> None:
        await self._listeners.progress(
            Progress(
                run=self._fact.run,
                dataset=self._fact.dataset,
                stage="sink",
                attempt=self._attempt,
                rows=watch.rows,
                bytes=watch.bytes,
                files=watch.files,
                done=watch.rows,
                total=total,
                at=datetime.now(UTC),
            )
        )

    async def _line(self, event: str, level: str = "info", **fields: str | int) -> None:
        getattr(log, level)(event, dataset=self._fact.dataset, **fields)

        def append() -> None:
            self._run_log.append("sink", self._attempt, event, level=level, **fields)

        await asyncio.to_thread(append)
