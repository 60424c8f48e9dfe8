"""Ends the process when its event loop hangs: a hung service that looks alive helps nobody."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import structlog

EXIT_CODE = 70  # EX_SOFTWARE: the supervisor starts the service again
log = structlog.get_logger("oneblock.bus")

Fatal = Callable[[str], None]


def end_process(reason: str) -> NoReturn:
    """Say why, and be gone: nothing of what we hold is lost, the broker gives it to another."""
    log.critical("process_ended", reason=reason)
    sys.stderr.flush()
    os._exit(EXIT_CODE)


class Watchdog:
    """An OS thread that counts its own wake-ups without a beat of the event loop.

    Wake-ups, not seconds: a process that was stopped and continued (SIGSTOP, a laptop's lid)
    hasn't hung.
    """

    def __init__(self, limit: float, fatal: Fatal) -> None:
        self._limit = limit
        self._interval = min(1.0, limit / 10)
        self._fatal = fatal
        self._beats = 0
        self._stop = threading.Event()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the running event loop."""
        self._beating = asyncio.create_task(self._beat(), name="watchdog-beat")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    async def stop(self) -> None:
        self._stop.set()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])

    async def _beat(self) -> None:
        while True:
            self._beats += 1
            await asyncio.sleep(self._interval)

    def _watch(self) -> None:
        seen, missed = -1, 0
        while not self._stop.is_set():
            time.sleep(self._interval)
            missed = missed + 1 if self._beats == seen else 0
            seen = self._beats
            if missed * self._interval >= self._limit and not self._stop.is_set():
                faulthandler.dump_traceback(sys.__stderr__ or 2)
                self._fatal(f"the event loop has not run for {self._limit:g} s")
                return
