"""Following what goes on: a run until its end, its log, the stream of events."""

# Made from oneblock.aio by `python -m libs.sdk.generate`; change that instead.

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from oneblock.errors import ApiError, RunFailed, WaitTimeout
from oneblock.exchange import Request
from oneblock.models import Json, LogLine, Run
from oneblock.names import path_part
from oneblock.sync.ground import sleep
from oneblock.sync.transport import Transport

UNHEARD = 20.0  # seconds until a run that was accepted must be known to the catalog


class Waiting:
    """The part of the client that waits."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def run(self, run: str) -> Run:
        """One run, with its stages."""
        path = f"/v1/runs/{path_part(run)}"
        return Run.parse(self._transport.json(Request("catalog", "GET", path)))

    def wait(
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
        for found in self.follow(run, timeout=timeout):
            if watch:
                watch(found)
        if check and not found.good:
            raise RunFailed(found.id, found.state, found.error_code, found.error_detail)
        return found

    def follow(self, run: str, *, timeout: float | None = None) -> Iterator[Run]:
        """The run as it goes on, a few times a second, until it has ended."""
        begun, rest, known = time.monotonic(), 0.04, False
        while True:
            try:
                found = self.run(run)
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
            sleep(rest)
            rest = min(rest * 1.25, 0.5)

    def logs(self, run: str, *, follow: bool = False) -> Iterator[LogLine]:
        """The lines of a run's log, in order; with `follow` until the run has ended."""
        cursor: str | None = None
        while True:
            ended = not follow or (self.run(run)).ended
            page = self._log_page(run, cursor)
            for line in page.get("items") or ():
                yield LogLine.parse(line)
            cursor = page.get("next_cursor") or cursor
            if ended and not page.get("items"):
                return
            if not page.get("next_cursor"):
                if ended:
                    return
                sleep(0.3)

    def _log_page(self, run: str, cursor: str | None) -> Json:
        path = f"/v1/runs/{path_part(run)}/logs"
        return self._transport.json(Request("catalog", "GET", path, {"cursor": cursor}))

    def events(self) -> Iterator[Json]:
        """What happens from now on, fact by fact, for as long as the connection lasts."""
        with self._transport.lines(Request("catalog", "GET", "/v1/events")) as lines:
            for line in lines:
                if line.startswith("data:"):
                    yield json.loads(line[5:])
