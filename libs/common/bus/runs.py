"""Runs: one active per dataset, one waiting behind it, each with exactly one end.

Every change is one compare-and-set, and every method may be called again after it was cut off
between any two of them: it then goes on where it stopped. Keys of the bucket `oneblock_runs`:
`run.<id>` the record, `active.<ns>.<name>` the slot, `lease.<id>` who works on it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from libs.common.bus import lease as leases
from libs.common.bus.bucket import Bucket, Entry
from libs.common.bus.faults import Conflict
from libs.common.bus.lease import Held, Lease, LeaseHeld
from libs.common.bus.records import Acceptance, RunEnded, RunRecord, Slot, now
from libs.common.bus.slots import Outcome, merged, place, unresolved
from libs.common.bus.specs import key_of
from libs.common.errors import Cancelled, PermanentError, TransientError
from libs.common.events import TERMINAL, ErrorInfo, RunState, Stage

HANDOVER = 1.0  # seconds that `lease` waits for the stage before to let go
CANCEL_POLL = 1.0  # seconds until a cancel is noticed, at most


class Runs:
    """All that is known about runs, and the rules by which they change."""

    def __init__(self, bucket: Bucket, lease_ttl: float = leases.TTL) -> None:
        self._bucket = bucket
        self._ttl = lease_ttl

    async def accept(self, run: RunRecord) -> Acceptance:
        """Give the run its place; see Acceptance for what comes back."""
        known = await self._remember(run)
        while True:
            if known.ended:
                again = known.state == "coalesced"
                return Acceptance("coalesced" if again else "duplicate", known, known.into)
            slot, revision = await self._slot(run.dataset)
            if known.cancel and known.id not in _inside(slot):
                known = await self.finish(known.id, "cancelled")
                continue
            alive = await self._without_ended(slot)
            wanted, outcome, into = place(alive, known, await self._has_ended(slot.run))
            if wanted == slot or await self._write_slot(wanted, revision):
                return await self._accepted(known.id, outcome, into)
            known = await self._known(run.id)

    async def get(self, run: str) -> RunRecord | None:
        """The run's record; None for a run nobody ever accepted."""
        return (await self._read(run))[0]

    async def claim(self, key: str, meaning: str) -> str:
        """What an idempotency key stands for: `meaning`, unless it was claimed before."""
        while True:
            if entry := await self._bucket.get(f"claim.{key}"):
                return entry.value.decode()
            with suppress(Conflict):
                await self._bucket.create(f"claim.{key}", meaning.encode())
                return meaning

    async def active(self) -> list[Slot]:
        """Every slot that some run holds: for the sweeper that looks for stuck ones."""
        entries = await self._bucket.entries("active.>")
        slots = [Slot.model_validate_json(entry.value) for _, entry in entries]
        return [slot for slot in slots if slot.run is not None]

    async def advance(self, run: str, stage: Stage) -> RunRecord:
        """Note that the run has come to `stage`; an ended run stays as it ended."""
        return await self._change(run, lambda record: record.evolve(stage=stage, state="running"))

    async def finish(
        self,
        run: str,
        state: RunState,
        *,
        error: ErrorInfo | None = None,
        version: int | None = None,
        into: str | None = None,
        stage: Stage | None = None,
    ) -> RunRecord:
        """End the run once; returns what stands, which may be another end that came first."""
        if state not in TERMINAL:
            raise ValueError(f"{state!r} is no end of a run; known: {', '.join(sorted(TERMINAL))}")

        def end(record: RunRecord) -> RunRecord:
            return record.evolve(
                state=state,
                error=error,
                version=version if version is not None else record.version,
                into=into,
                stage=stage or record.stage,
                finished_at=now(),
            )

        return await self._change(run, end)

    async def release(self, dataset: str, run: str) -> RunRecord | None:
        """Free the slot of `run` and put the waiting run into it; returns that one, to be started.

        Called again, it returns the same run until its sources are resolved.
        """
        while True:
            slot, revision = await self._slot(dataset)
            if slot.run != run:
                return await self._promoted(slot, run)
            following = await self._prepare(slot.pending) if slot.pending else None
            freed = Slot(dataset=dataset, run=following.id if following else None, after=run)
            if await self._write_slot(freed, revision):
                return following

    async def lease(self, run: str, owner: str, *, stage: Stage | None = None) -> Lease:
        """Take the run as its next attempt: `async with await runs.lease(…) as lease:`.

        Raises LeaseHeld (transient) while another attempt is alive, RunEnded, Cancelled.
        """
        record = await self._known(run)
        if record.ended:
            raise RunEnded(record)
        taken = await self._take_soon(record, owner)

        def begin(record: RunRecord) -> RunRecord:
            later = max(record.attempt, taken.attempt)
            return record.evolve(attempt=later, state="running", stage=stage or record.stage)

        # The lease was taken before the record is read: `cancel` does it the other way round, so
        # that one of the two sees the other.
        record = await self._change(run, begin)
        if record.ended or record.cancel:
            async with taken:
                raise RunEnded(record) if record.ended else Cancelled(run)
        return taken

    async def cancel(self, run: str) -> RunRecord | None:
        """Ask the run to stop; it ends here and now (`state`) unless somebody works on it."""
        if await self.get(run) is None:
            return None
        record = await self._change(run, lambda record: record.evolve(cancel=True))
        while not record.ended:
            slot, revision = await self._slot(record.dataset)
            if slot.pending is None or slot.pending.id != run:
                break
            if await self._write_slot(slot.evolve(pending=None), revision):
                break
        if record.ended or await self.held(run):
            return record
        return await self.finish(run, "cancelled")

    async def cancelled(self, run: str) -> bool:
        """Whether a person asked for the run to stop."""
        record = await self.get(run)
        return record is not None and (record.cancel or record.state == "cancelled")

    @asynccontextmanager
    async def watch_cancel(self, run: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set within about a second of somebody cancelling the run."""
        noticed = asyncio.Event()

        async def look() -> None:
            while not noticed.is_set():
                with suppress(TransientError):
                    if await self.cancelled(run):
                        noticed.set()
                await asyncio.sleep(CANCEL_POLL)

        looking = asyncio.create_task(look(), name=f"cancel-{run}")
        try:
            yield noticed
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def held(self, run: str) -> bool:
        """Whether somebody who is alive works on the run."""
        entry = await self._bucket.get(leases.key_of(run))
        return entry is not None and await self._remaining(entry) > 0

    async def _take_soon(self, record: RunRecord, owner: str) -> Lease:
        """A stage tells its fact a moment before it lets go of the run: wait for that moment."""
        deadline = time.monotonic() + HANDOVER
        pause = 0.01
        while True:
            try:
                return await self._take(record, owner)
            except LeaseHeld:
                if time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause *= 2

    async def _take(self, record: RunRecord, owner: str) -> Lease:
        entry = await self._bucket.get(leases.key_of(record.id))
        last = Held.model_validate_json(entry.value) if entry else None
        if entry and last and (remaining := await self._remaining(entry)) > 0:
            raise LeaseHeld(record.id, last.owner, remaining)
        held = Held(
            owner=owner,
            attempt=max(record.attempt, last.attempt if last else 0) + 1,
            token=secrets.token_hex(8),
            ttl=self._ttl,
        )
        value = held.model_dump_json().encode()
        try:
            revision = entry.revision if entry else 0
            revision = await self._bucket.update(leases.key_of(record.id), value, revision)
        except Conflict as error:
            raise LeaseHeld(record.id, "another attempt", 1.0) from error
        return Lease(self._bucket, record.id, held, revision)

    async def _remaining(self, entry: Entry) -> float:
        """Seconds for which the lease is still somebody's."""
        held = Held.model_validate_json(entry.value)
        if held.released:
            return 0.0
        age = (await self._bucket.clock() - entry.written).total_seconds()
        return held.ttl - age

    async def _accepted(self, run: str, outcome: Outcome, into: str | None) -> Acceptance:
        """The answer, once the slot says so; the run may have been cancelled meanwhile."""
        if into is not None:
            ended = await self.finish(run, "coalesced", into=into)
            return Acceptance("coalesced", ended, into)
        known = await self._known(run)
        if outcome == "active" and known.ended:
            following = await self.release(known.dataset, run)
            return Acceptance("active" if following else "duplicate", following or known)
        return Acceptance(outcome, known)

    async def _promoted(self, slot: Slot, run: str) -> RunRecord | None:
        """The run that an earlier, cut off `release` of `run` put into the slot."""
        if slot.after != run or slot.run is None:
            return None
        record = await self.get(slot.run)
        return record if record and not record.ended and unresolved(record) else None

    async def _prepare(self, waiting: RunRecord) -> RunRecord | None:
        """The waiting run with what was asked last; None when it has ended."""
        await self._remember(waiting)
        record = await self._change(waiting.id, lambda record: merged(record, waiting))
        return None if record.ended else record

    async def _without_ended(self, slot: Slot) -> Slot:
        """The slot, without a waiting run that has ended: nothing may be coalesced into it."""
        waiting = slot.pending
        return slot.evolve(pending=None) if waiting and await self._has_ended(waiting.id) else slot

    async def _has_ended(self, run: str | None) -> bool:
        record = await self.get(run) if run else None
        return record is not None and record.ended

    async def _remember(self, run: RunRecord) -> RunRecord:
        """The record under the run's id, written now if it isn't there."""
        while True:
            stored, _ = await self._read(run.id)
            if stored is not None:
                return stored
            with suppress(Conflict):
                await self._bucket.create(f"run.{run.id}", run.model_dump_json().encode())
                return run

    async def _known(self, run: str) -> RunRecord:
        record = await self.get(run)
        if record is None:
            raise PermanentError(f"no run {run!r} was ever accepted", code="run_unknown")
        return record

    async def _change(self, run: str, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
        """Compare-and-set until it holds; a run that has ended is left alone."""
        while True:
            record, revision = await self._read(run)
            if record is None:
                raise PermanentError(f"no run {run!r} was ever accepted", code="run_unknown")
            changed = record if record.ended else change(record)
            if changed == record:
                return record
            with suppress(Conflict):
                value = changed.model_dump_json().encode()
                await self._bucket.update(f"run.{run}", value, revision)
                return changed

    async def _read(self, run: str) -> tuple[RunRecord | None, int]:
        entry = await self._bucket.get(f"run.{run}")
        if entry is None:
            return None, 0
        return RunRecord.model_validate_json(entry.value), entry.revision

    async def _slot(self, dataset: str) -> tuple[Slot, int]:
        entry = await self._bucket.get(f"active.{key_of(dataset)}")
        if entry is None:
            return Slot(dataset=dataset), 0
        return Slot.model_validate_json(entry.value), entry.revision

    async def _write_slot(self, slot: Slot, revision: int) -> bool:
        key, value = f"active.{key_of(slot.dataset)}", slot.model_dump_json().encode()
        try:
            await self._bucket.update(key, value, revision)
        except Conflict:
            return False
        return True


def _inside(slot: Slot) -> tuple[str | None, str | None]:
    return slot.run, slot.pending.id if slot.pending else None
