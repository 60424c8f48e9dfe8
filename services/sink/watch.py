"""The eye on a delivery that runs in a thread: progress out, reasons to stop in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from libs.common.errors import Cancelled, LeaseLost, TransientError

FENCE_SECONDS = 30.0  # for the question whether the lease is still ours


class Lease(Protocol):
    """That this process, and no other, works on the run."""

    @property
    def attempt(self) -> int: ...

    @property
    def lost(self) -> asyncio.Event: ...

    async def check(self) -> None:
        """Raises LeaseLost when somebody else took over."""


class RunWatch:
    """One run's; made on the event loop, used from the delivering thread."""

    def __init__(
        self,
        run: str,
        lease: Lease,
        cancelled: asyncio.Event,
        is_version: Callable[[int, str], bool],
    ) -> None:
        self._run = run
        self._lease = lease
        self._cancelled = cancelled
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self.is_version = is_version
        self.rows = self.bytes = self.files = 0  # done so far, over all destinations

    def wrote(self, rows: int, bytes: int, files: int = 0) -> None:
        self.rows += rows
        self.bytes += bytes
        self.files += files
        self.proceed()

    def proceed(self) -> None:
        """Raises what stands against going on."""
        if self._stopped.is_set():
            raise TransientError("the sink is stopping", code="stopping")
        if self._lease.lost.is_set():
            raise LeaseLost(self._run)
        if self._cancelled.is_set():
            raise Cancelled(self._run)

    def fence(self) -> None:
        self.proceed()
        answer = asyncio.run_coroutine_threadsafe(self._lease.check(), self._loop)
        try:
            answer.result(FENCE_SECONDS)
        except TimeoutError as error:
            answer.cancel()
            raise TransientError(
                "whether the run is still ours could not be asked", code="bus_unavailable"
            ) from error
        self.proceed()

    def stop(self) -> None:
        """The thread ends at its next step, and nothing is switched any more."""
        self._stopped.set()
