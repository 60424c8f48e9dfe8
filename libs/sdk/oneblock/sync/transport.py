"""Sends requests to the two services and asks again where that is safe and can help."""

# Made from oneblock.aio by `python -m libs.sdk.generate`; change that instead.

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from oneblock.exchange import RETRIED, TROUBLE, Request, Service, pause, refused, unreachable
from oneblock.find import Stack
from oneblock.models import Json
from oneblock.progress import Progress
from oneblock.sync.ground import Http, chunks, file_size, sleep


class Transport:
    """Connections to one stack. `patience`: seconds that trouble is waited out for."""

    def __init__(self, stack: Stack, *, timeout: float = 30.0, patience: float = 15.0) -> None:
        self.stack = stack
        self._patience = patience
        self._http = Http(timeout=httpx.Timeout(timeout, connect=5.0), trust_env=False)
        self._bases: dict[Service, str] = {"catalog": stack.catalog, "ingest": stack.ingest}

    def close(self) -> None:
        self._http.close()

    def base(self, service: Service) -> str:
        """The service's address; the catalog knows where ingest is."""
        if not self._bases[service] and service == "ingest":
            config = self.json(Request("catalog", "GET", "/v1/config"))
            self._bases["ingest"] = str(config.get("ingest_url") or "")
        return self._bases[service].rstrip("/")

    def json(self, request: Request) -> Json:
        """The answer's JSON object. Raises ApiError, NotRunning."""
        response = self.send(request)
        found: Json = response.json() if response.content else {}
        return found

    def send(self, request: Request) -> httpx.Response:
        """The answer, of status 2xx. Raises ApiError, NotRunning."""
        base = self.base(request.service)
        deadline = time.monotonic() + self._patience
        attempt = 0
        while True:
            response: httpx.Response | None = None
            try:
                response = self._once(base, request)
                if response.status_code not in RETRIED or time.monotonic() > deadline:
                    break
            except TROUBLE as error:
                if not self._worth_it(request, error, deadline, attempt):
                    raise unreachable(request.service, base, error) from error
            sleep(pause(attempt, response))
            attempt += 1
        if not response.is_success:
            raise refused(response)
        return response

    def _once(self, base: str, request: Request) -> httpx.Response:
        return self._http.request(
            request.method,
            base + request.path,
            params=request.query(),
            json=request.json,
            content=request.text,
            headers=request.headers(self.stack.token),
        )

    def _worth_it(self, request: Request, error: Exception, deadline: float, attempt: int) -> bool:
        """Whether asking again is safe, and somebody can be expected to answer."""
        unsent = isinstance(error, httpx.ConnectError)
        if time.monotonic() > deadline or not (unsent or request.repeatable):
            return False
        return not unsent or attempt < 4 or self.stack.supervised()

    def put_file(self, request: Request, path: Path, progress: Progress) -> Json:
        """Streams a file as the body; begins anew when the connection breaks."""
        base = self.base(request.service)
        for attempt in range(3):
            try:
                response = self._http.put(
                    base + request.path,
                    content=self._body(path, progress),
                    headers={
                        **request.headers(self.stack.token),
                        "Content-Length": str(file_size(path)),
                        "Content-Type": "application/octet-stream",
                    },
                    timeout=httpx.Timeout(120.0, connect=5.0),
                )
            except TROUBLE as error:
                if attempt == 2:
                    raise unreachable(request.service, base, error) from error
                sleep(pause(attempt, None))
                continue
            if response.status_code not in RETRIED or attempt == 2:
                break
            sleep(pause(attempt, response))
        if not response.is_success:
            raise refused(response)
        found: Json = response.json()
        return found

    def _body(self, path: Path, progress: Progress) -> Iterator[bytes]:
        sent, size = 0, file_size(path)
        for block in chunks(path):
            sent += len(block)
            yield block
            progress(sent, size)

    @contextmanager
    def lines(self, request: Request) -> Iterator[Iterator[str]]:
        """The lines of an answer that goes on, as they come."""
        base = self.base(request.service)
        head = {**request.headers(self.stack.token), "Accept": "text/event-stream"}
        try:
            with self._http.stream(
                request.method,
                base + request.path,
                params=request.query(),
                headers=head,
                timeout=httpx.Timeout(5.0, read=60.0),
            ) as response:
                if not response.is_success:
                    response.read()
                    raise refused(response)
                yield response.iter_lines()
        except TROUBLE as error:
            raise unreachable(request.service, base, error) from error
