"""Following what goes on: a run until its end, its log, the stream of events."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable

from oneblock.aio.ground import sleep
from oneblock.aio.transport import AsyncTransport
from oneblock.errors import ApiError, RunFailed, WaitTimeout
from oneblock.exchange import Request
from oneblock.models import Json, LogLine, Run
from oneblock.names import path_part

UNHEARD = 20.0  # seconds until a run that was accepted must be known to the catalog


class AsyncWaiting:
    """The part of the client that waits."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def run(self, run: str) -> Run:
        """One run, with its stages."""
        path = f"/v1/runs/{path_part(run)}"
        return Run.parse(await self._transport.json(Request("catalog", "GET", path)))

    async def wait(
        self,
        run: str,
        *,
        timeout: float | None = None,
        watch: Callable[[Run], None] | None = None,
        check: bool = True,
    ) -> Run:
        """Until the run (or the one that took over its work) ends; `watch` is told each state.

        Raises WaitTimeout, and with `check` RunFailed unless it ended well.
        """
        async for found in self.follow(run, timeout=timeout):
            if watch:
                watch(found)
        if check and not found.good:
            raise RunFailed(found.id, found.state, found.error_code, found.error_detail)
        return found

    async def follow(self, run: str, *, timeout: float | None = None) -> AsyncIterator[Run]:
        """The run as it goes on, a few times a second, until it has ended."""
        begun, rest, known = time.monotonic(), 0.04, False
        while True:
            try:
                found = await self.run(run)
                known = True
                yield found
                if found.into and found.state in ("coalesced", "duplicate"):
                    run, known = found.into, False
                elif found.ended:
                    return
            except ApiError as error:
                # The catalog hears of a run a moment after ingest has accepted it.
                if error.status != 404 or known or time.monotonic() - begun > UNHEARD:
                    raise
            if timeout is not None and time.monotonic() - begun > timeout:
                raise WaitTimeout(
                    f"{run} has not ended within {timeout:g} s; it goes on",
                    hint=f"look with `oneblock describe {run}`",
                )
            await sleep(rest)
            rest = min(rest * 1.25, 0.5)

    async def logs(self, run: str, *, follow: bool = False) -> AsyncIterator[LogLine]:
        """The lines of a run's log, in order; with `follow` until the run has ended."""
        cursor: str | None = None
        while True:
            ended = not follow or (await self.run(run)).ended
            page = await self._log_page(run, cursor)
            for line in page.get("items") or ():
                yield LogLine.parse(line)
            cursor = page.get("next_cursor") or cursor
            if ended and not page.get("items"):
                return
            if not page.get("next_cursor"):
                if ended:
                    return
                await sleep(0.3)

    async def _log_page(self, run: str, cursor: str | None) -> Json:
        path = f"/v1/runs/{path_part(run)}/logs"
        return await self._transport.json(Request("catalog", "GET", path, {"cursor": cursor}))

    async def events(self) -> AsyncIterator[Json]:
        """What happens from now on, fact by fact, for as long as the connection lasts."""
        async with self._transport.lines(Request("catalog", "GET", "/v1/events")) as lines:
            async for line in lines:
                if line.startswith("data:"):
                    yield json.loads(line[5:])
