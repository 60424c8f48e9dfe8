"""A web server with faults on loopback: plain, or with TLS by an authority of its own."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

Route = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Web:
    """Routes by path; a route writes the answer itself."""

    url: str
    routes: dict[str, Route] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def at(self, path: str, route: Route) -> str:
        """Serve this; returns its URL."""
        self.routes[path] = route
        return self.url + path

    def asked(self, path: str) -> list[tuple[str, dict[str, str]]]:
        """Method and headers of every request for a path."""
        return [(method, headers) for method, at, headers in self.seen if at == path]


@dataclass
class File:
    """A file as good servers have it: ranges, conditions, HEAD; and cuts where asked."""

    content: bytes
    etag: str = '"one"'
    modified: str = ""
    head: bool = True
    ranges: bool = True
    more: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)  # after so many bytes of a body, in turn
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # first, in turn

    def __call__(self, web: BaseHTTPRequestHandler) -> None:
        if self.statuses:
            status, headers = self.statuses.pop(0)
            return answer(web, status, b"not now", **headers)
        if web.command == "HEAD" and not self.head:
            return answer(web, 405)
        validators = {"ETag": self.etag, "Last-Modified": self.modified}
        said = {name: value for name, value in validators.items() if value} | self.more
        if self.etag and web.headers.get("If-None-Match") == self.etag:
            return answer(web, 304, **said)
        if self.modified and web.headers.get("If-Modified-Since") == self.modified:
            return answer(web, 304, **said)
        if web.headers.get("If-Match", self.etag) != self.etag:
            return answer(web, 412, **said)
        start, stop = self._range(web)
        if start >= len(self.content) > 0:
            return answer(web, 416, **said)
        part, status = self.content[start:stop], 200
        if self.ranges and "Range" in web.headers and (start, stop) != (0, len(self.content)):
            status = 206
            said["Content-Range"] = f"bytes {start}-{stop - 1}/{len(self.content)}"
        web.send_response(status)
        for name, value in {**said, "Content-Length": str(len(part))}.items():
            web.send_header(name, value)
        web.end_headers()
        if web.command == "GET":
            cut = self.cuts.pop(0) if self.cuts else len(part)
            web.wfile.write(part[:cut])

    def _range(self, web: BaseHTTPRequestHandler) -> tuple[int, int]:
        asked = web.headers.get("Range", "").removeprefix("bytes=")
        valid = web.headers.get("If-Range") in (None, self.etag or self.modified)
        if not asked or not valid or not self.ranges:
            return 0, len(self.content)
        start, _, stop = asked.partition("-")
        return int(start), min(int(stop) + 1 if stop else len(self.content), len(self.content))


def answer(web: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """A plain answer; `_` in a header's name is a `-`."""
    web.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        web.send_header(name.replace("_", "-"), value)
    web.end_headers()
    if web.command != "HEAD" and status != 304:
        web.wfile.write(body)


def redirect(to: str, status: int = 302) -> Route:
    """Sends elsewhere."""
    return lambda web: answer(web, status, Location=to)


def zipped(content: bytes, **headers: str) -> Route:
    """`Content-Encoding: gzip`, asked for or not."""
    body = gzip.compress(content)
    return lambda web: answer(web, 200, body, Content_Encoding="gzip", **headers)


def dripping(block: bytes, every: float, status: str = "200 OK") -> Route:
    """A body without an end: a block now and then."""

    def route(web: BaseHTTPRequestHandler) -> None:
        web.wfile.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        while True:
            web.wfile.write(block)
            if every:
                time.sleep(every)

    return route


@contextmanager
def web_server(authority: trustme.CA | None = None, host: str = "127.0.0.1") -> Iterator[Web]:
    """Serves on a free port; with an authority over TLS, certified for localhost and 127.0.0.1."""
    web = Web("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 0

        def do_GET(self) -> None:
            self.close_connection = True
            web.seen.append((self.command, self.path, dict(self.headers)))
            route = web.routes.get(self.path, lambda asked: answer(asked, 404, b"no such page"))
            with suppress(OSError):  # who asked has gone
                route(self)

        do_HEAD = do_GET

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_arguments: object) -> None:
            """A client that breaks off is what the tests are about."""

    server = Server((host, 0), Handler)
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web.url = f"http{'s' if authority else ''}://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def authority_file(folder: Path, authority: trustme.CA) -> Path:
    """The authority's certificate as a file to trust."""
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path
