"""Running one service's app: where it may listen, telling its port, stopping in time."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import orjson
import structlog
import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.errors import OneBlockError, PermanentError
from libs.common.logs import configure
from libs.common.settings import CommonSettings
from libs.common.web.problems import problem_response

READY_FILE = "ONEBLOCK_READY_FILE"  # where a supervisor wants to read {"port", "pid"}
HTTP_GRACE = 5  # seconds that open requests get at a stop, before the bus's own time begins
S = TypeVar("S", bound=CommonSettings)
log = structlog.get_logger()


def main(settings: type[S], make_app: Callable[[S], Starlette], service: str) -> NoReturn:
    """A service's whole `__main__`: settings, logs, app; what is wrong is told in a sentence."""
    try:
        read = settings()
        configure(read, service)
        app = make_app(read)
    except ValidationError as error:
        wrong = "; ".join(f"ONEBLOCK_{_name(e['loc'])}: {e['msg']}" for e in error.errors())
        sys.exit(f"oneblock {service}: wrong settings: {wrong}")
    except OneBlockError as error:
        sys.exit(f"oneblock {service}: {error.detail}")
    serve(app, read, service)


def serve(
    app: Starlette, settings: CommonSettings, service: str, *, needs_tokens: bool = True
) -> NoReturn:
    """Serve until SIGTERM or Ctrl-C, then exit: 0 after a clean stop, 1 with a message otherwise.

    `needs_tokens` False is for apps that only answer health and metrics.
    """
    try:
        check_exposure(settings, service, needs_tokens=needs_tokens)
        with bind(settings.host, settings.port) as sock:
            _run(app, settings, service, sock)
    except OneBlockError as error:
        sys.exit(f"oneblock {service}: {error.detail}")
    sys.exit(0)


def _name(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location).upper()


def check_exposure(settings: CommonSettings, service: str, *, needs_tokens: bool) -> None:
    """Raises `tokens_needed` when the service would answer beyond this machine to anybody."""
    if not needs_tokens or settings.tokens_file or is_loopback(settings.host):
        return
    raise PermanentError(
        f"refusing to listen on {settings.host!r} without tokens: {service} would answer anybody "
        "on the network. Set ONEBLOCK_TOKENS_FILE (make one with `oneblock token create`), "
        "or listen on 127.0.0.1",
        code="tokens_needed",
    )


def is_loopback(host: str) -> bool:
    """True when every address that `host` stands for is a loopback address."""
    try:
        found = socket.getaddrinfo(
            host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError:
        return False
    return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises `address_in_use` or `bad_address` naming the address."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise PermanentError(
            f"can't listen on {host}:{port}: {error}", code="bad_address"
        ) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)  # from here on nobody else can have the port, and clients wait
    except OSError as error:
        sock.close()
        raise PermanentError(
            f"can't listen on {host}:{port}: {error.strerror}; stop what uses the port, "
            "or set ONEBLOCK_PORT (0 takes any free one)",
            code="address_in_use",
        ) from error
    return sock


def _run(app: Starlette, settings: CommonSettings, service: str, sock: socket.socket) -> None:
    port = int(sock.getsockname()[1])
    app.state.stopping = asyncio.Event()  # long answers (event streams) end when it is set
    guarded: ASGIApp = _Startup(app)
    if settings.tokens_file is None and is_loopback(settings.host):
        guarded = LocalHosts(guarded)
    config = uvicorn.Config(
        guarded,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=min(HTTP_GRACE, int(settings.stop_timeout) or 1),
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config, app, settings.stop_timeout)
    _tell(port)
    log.info("listening", service=service, host=settings.host, port=port)
    try:
        server.run(sockets=[sock])
    except SystemExit:
        error = app.state.startup_error
        raise error if error else PermanentError("could not start", code="startup") from None


def _tell(port: int) -> None:
    if target := os.environ.get(READY_FILE):
        path = Path(target)
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(orjson.dumps({"port": port, "pid": os.getpid()}))
        beside.replace(path)


class _Server(uvicorn.Server):
    """Ends with exit code 0 on SIGTERM, and ends for sure."""

    def __init__(self, config: uvicorn.Config, app: Starlette, stop_timeout: float) -> None:
        super().__init__(config)
        self._app = app
        self._stop_timeout = stop_timeout

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but the signal isn't raised again: a stop asked for is no crash."""
        before = {s: signal.signal(s, self.handle_exit) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._app.state.stopping.set()
        limit = threading.Timer(self._stop_timeout + HTTP_GRACE, _give_up)
        limit.daemon = True
        limit.start()


def _give_up() -> None:
    """A thread that can't be stopped must not keep the process: what is held is redelivered."""
    sys.stderr.write("oneblock: the graceful stop took too long; exiting\n")
    os._exit(1)


class _Startup:
    """Keeps an error of ours at start, so that it is told as a sentence and not as a traceback."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        app.state.startup_error = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def quiet(message: Message) -> None:
            told = isinstance(sys.exception(), OneBlockError)
            await send({**message, "message": ""} if told else message)

        try:
            await self._app(scope, receive, quiet)
        except OneBlockError as error:
            self._app.state.startup_error = error
            raise


class LocalHosts:
    """Refuses names that aren't this machine's: a web page can point its own name at 127.0.0.1."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _names_loopback(Headers(scope=scope).get("host", "")):
            response = problem_response(
                421, "wrong_host", "this service answers to localhost, 127.0.0.1 and [::1] only"
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _names_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if _has_port(host) else host
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _has_port(host: str) -> bool:
    """Whether a Host header ends in a port (and not in the middle of an IPv6 address)."""
    return host.rpartition(":")[2].isdigit() and (host.count(":") == 1 or "]:" in host)
