"""Sends requests to the two services and asks again where that is safe and can help."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from oneblock.aio.ground import AsyncHttp, sleep
from oneblock.exchange import RETRIED, TROUBLE, Request, Service, pause, refused, unreachable
from oneblock.find import Stack
from oneblock.models import Json


class AsyncTransport:
    """Connections to one stack. `patience`: seconds that trouble is waited out for."""

    def __init__(self, stack: Stack, *, timeout: float = 30.0, patience: float = 15.0) -> None:
        self.stack = stack
        self._patience = patience
        self._http = AsyncHttp(timeout=httpx.Timeout(timeout, connect=5.0), trust_env=False)
        self._bases: dict[Service, str] = {"catalog": stack.catalog, "ingest": stack.ingest}

    async def aclose(self) -> None:
        await self._http.aclose()

    async def base(self, service: Service) -> str:
        """The service's address; the catalog knows where ingest is."""
        if not self._bases[service] and service == "ingest":
            config = await self.json(Request("catalog", "GET", "/v1/config"))
            self._bases["ingest"] = str(config.get("ingest_url") or "")
        return self._bases[service].rstrip("/")

    async def json(self, request: Request) -> Json:
        """The answer's JSON object. Raises ApiError, NotRunning."""
        response = await self.send(request)
        found: Json = response.json() if response.content else {}
        return found

    async def send(
        self,
        request: Request,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, of status 2xx. Raises ApiError, NotRunning."""
        request = replace(request, content=content, more=headers or {})
        base = await self.base(request.service)
        deadline = time.monotonic() + self._patience
        attempt = 0
        while True:
            response: httpx.Response | None = None
            try:
                response = await self._once(base, request)
                if response.status_code not in RETRIED or time.monotonic() > deadline:
                    break
            except TROUBLE as error:
                if not self._worth_it(request, error, deadline, attempt):
                    raise unreachable(request.service, base, error) from error
            await sleep(pause(attempt, response))
            attempt += 1
        if not response.is_success:
            raise refused(response)
        return response

    async def _once(self, base: str, request: Request) -> httpx.Response:
        return await self._http.request(
            request.method,
            base + request.path,
            params=request.query(),
            json=request.json,
            content=request.text if request.content is None else request.content,
            headers=request.headers(self.stack.token),
        )

    def _worth_it(self, request: Request, error: Exception, deadline: float, attempt: int) -> bool:
        """Whether asking again is safe, and somebody can be expected to answer."""
        unsent = isinstance(error, httpx.ConnectError)
        if time.monotonic() > deadline or not (unsent or request.repeatable):
            return False
        return not unsent or attempt < 4 or self.stack.supervised()

    async def stream(
        self,
        request: Request,
        body: AsyncIterator[bytes],
        headers: dict[str, str],
        timeout: httpx.Timeout,
    ) -> httpx.Response:
        """Sends a body once, as it comes; the answer whatever its status. Raises httpx' errors."""
        return await self._http.request(
            request.method,
            await self.base(request.service) + request.path,
            content=body,
            headers={**request.headers(self.stack.token), **headers},
            timeout=timeout,
        )

    @asynccontextmanager
    async def lines(self, request: Request) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of an answer that goes on, as they come."""
        base = await self.base(request.service)
        head = {**request.headers(self.stack.token), "Accept": "text/event-stream"}
        try:
            async with self._http.stream(
                request.method,
                base + request.path,
                params=request.query(),
                headers=head,
                timeout=httpx.Timeout(5.0, read=60.0),
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise refused(response)
                yield response.aiter_lines()
        except TROUBLE as error:
            raise unreachable(request.service, base, error) from error
