"""The outermost layer of every app: ids, limits, origins, metrics, and no error unanswered."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import trace
from libs.common.metrics import HTTP_REQUESTS, HTTP_SECONDS
from libs.common.settings import CommonSettings
from libs.common.web import problems
from libs.common.web.body import MAX_BODY
from libs.common.web.tokens import Tokens

BODY_SECONDS = 30  # for a whole body within the limit
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
KNOWN = SAFE | {"POST", "PUT", "PATCH", "DELETE"}
# What browsers must be allowed to send and read for resumable uploads.
TUS_SENT = (
    "Tus-Resumable", "Upload-Length", "Upload-Metadata", "Upload-Offset", "Upload-Checksum",
    "X-HTTP-Method-Override",
)  # fmt: skip
TUS_ANSWERED = (
    "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Upload-Offset",
    "Upload-Length", "Upload-Expires", "OneBlock-Upload-Url", "OneBlock-Upload-Sha256",
)  # fmt: skip
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log = structlog.get_logger()


def install(
    app: Starlette,
    settings: CommonSettings,
    *,
    max_body: int = MAX_BODY,
    streams: tuple[str, ...] = (),
) -> None:
    """Everything of this package for one app; `streams` are paths with body limits of their own."""
    problems.install(app)
    app.state.tokens = Tokens.load(settings.tokens_file) if settings.tokens_file else None
    origins = frozenset(o.strip() for o in settings.cors_origins.split(",") if o.strip())
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                *TUS_SENT,
            ],
            expose_headers=["Location", "ETag", "Retry-After", "X-Request-Id", *TUS_ANSWERED],
        )
    app.add_middleware(Edge, origins=origins, max_body=max_body, streams=streams)


class Edge:
    """Pure ASGI, so that streaming answers and uploads pass through unbuffered."""

    def __init__(
        self, app: ASGIApp, origins: frozenset[str], max_body: int, streams: tuple[str, ...]
    ) -> None:
        self._app = app
        self._origins = origins
        self._max_body = max_body
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, _request_id(scope))
        began = time.perf_counter()
        parent = Headers(scope=scope).get("traceparent")
        with (
            trace.bind(parent),
            structlog.contextvars.bound_contextvars(request_id=answer.request_id),
        ):
            try:
                await self._answer(scope, receive, answer)
            finally:
                _measure(scope, answer.status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            if not self._origin_allowed(scope):
                response = problems.problem_response(
                    403, "origin_forbidden", "requests from this web page's origin are not allowed"
                )
                await response(scope, receive, answer.send)
                return
            await self._app(scope, self._limited(scope, receive), answer.send)
        except ClientDisconnect:
            await answer.fail(scope, receive, 400, "content_length", "the body ended early")
        except Exception as error:
            instance = f"urn:uuid:{uuid.uuid4()}"
            log.exception("internal_error", instance=instance, path=scope["path"])
            if answer.status:
                raise  # half an answer is out: cutting the connection is all that's left
            detail = "an unexpected error; quote the instance id when you report it"
            await answer.fail(scope, receive, 500, "internal_error", detail, instance)
            del error

    def _origin_allowed(self, scope: Scope) -> bool:
        """A web page of another origin may not make changes with the user's network position."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or scope["method"] in SAFE or origin in self._origins:
            return True
        return origin.partition("://")[2] == headers.get("host")

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """The body, cut off with 413 beyond the limit; HTTPException, as FastAPI passes it on."""
        if scope["path"].startswith(self._streams):
            return receive
        declared = Headers(scope=scope).get("content-length", "0")
        left = self._max_body
        too_large = HTTPException(413, f"the body is larger than {self._max_body} bytes")
        until: float | None = asyncio.get_running_loop().time() + BODY_SECONDS

        async def limited() -> Message:
            nonlocal left, until
            if declared.isdigit() and int(declared) > self._max_body:
                raise too_large
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body took longer than {BODY_SECONDS} s") from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise too_large
            if not message.get("more_body"):
                until = None  # from here on it is waited for the client to go away
            return message

        return limited


class _Answer:
    """The way out: adds headers, and knows whether an answer began."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
        await self._send(message)

    async def fail(
        self,
        scope: Scope,
        receive: Receive,
        status: int,
        code: str,
        detail: str,
        instance: str | None = None,
    ) -> None:
        if not self.status:
            response = problems.problem_response(status, code, detail, instance=instance)
            await response(scope, receive, self.send)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str:
    """The template of the route that matched; one without parameters is the path itself."""
    template = getattr(scope.get("route"), "path", "")
    plain = "endpoint" in scope and not scope.get("path_params")
    return str(template or (scope["path"] if plain else "unmatched"))


def _measure(scope: Scope, status: int, seconds: float) -> None:
    """Labels are bounded: the route's template and known methods only."""
    route = _route(scope)
    method = scope["method"] if scope["method"] in KNOWN else "OTHER"
    HTTP_REQUESTS.labels(method, route, str(status)).inc()
    HTTP_SECONDS.labels(route).observe(seconds)
    level = log.info if method not in SAFE or status >= 500 else log.debug
    level("http_request", method=method, route=route, status=status, seconds=round(seconds, 4))
