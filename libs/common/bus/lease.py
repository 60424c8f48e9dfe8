"""A lease on a run: one attempt works on it, whoever can't renew it has lost it.

Times are the server's: a lease has expired when its key wasn't written for its ttl. Nobody's own
clock decides anything, and an attempt that was frozen learns from `check` that it was overtaken.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog

from libs.common.bus.bucket import Bucket, Entry
from libs.common.bus.faults import Conflict
from libs.common.bus.records import Record
from libs.common.errors import LeaseLost, TransientError

TTL = 30.0  # seconds
log = structlog.get_logger("oneblock.bus")


class Held(Record):
    """What the lease's key says."""

    owner: str
    attempt: int
    token: str  # tells this taking of the lease from any other, also by the same owner
    ttl: float = TTL
    released: bool = False


class LeaseHeld(TransientError):
    """Somebody else who is alive works on this run."""

    def __init__(self, run: str, owner: str, retry_after: float) -> None:
        super().__init__(f"run {run} is being worked on by {owner}", code="lease_held")
        self.retry_after = retry_after  # seconds until it can have expired


def key_of(run: str) -> str:
    return f"lease.{run}"


class Lease:
    """Async context manager: renews in the background, gives the lease back at the end.

    An exception that leaves the block of a lease that was lost becomes LeaseLost: it says nothing
    about the run any more.
    """

    def __init__(self, bucket: Bucket, run: str, held: Held, revision: int) -> None:
        self.run = run
        self.attempt = held.attempt
        self.lost = asyncio.Event()
        self._bucket = bucket
        self._held = held
        self._revision = revision
        self._renewed = time.monotonic()
        self._one_at_a_time = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.create_task(self._keep(), name=f"lease-{self.run}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        await self._release()
        if isinstance(error, Exception) and not isinstance(error, LeaseLost) and self.lost.is_set():
            raise LeaseLost(self.run) from error

    async def check(self) -> None:
        """Prove that the lease is still ours, by renewing it; call last before a commit.

        Raises LeaseLost; TransientError when the server can't be asked, which is no proof either.
        """
        if not self.lost.is_set():
            await self._renew()
        if self.lost.is_set():
            raise LeaseLost(self.run)

    async def _keep(self) -> None:
        while not self.lost.is_set():
            await asyncio.sleep(self._held.ttl / 3)
            try:
                async with asyncio.timeout(self._renewed + self._held.ttl - time.monotonic()):
                    await self._renew_patiently()
            except TimeoutError:
                self.lost.set()
            except Exception:
                log.exception("lease_not_renewed", run=self.run)
                self.lost.set()

    async def _renew_patiently(self) -> None:
        while True:
            try:
                return await self._renew()
            except TransientError:
                await asyncio.sleep(min(1.0, self._held.ttl / 10))

    async def _renew(self) -> None:
        asked = time.monotonic()
        if await self._write(self._held):
            self._renewed = asked

    async def _release(self) -> None:
        if not self.lost.is_set():
            with suppress(TransientError):
                await self._write(self._held.evolve(released=True))

    async def _write(self, held: Held) -> bool:
        """Write over what we wrote last; when somebody else wrote meanwhile, it is lost."""
        async with self._one_at_a_time:
            while not self.lost.is_set():
                try:
                    value = held.model_dump_json().encode()
                    self._revision = await self._bucket.update(
                        key_of(self.run), value, self._revision
                    )
                    return True
                except Conflict:
                    await self._adopt(await self._bucket.get(key_of(self.run)))
            return False

    async def _adopt(self, entry: Entry | None) -> None:
        """Go on from a write of ours whose answer was lost; anything else means it is lost."""
        if entry is not None and Held.model_validate_json(entry.value).token == self._held.token:
            self._revision = entry.revision
        else:
            self.lost.set()
