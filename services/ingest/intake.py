"""The core: a request becomes a run, a run becomes an inventory; every step may happen twice."""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

import structlog

from libs.common import manifest, metrics
from libs.common.bus.fate import charged
from libs.common.bus.records import Acceptance, Desired, RunRecord, Slot
from libs.common.crashpoints import crash_point
from libs.common.errors import Cancelled, OneBlockError
from libs.common.events import (
    TERMINAL,
    CancelRequested,
    Fact,
    IngestRequested,
    RunChanged,
    SourceResolved,
    Stage,
)
from libs.common.ids import digest, run_id
from libs.common.logs import about
from libs.common.manifest import DataSet, ManifestError
from libs.stores import Access
from libs.warehouse import RunDirs, Summary
from services.ingest import inventory

log = structlog.get_logger()
CANCEL_POLL = 2.0  # seconds between two looks whether a listing is still wanted


class Specs(Protocol):
    """What every dataset is to be; the bus has them."""

    async def put(self, dataset: DataSet) -> Desired: ...


class Runs(Protocol):
    """Where runs live; the bus has them."""

    async def get(self, run: str) -> RunRecord | None: ...
    async def accept(self, run: RunRecord) -> Acceptance: ...
    async def advance(self, run: str, stage: Stage) -> RunRecord: ...
    async def release(self, dataset: str, run: str) -> RunRecord | None: ...
    async def cancel(self, run: str) -> RunRecord | None: ...
    async def active(self) -> list[Slot]: ...


class World(Protocol):
    """Specs and runs, and where facts go; the bus is one."""

    @property
    def specs(self) -> Specs: ...
    @property
    def runs(self) -> Runs: ...
    async def publish(self, fact: Fact) -> None: ...
    async def fail(self, run: str, error: OneBlockError) -> RunRecord: ...


def request_id(fact: IngestRequested, dataset: str, event_id: str) -> str:
    """Which request this is: by its idempotency key, else by the event that brought it."""
    return digest([dataset, fact.key]) if fact.key else event_id


class Intake:
    """Handles requests, cancels, and the ends of runs; keeps nothing between two messages."""

    def __init__(self, world: World, warehouse: RunDirs, access: Access) -> None:
        self._world = world
        self._warehouse = warehouse
        self._access = access
        self._busy: set[str] = set()

    def busy(self, run: str) -> bool:
        """Whether this process is resolving the run's sources at this moment."""
        return run in self._busy

    async def requested(self, fact: IngestRequested, event_id: str) -> None:
        """A request → its run: active, waiting, or known already. ManifestError: a dead letter."""
        dataset = manifest.parse(fact.manifest)
        if problems := manifest.unsupported(dataset):
            raise ManifestError(problems)
        asked = request_id(fact, dataset.dataset, event_id)
        with about(run=run_id(asked), dataset=dataset.dataset), charged(run_id(asked)):
            accepted = await self._world.runs.accept(await self._record(fact, dataset, asked))
            log.info("run_accepted", outcome=accepted.outcome, into=accepted.into)
        with charged(accepted.run.id):
            await self._follow(accepted)

    async def cancel(self, fact: CancelRequested) -> None:
        """A run that nobody works on ends here; whoever works on it notices and ends it."""
        record = await self._world.runs.cancel(fact.run)
        if record is None:
            log.warning("cancel_of_unknown_run", run=fact.run)
        elif record.ended:
            await self._world.publish(record.changed())

    async def changed(self, fact: RunChanged) -> None:
        """The end of a run makes place for the one that waits."""
        if fact.state not in TERMINAL:
            return
        following = await self._world.runs.release(fact.dataset, fact.run)
        if following is not None:
            await self.start(following)

    async def start(self, run: RunRecord) -> None:
        """Resolve the sources of the active run and hand it on; whatever fails here fails it."""
        with about(run=run.id, dataset=run.dataset), charged(run.id):
            if await self._over(run.id):
                return
            run_dir = self._warehouse.run_dir(run.dataset, run.id)
            self._busy.add(run.id)
            try:
                found = await self._prepare(run, run_dir)
            finally:
                self._busy.discard(run.id)
            metrics.FILES.labels("ingest").inc(found.files)
            crash_point("before_resolved")
            await self._world.publish(_resolved(run, run_dir, found))
            await self._world.runs.advance(run.id, "transform")
            log.info("source_resolved", files=found.files, bytes=found.bytes, digest=found.digest)
            crash_point("after_resolved_before_ack")

    async def _record(self, fact: IngestRequested, dataset: DataSet, asked: str) -> RunRecord:
        """The run as it was accepted the first time, else with the spec's generation of now.

        A request that comes again, long after, must not set the spec back to what it says.
        """
        known = await self._world.runs.get(run_id(asked))
        if known is not None:
            return known
        desired = await self._world.specs.put(dataset)
        crash_point("after_spec_put")
        return RunRecord(
            id=run_id(asked),
            dataset=dataset.dataset,
            generation=desired.generation,
            cause=fact.cause,
            force=fact.force,
            request_id=asked,
            manifest=desired.manifest,
            base=fact.base,
            stage="accept",
        )

    async def _follow(self, accepted: Acceptance) -> None:
        """Tell what became of the request; an end is told again, should it not have been."""
        crash_point("after_slot")
        if accepted.outcome != "duplicate" or accepted.run.ended:
            await self._world.publish(accepted.run.changed())
        if accepted.outcome == "active":
            await self.start(accepted.run)

    async def _over(self, run: str) -> bool:
        """Whether there is nothing to do any more: the run has ended, or ends as cancelled."""
        record = await self._world.runs.get(run)
        if record is not None and record.cancel and not record.ended:
            raise Cancelled(run)
        return record is None or record.ended

    async def _prepare(self, run: RunRecord, run_dir: str) -> Summary:
        """The run's files, in a thread; a cancel ends it within seconds."""
        gone = threading.Event()

        def stop() -> None:
            if gone.is_set():
                raise Cancelled(run.id)

        working = asyncio.create_task(
            asyncio.to_thread(
                inventory.prepare, run.manifest, self._access, self._warehouse, run_dir, stop
            )
        )
        try:
            while not (await asyncio.wait([working], timeout=CANCEL_POLL))[0]:
                if await self._over(run.id):
                    gone.set()
        finally:
            gone.set()
            await asyncio.wait([working])
        return working.result()


def _resolved(run: RunRecord, run_dir: str, found: Summary) -> SourceResolved:
    return SourceResolved(
        run=run.id,
        dataset=run.dataset,
        generation=run.generation,
        cause=run.cause,
        force=run.force,
        run_dir=run_dir,
        digest=found.digest,
        files=found.files,
        bytes=found.bytes,
    )
