"""Engines, one file each: where a plan's driver runs, and what runs its tasks in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, Protocol

from libs.common.errors import Cancelled, LeaseLost, TransientError
from libs.common.registry import Registry
from services.transform.driver import Output, Report
from services.transform.plan import Plan
from services.transform.settings import Settings

Reason = Literal["cancelled", "lost", "stopping"]


class Stop:
    """Tells an engine's thread to leave a run, and why. The first reason stands."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._event = threading.Event()
        self.reason: Reason | None = None

    def set(self, reason: Reason) -> None:
        self.reason = self.reason or reason
        self._event.set()

    def wait(self, seconds: float) -> None:
        """Sleeps, but not through a stop. Raises as `check` does."""
        self._event.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raises Cancelled, LeaseLost or TransientError once the run is to be left."""
        if self.reason == "cancelled":
            raise Cancelled(self._run)
        if self.reason == "lost":
            raise LeaseLost(self._run)
        if self.reason == "stopping":
            raise TransientError("the service is stopping", code="stopping")


class Engine(Protocol):
    """Runs plans. Blocks: call it off the event loop; several runs may be under way at once."""

    workers: int  # tasks that can run at once, about

    def start(self) -> None:
        """Begins to get ready, in the background."""

    def run(self, plan: Plan, report: Report, stop: Stop) -> Output:
        """Raises what `driver.execute` raises, what `stop` says, TransientError without workers.

        After a stop for another reason than `cancelled` a run may go on elsewhere: it is found
        again by its id.
        """

    def stop(self) -> None:
        """Ends what was started, within seconds."""


ENGINES: Registry[Callable[[Settings], Engine]] = Registry(
    "services.transform.engines", lambda: list(__path__), noun="engine"
)
