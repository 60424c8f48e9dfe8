"""Runs a whole stack in the right order, says what happens, and stops all of it."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from oneblock.errors import OneBlockError

from deploy.local import parts
from deploy.local.child import Child, Spec
from deploy.local.options import Options

Tell = Callable[[str], None]
NATS_PATIENCE = 20.0  # seconds until the broker must answer


class Supervisor:
    """One stack; `run` returns when it has been stopped."""

    def __init__(self, options: Options, tell: Tell) -> None:
        self._options = options
        self._tell = tell
        self._begun = time.monotonic()
        self._started_at = datetime.now(UTC).isoformat()
        self._stopping = asyncio.Event()
        self._was_ready = False
        self.children: dict[str, Child] = {}

    async def run(self) -> None:
        """Starts everything, then waits for SIGTERM or Ctrl-C; a second one kills."""
        with self._signals(), self._reaper():
            try:
                await self._until_stopped(self._start())
                await self._stopping.wait()
            finally:
                await self._stop()

    async def _until_stopped(self, work: object) -> None:
        """Waits for the start, but not beyond a wish to stop."""
        starting = asyncio.ensure_future(work)  # type: ignore[call-overload]
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return
        starting.result()

    async def _start(self) -> None:
        """What people wait for comes first: two cores import only two things at a time."""
        options = self._options
        self._tell(f"starting the stack in {options.home.path}")
        ahead = asyncio.create_task(
            asyncio.to_thread(importlib.import_module, "libs.common.bus.admin")
        )
        await self._start_nats()
        ingest = self._add(parts.service(options, "ingest"))  # longer in importing than we are
        if changes := await (await ahead).migrate(options.nats_url, ack_wait=options.takeover):
            self._tell(f"nats is set up: {len(changes)} streams, consumers and buckets changed")
        catalog = self._add(parts.service(options, "catalog"))
        await ingest.ready.wait()
        self._tell(f"requests are accepted after {time.monotonic() - self._begun:.1f} s")
        for name in ("transform", "sink"):
            self._add(parts.service(options, name))
        await catalog.ready.wait()
        if options.ray:
            self._add(parts.ray(options))
            self._tell("ray is starting; until then the local lane does the work")
        await asyncio.gather(*(child.ready.wait() for child in self.children.values()))

    async def _start_nats(self) -> None:
        child = self._add(parts.nats(self._options))
        try:
            await asyncio.wait_for(child.ready.wait(), NATS_PATIENCE)
        except TimeoutError:
            raise OneBlockError(
                f"nats-server does not answer after {NATS_PATIENCE:g} s: {child.detail}",
                hint=f"its log is {child.spec.log}",
            ) from None

    def _add(self, spec: Spec) -> Child:
        child = Child(spec, self._tell, self._changed)
        self.children[spec.name] = child
        child.start()
        return child

    async def _stop(self) -> None:
        """The services first, so that they can hand back what they hold; the broker last."""
        self._tell("stopping …")
        last = ("ray", "nats")
        front = [c for name, c in self.children.items() if name not in last]
        await asyncio.gather(*(child.stop() for child in front))
        for name in last:
            if name in self.children:
                await self.children[name].stop()
        self._write("down")
        self._tell("stopped; `oneblock up` continues where it was")

    def _changed(self) -> None:
        states = [child.state for child in self.children.values()]
        complete = len(states) == len(parts.SERVICES) + 1 + self._options.ray
        if complete and all(state == "ready" for state in states):
            if not self._was_ready:
                self._was_ready = True
                self._tell(f"everything is ready after {time.monotonic() - self._begun:.1f} s")
            self._write("ready")
        elif self._was_ready or "restarting" in states:
            self._write("degraded")
        else:
            self._write("starting")

    def _write(self, state: str) -> None:
        options = self._options
        options.home.write_state(
            {
                "state": state,
                "endpoints": {
                    **{name: self._endpoint(name) for name in ("catalog", "ingest", "nats", "ray")},
                    "s3": None,
                },
                "services": {name: c.described() for name, c in self.children.items()},
                "home": str(options.home.path),
                "stack": options.stack,
                "pid": os.getpid(),
                "started_at": self._started_at,
                "updated_at": datetime.now(UTC).isoformat(),
            }
        )

    def _endpoint(self, name: str) -> str | None:
        """The address of a part that has answered once; it keeps it when it is started again."""
        child = self.children.get(name)
        return child.spec.url if child and child.answered and child.state != "stopped" else None

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._asked_to_stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            self._tell("asked again: killing what still runs")
            for child in self.children.values():
                child.kill()
        self._stopping.set()

    @contextmanager
    def _reaper(self) -> Iterator[None]:
        """A process that outlives us when we are killed, and ends what we would have ended."""
        command = (sys.executable, "-P", "-m", "deploy.local.reaper", self._options.stack)
        reaper = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, stdout=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            if reaper.stdin:
                reaper.stdin.close()
            reaper.wait(timeout=30)


def run(options: Options, tell: Tell) -> None:
    """Runs a stack in this process, which must hold the home's lock, until it is stopped."""
    asyncio.run(Supervisor(options, tell).run())
