"""The core: one version in, a delivery to every destination, and the end of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from libs.common import manifest
from libs.common.crashpoints import crash_point
from libs.common.errors import PermanentError, TransientError
from libs.common.events import (
    DatasetDelivered,
    DatasetTransformed,
    Fact,
    Progress,
    RunChanged,
    Stage,
)
from libs.common.events import RunState as State
from libs.common.manifest.model import Destination as Wanted
from libs.warehouse import Warehouse
from services.sink.destinations import DESTINATIONS, Access, Order, Receipt, Rows
from services.sink.report import Report
from services.sink.watch import Lease, RunWatch


class Record(Protocol):
    """What the sink has to know of a run."""

    def changed(self) -> RunChanged: ...


R = TypeVar("R", bound=Record, covariant=True)
L = TypeVar("L", bound=AbstractAsyncContextManager[Lease], covariant=True)


class Runs(Protocol[R, L]):
    """Where runs live; the bus has them."""

    async def lease(self, run: str, owner: str, *, stage: Stage | None = None) -> L:
        """Raises for a run that has ended, was cancelled, or that somebody else works on."""

    async def finish(self, run: str, state: State, *, version: int | None = None) -> R: ...

    def watch_cancel(self, run: str) -> AbstractAsyncContextManager[asyncio.Event]: ...


class Outbox(Protocol):
    """Where facts go; the bus is one."""

    async def publish(self, fact: Fact) -> None: ...

    async def progress(self, p: Progress) -> None: ...


class Deliverer:
    """Brings versions to their destinations. Doing it twice is harmless."""

    def __init__(
        self,
        warehouse: Warehouse,
        runs: Runs[Record, AbstractAsyncContextManager[Lease]],
        outbox: Outbox,
        access: Access,
        owner: str,
    ) -> None:
        self._warehouse = warehouse
        self._runs = runs
        self._outbox = outbox
        self._access = access
        self._owner = owner

    async def deliver(self, fact: DatasetTransformed) -> None:
        """Brings the version everywhere its manifest says, then ends the run."""
        taken = await self._runs.lease(fact.run, self._owner, stage="sink")
        async with taken as lease, self._runs.watch_cancel(fact.run) as cancelled:
            watch = RunWatch(fact.run, lease, cancelled, self._knows(fact.dataset))
            try:
                receipts = await self._everywhere(fact, watch, lease.attempt)
            finally:
                watch.stop()  # a thread that outlives us, at a shutdown, switches nothing more
            await lease.check()
            await self._end(fact, receipts)

    async def _everywhere(
        self, fact: DatasetTransformed, watch: RunWatch, attempt: int
    ) -> list[Receipt]:
        """Tries every destination, whatever becomes of the others; then raises what failed."""
        wanted = await asyncio.to_thread(self._wanted, fact)
        if not wanted:
            return []
        reader = await asyncio.to_thread(self._warehouse.open, fact.dataset, fact.version)
        run_log = self._warehouse.log(fact.run_dir)
        report = Report(fact, attempt, run_log, self._outbox)
        receipts: list[Receipt] = []
        failures: list[PermanentError | TransientError] = []
        async with report.progress(watch, len(wanted) * reader.rows):
            for place, want in enumerate(wanted):
                path = f"spec.destination[{place}]"
                order = order_of(fact, want, path, attempt, reader.version.commit.run)
                try:
                    receipt = await asyncio.to_thread(self._bring, want, order, reader, watch)
                except (PermanentError, TransientError) as error:
                    await report.failed(order, error)
                    failures.append(error)
                else:
                    await report.done(order, receipt)
                    await self._tell(fact, want, receipt)
                    receipts.append(receipt)
                watch.rows = (place + 1) * reader.rows  # also where nothing had to be written
        raise_worst(failures)
        return receipts

    def _bring(self, want: Wanted, order: Order, rows: Rows, watch: RunWatch) -> Receipt:
        return DESTINATIONS.get(want.type).deliver(order, rows, self._access, watch)

    async def _tell(self, fact: DatasetTransformed, want: Wanted, receipt: Receipt) -> None:
        if receipt.superseded:
            return
        crash_point("sink_before_publish")
        await self._outbox.publish(
            DatasetDelivered(
                run=fact.run,
                dataset=fact.dataset,
                version=fact.version,
                destination=want.url,
                kind=want.type,
                format=receipt.format,
                files=receipt.files,
                rows=receipt.rows,
                bytes=receipt.bytes,
                manifest=receipt.manifest,
                unchanged=receipt.unchanged,
            )
        )

    async def _end(self, fact: DatasetTransformed, receipts: Sequence[Receipt]) -> None:
        crash_point("sink_before_end")
        state = end_state(fact, receipts)
        record = await self._runs.finish(fact.run, state, version=fact.version)
        await self._outbox.publish(record.changed())

    def _wanted(self, fact: DatasetTransformed) -> list[Wanted]:
        return manifest.parse(self._warehouse.read_manifest(fact.run_dir)).spec.destination

    def _knows(self, dataset: str) -> Callable[[int, str], bool]:
        def is_version(number: int, made_by: str) -> bool:
            found = self._warehouse.version(dataset, number)
            return found is not None and found.commit.run == made_by

        return is_version


def order_of(
    fact: DatasetTransformed, want: Wanted, path: str, attempt: int, made_by: str
) -> Order:
    """What a destination has to do."""
    return Order(
        dataset=fact.dataset,
        run=fact.run,
        attempt=attempt,
        version=fact.version,
        made_by=made_by,
        url=want.url,
        format=want.format,
        options=want.options,
        path=path,
    )


def end_state(fact: DatasetTransformed, receipts: Sequence[Receipt]) -> State:
    """`skipped` where neither the version nor any destination changed."""
    nothing_new = all(receipt.unchanged or receipt.superseded for receipt in receipts)
    return "skipped" if fact.unchanged and nothing_new else "succeeded"


def raise_worst(failures: Sequence[PermanentError | TransientError]) -> None:
    """What can still succeed comes first: the run is tried again for it before it fails."""
    transient = [error for error in failures if isinstance(error, TransientError)]
    for error in [*transient, *failures]:
        raise error
