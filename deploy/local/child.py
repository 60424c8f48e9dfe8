"""One supervised process: started, watched, started again when it dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.local import process

State = Literal["waiting", "starting", "ready", "degraded", "restarting", "stopped"]
Probe = Callable[[], Awaitable[str | None]]  # None: ready; else what is missing

STEADY = 60.0  # seconds of life after which an earlier death doesn't count any more
LONGEST = 30.0  # seconds between two starts at most


@dataclass(frozen=True)
class Spec:
    """What to run and how to tell that it works."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    probe: Probe
    url: str = ""
    niceness: int = 0
    patience: float = 28.0  # seconds that it gets to stop


def backoff(deaths: int) -> float:
    """Seconds to wait before the next start, after so many deaths in a row."""
    return float(min(0.25 * 2 ** (deaths - 1), LONGEST))


@dataclass
class Child:
    """A process by its spec; `tell` says to a person what happens, `changed` that state did."""

    spec: Spec
    tell: Callable[[str], None]
    changed: Callable[[], None]
    state: State = "waiting"
    detail: str = ""
    pid: int | None = None
    restarts: int = 0
    answered: bool = False  # at least once
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _task: asyncio.Task[None] | None = None
    _deaths: int = 0

    def start(self) -> None:
        """Begins to supervise; call once."""
        self._task = asyncio.create_task(self._supervise(), name=self.spec.name)

    async def stop(self) -> None:
        """Ends the process within its patience; nothing starts it again."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._process is not None and not await process.end(self._process, self.spec.patience):
            self.tell(f"{self.spec.name} did not stop within {self.spec.patience:g} s: killed")
        await self._clear()
        self.pid = None
        self._become("stopped")

    def kill(self) -> None:
        """At once, for people who can't wait."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def described(self) -> dict[str, object]:
        """For `state.json`."""
        return {
            "pid": self.pid,
            "state": self.state,
            "restarts": self.restarts,
            "url": self.spec.url,
            "detail": self.detail,
            "log": str(self.spec.log),
        }

    async def _supervise(self) -> None:
        while True:
            begun = time.monotonic()
            process.rotate(self.spec.log)
            self._process = running = await process.start(
                self.spec.command, self.spec.env, self.spec.log, self.spec.cwd, self.spec.niceness
            )
            self.pid = running.pid
            self._become("starting")
            watch = asyncio.create_task(self._watch())
            try:
                code = await running.wait()
            finally:
                watch.cancel()
            await self._clear()
            self._deaths = 1 if time.monotonic() - begun > STEADY else self._deaths + 1
            await self._rest(code)

    async def _rest(self, code: int) -> None:
        """Between a death and the next start."""
        seconds = backoff(self._deaths)
        why = process.how_it_ended(code)
        last = process.last_line(self.spec.log)
        self.pid = None
        self.ready.clear()
        self.restarts += 1
        self._become("restarting", f"{why}; last line of its log: {last}" if last else why)
        self.tell(
            f"{self.spec.name} ended ({why}); starting it again in {seconds:g} s; "
            f"log: {self.spec.log}" + (f"\n    {last}" if last and code > 0 else "")
        )
        await asyncio.sleep(seconds)

    async def _watch(self) -> None:
        """Asks whether it works: often until it does, then now and again."""
        begun = time.monotonic()
        while True:
            missing = await self.spec.probe()
            if missing is None and self.state != "ready":
                self.answered = True
                self.ready.set()
                took = time.monotonic() - begun
                self.tell(f"{self.spec.name} is ready after {took:.1f} s  {self.spec.url}")
                self._become("ready")
            elif missing is not None and self.state in ("ready", "degraded"):
                self._become("degraded", missing)
            elif missing is not None:
                self.detail = missing
            process.rotate(self.spec.log)
            await asyncio.sleep(2.0 if self.state == "ready" else 0.05)

    async def _clear(self) -> None:
        """What it started must not work on without it."""
        stack = self.spec.env.get(process.STACK, "")
        await asyncio.to_thread(process.clear, stack, self.spec.name)

    def _become(self, state: State, detail: str = "") -> None:
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self.changed()
