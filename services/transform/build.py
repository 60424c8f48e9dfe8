"""The core: a complete inventory in, a committed version out, once per run whatever happens."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from libs.common import manifest, metrics
from libs.common.crashpoints import crash_point
from libs.common.errors import TransientError
from libs.common.events import DatasetTransformed, Fact, Progress, SourceResolved, Stage
from libs.common.manifest import DataSet
from libs.formats import SourceFile
from libs.stores import Pin
from libs.warehouse import Commit, InventoryFile, Version, Warehouse
from libs.warehouse.quarantine import quarantine_of
from services.transform.driver import Output
from services.transform.engines import Engine, Stop
from services.transform.plan import EngineName, Plan, Sizes, make_plan
from services.transform.report import Report
from services.transform.tasks import load_schema

FENCE_SECONDS = 30.0  # for the question whether the lease is still ours


class Lease(Protocol):
    """That this process, and no other, works on the run."""

    @property
    def attempt(self) -> int: ...
    @property
    def lost(self) -> asyncio.Event: ...
    async def check(self) -> None:
        """Raises LeaseLost when somebody else took over."""


class Runs(Protocol):
    """Where runs live; the bus has them."""

    async def lease(
        self, run: str, owner: str, *, stage: Stage | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """Raises for a run that has ended, was cancelled, or that somebody else works on."""

    def watch_cancel(self, run: str) -> AbstractAsyncContextManager[asyncio.Event]: ...


class Outbox(Protocol):
    """Where facts go; the bus is one."""

    async def publish(self, fact: Fact) -> None: ...
    async def progress(self, p: Progress) -> None: ...


@dataclass(frozen=True)
class Workshop:
    """What building needs, wired once."""

    warehouse: Warehouse
    runs: Runs
    outbox: Outbox
    engines: Mapping[EngineName, Engine]
    threads: Executor  # one for each run that may be under way
    sizes: Sizes
    owner: str


async def build(fact: SourceResolved, shop: Workshop) -> None:
    """Makes the version that the run asks for, or finds it made, and tells it."""
    taken = await shop.runs.lease(fact.run, shop.owner, stage="transform")
    async with taken as lease, shop.runs.watch_cancel(fact.run) as cancelled:
        crash_point("after_lease")
        run_log = await asyncio.to_thread(shop.warehouse.log, fact.run_dir)
        report = Report(fact, lease.attempt, run_log, shop.outbox)
        async with report.attempt():
            told = await _Attempt(fact, shop, lease, cancelled, report).version()
            await lease.check()
            crash_point("before_publish")
            await shop.outbox.publish(told)


class _Attempt:
    """One attempt at one run."""

    def __init__(
        self,
        fact: SourceResolved,
        shop: Workshop,
        lease: Lease,
        cancelled: asyncio.Event,
        report: Report,
    ) -> None:
        self._fact, self._shop, self._lease, self._report = fact, shop, lease, report
        self._cancelled = cancelled
        self._loop = asyncio.get_running_loop()

    async def version(self) -> DatasetTransformed:
        """What to tell: the version this run made, now or before, or the one that still holds."""
        made = await asyncio.to_thread(self._shop.warehouse.committed, *self._names)
        if made is not None:
            await self._report.line("already_committed", version=made.number)
            return await self._told(made)
        wanted, current = await asyncio.to_thread(self._read)
        if current is not None and self._unchanged(wanted, current):
            await self._report.line("unchanged", version=current.number)
            return await self._told(current, unchanged=True)
        return await self._told(await self._make(wanted))

    @property
    def _names(self) -> tuple[str, str]:
        return self._fact.dataset, self._fact.run

    def _read(self) -> tuple[DataSet, Version | None]:
        house = self._shop.warehouse
        house.begin(self._fact.dataset)
        wanted = manifest.parse(house.read_manifest(self._fact.run_dir))
        return wanted, house.version(self._fact.dataset)

    def _unchanged(self, wanted: DataSet, current: Version) -> bool:
        same_files = current.commit.inventory_digest == self._fact.digest
        same_plan = current.commit.plan_digest == manifest.plan_digest(wanted)
        return same_files and same_plan and not self._fact.force

    async def _make(self, wanted: DataSet) -> Version:
        plan = await asyncio.to_thread(self._plan, wanted)
        await self._report.line(
            "planned", engine=plan.engine, files=self._fact.files, bytes=self._fact.bytes
        )
        began = time.monotonic()
        littered = await asyncio.to_thread(self._mark)
        output = await self._run(plan)
        version = await asyncio.to_thread(self._commit, wanted, plan, output)
        await asyncio.to_thread(self._tidy, littered)
        metrics.ROWS.labels("transform").inc(output.rows)
        metrics.BYTES.labels("transform").inc(self._fact.bytes)
        metrics.FILES.labels("transform").inc(self._fact.files)
        await self._report.line(
            "committed",
            version=version.number,
            rows=output.rows,
            bad_rows=output.bad_rows,
            bad_files=output.bad_files,
            seconds=round(time.monotonic() - began, 3),
        )
        return version

    @property
    def _mark_file(self) -> Path:
        return self._shop.warehouse.path(f"{self._fact.dataset}.runs/.writing")

    def _mark(self) -> bool:
        """Notes that workers write; True when an earlier attempt, or run, never got to its end."""
        try:
            self._mark_file.touch(exist_ok=False)
        except FileExistsError:
            return True
        return False

    def _tidy(self, littered: bool) -> None:
        """Under the lease and with nobody writing: what earlier ones left behind goes."""
        if littered:
            self._shop.warehouse.sweep(self._fact.dataset)
        for stage in self._shop.warehouse.path(self._fact.run_dir).glob("stage-*"):
            shutil.rmtree(stage, ignore_errors=True)
        self._mark_file.unlink(missing_ok=True)

    def _plan(self, wanted: DataSet) -> Plan:
        house, fact = self._shop.warehouse, self._fact
        files = map(pinned, house.inventory(fact.run_dir))
        return make_plan(
            wanted,
            files,
            run=fact.run,
            attempt=self._lease.attempt,
            target=house.dataset_uri(fact.dataset),
            stage=str(house.path(fact.run_dir) / f"stage-{self._lease.attempt}"),
            quarantine=str(house.path(quarantine_of(fact.run_dir, self._lease.attempt))),
            sizes=self._shop.sizes,
            workers={name: engine.workers for name, engine in self._shop.engines.items()},
        )

    async def _run(self, plan: Plan) -> Output:
        stop = Stop(plan.run)
        watching = asyncio.create_task(self._watch(stop))
        try:
            async with self._report.progress() as report:
                return await self._loop.run_in_executor(
                    self._shop.threads, self._shop.engines[plan.engine].run, plan, report, stop
                )
        finally:
            stop.set("stopping")  # a thread that outlives us leaves the run at its next look
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, stop: Stop) -> None:
        lost = asyncio.create_task(self._lease.lost.wait())
        cancelled = asyncio.create_task(self._cancelled.wait())
        try:
            await asyncio.wait([lost, cancelled], return_when=asyncio.FIRST_COMPLETED)
            stop.set("lost" if lost.done() else "cancelled")
        finally:
            lost.cancel()
            cancelled.cancel()

    def _commit(self, wanted: DataSet, plan: Plan, output: Output) -> Version:
        fact = self._fact
        commit = Commit(
            run=fact.run,
            run_dir=fact.run_dir,
            attempt=self._lease.attempt,
            plan_digest=manifest.plan_digest(wanted),
            inventory_digest=fact.digest,
            engine=plan.engine,
            rows=output.rows,
            bytes=output.bytes,
            bad_rows=output.bad_rows,
            bad_files=output.bad_files,
        )
        schema = load_schema(output.schema_)
        return self._shop.warehouse.commit(
            fact.dataset, output.fragments, schema, commit, self._fence
        )

    def _fence(self) -> None:
        """From a thread: raises LeaseLost, or TransientError where nobody can say."""
        answer = asyncio.run_coroutine_threadsafe(self._lease.check(), self._loop)
        try:
            answer.result(FENCE_SECONDS)
        except TimeoutError as error:
            answer.cancel()
            raise TransientError(
                "whether the run is still ours could not be asked", code="bus_unavailable"
            ) from error

    async def _told(self, version: Version, *, unchanged: bool = False) -> DatasetTransformed:
        reader = await asyncio.to_thread(
            self._shop.warehouse.open, self._fact.dataset, version.number
        )
        return DatasetTransformed(
            run=self._fact.run,
            dataset=self._fact.dataset,
            generation=self._fact.generation,
            cause=self._fact.cause,
            run_dir=self._fact.run_dir,
            version=version.number,
            rows=version.commit.rows,
            bytes=version.commit.bytes,
            columns=tuple((f.name, str(f.type)) for f in reader.user_schema),
            engine=version.commit.engine,
            unchanged=unchanged,
            bad_rows=version.commit.bad_rows,
            bad_files=version.commit.bad_files,
        )


def pinned(file: InventoryFile) -> SourceFile:
    """The file in the state that was listed, as far as its store can give just that."""
    pin = Pin(file.etag, file.size, file.version_id)
    return SourceFile(file.uri, file.path, file.size, pin.text())
