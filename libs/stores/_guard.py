"""The one way out to a URL that a person gave: checked addresses, checked redirects, limits.

A name is resolved once, all its addresses are checked, and one of those is connected to; Host, SNI
and the certificate stay the name's. Proxies of the environment are not used.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NoReturn, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from libs.common.errors import PermanentError, TransientError
from libs.common.manifest.urls import shown
from libs.stores._addresses import allowed, public
from libs.stores._paced import Pace, PacedSocket
from libs.stores._settings import Network, Outside

Lookup = Callable[[str, int], list[str]]

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
BLOCK = 1 << 20  # bytes read at a time, at most
CONNECT = 10.0  # seconds for one address
OWN_PORT = {"http": 80, "https": 443}
SAFE = "/%:=&?~#+!$,;'@()*[]-._"  # of a URL that is encoded already


def look_up(host: str, port: int) -> list[str]:
    """All addresses of a name; raises OSError. Numbers in any spelling come out as addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Rules:
    """What the operator allows, and how names are looked up."""

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] | None = frozenset(OWN_PORT.values())  # None: every port
    patience: float = 30.0
    rate: int = 16_384
    seconds: float = 6 * 3600.0
    max_bytes: int = 64 << 30
    ca_file: Path | None = None
    look_up: Lookup = field(default=look_up)

    @classmethod
    def of(cls, outside: Outside) -> Rules:
        """From the operator's settings."""
        return cls(
            networks=outside.networks(),
            ports=outside.ports(),
            patience=outside.read_patience,
            rate=outside.read_min_rate,
            seconds=outside.http_seconds,
            max_bytes=outside.http_max_bytes,
            ca_file=outside.http_ca_file,
        )


@dataclass(frozen=True)
class Target:
    """A URL that may be asked, as far as it can be told without a look-up."""

    url: str
    scheme: str
    host: str  # as it is resolved and certified: ASCII, without brackets
    port: int
    path: str  # with the query, percent-encoded

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def header(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == OWN_PORT[self.scheme] else f"{host}:{self.port}"


class Answer:
    """Status, headers and the body as it comes; the connection ends with the `with` block."""

    def __init__(self, target: Target, response: http.client.HTTPResponse, limit: int) -> None:
        self.url, self.status = target.url, response.status
        self.headers = {name.lower(): value for name, value in reversed(response.getheaders())}
        self.name = shown(target.url)
        self.limit = limit  # bytes
        self._response = response
        self._came = 0

    @property
    def length(self) -> int | None:
        """Bytes of this body, where that is told."""
        told = self.headers.get("content-length", "")
        chunked = "transfer-encoding" in self.headers
        return int(told) if told.isdecimal() and not chunked else None

    def blocks(self) -> Iterator[bytes]:
        """The body, up to 1 MiB at a time.

        Raises PermanentError `too_large`; TransientError `too_slow`, and `source_unavailable` when
        it is cut off.
        """
        if self.length is not None and self.length > self.limit:
            self._too_large()
        with _translated(self.name):
            while block := self._response.read1(BLOCK):
                self._came += len(block)
                if self._came > self.limit:
                    self._too_large()
                yield block
        if self.length is not None and self._came < self.length:
            raise _cut(self.name, f"after {self._came:,} of {self.length:,} bytes")

    def _too_large(self) -> NoReturn:
        raise PermanentError(
            f"{self.name}: longer than {self.limit:,} bytes (ONEBLOCK_HTTP_MAX_BYTES)",
            code="too_large",
        )


class Guard:
    """Asks for URLs. Blocks: use it off the event loop."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def check(self, url: str) -> Target:
        """What can be told without a look-up; raises `scheme_forbidden`, `userinfo_forbidden`,
        `url_forbidden`, `invalid_url`."""
        target = _target(url)
        ports = self._rules.ports
        if ports is not None and target.port not in ports:
            known = ", ".join(map(str, sorted(ports)))
            raise _forbidden(
                f"{shown(url)}: port {target.port} is not among those allowed: {known} "
                "(ONEBLOCK_HTTP_PORTS)"
            )
        for address in _literal(target.host):
            self._checked(target, address)
        return target

    @contextmanager
    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        deadline: float | None = None,
    ) -> Iterator[Answer]:
        """The answer after redirects, whatever its status.

        `Authorization` is sent to the URL's own host alone. Raises PermanentError `url_forbidden`,
        `redirect_forbidden`, `too_many_redirects`, `tls`, `bad_response`; TransientError `dns`,
        `source_unavailable`, `too_slow`.
        """
        target, sent = self.check(url), dict(headers or {})
        until = deadline if deadline is not None else time.monotonic() + self._rules.seconds
        for hop in range(MAX_REDIRECTS + 1):
            with self._hop(target, sent, method, until, redirected=hop > 0) as answer:
                where = answer.headers.get("location")
                if answer.status not in REDIRECTS:
                    yield answer
                    return
            following = self._following(target, where)
            if following.origin != target.origin:
                sent = {k: v for k, v in sent.items() if k.lower() != "authorization"}
            target = following
        raise PermanentError(
            f"{shown(url)}: more than {MAX_REDIRECTS} redirects", code="too_many_redirects"
        )

    def _following(self, target: Target, where: str | None) -> Target:
        if not where:
            raise PermanentError(f"{shown(target.url)}: a redirect to nowhere", code="bad_response")
        url = urljoin(target.url, where)
        if target.scheme == "https" and urlsplit(url).scheme == "http":
            raise _redirect(target, f"{shown(url)}, which is not encrypted any more")
        try:
            return self.check(url)
        except PermanentError as error:
            raise _redirect(target, error.detail) from error

    @contextmanager
    def _hop(
        self,
        target: Target,
        headers: Mapping[str, str],
        method: str,
        until: float,
        *,
        redirected: bool,
    ) -> Iterator[Answer]:
        rules, name = self._rules, shown(target.url)
        pace = Pace(name, rules.patience, rules.rate, until)
        try:
            addresses = self._resolve(target)
        except PermanentError as error:
            raise (_redirect(target, error.detail) if redirected else error) from error
        with _translated(name):
            sock = self._secured(target, _connect(addresses, target.port, pace), pace)
        paced = PacedSocket(sock, pace)
        try:
            with _translated(name):
                response = _asked(target, paced, method, headers)
            yield Answer(target, response, rules.max_bytes)
        finally:
            paced.end()

    def _resolve(self, target: Target) -> list[str]:
        """Every address is checked; those are the ones to connect to."""
        try:
            found = self._rules.look_up(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise TransientError(
                f"{shown(target.url)}: the name {target.host!r} doesn't resolve", code="dns"
            ) from error
        for address in found:
            self._checked(target, address)
        return found

    def _checked(self, target: Target, address: str) -> None:
        if not allowed(address, self._rules.networks):
            raise _forbidden(
                f"{shown(target.url)}: {target.host} is at {address}, which is not a public "
                "address; an operator allows its network with ONEBLOCK_PRIVATE_NETWORKS"
            )

    def private(self, url: str) -> bool:
        """Whether a URL's host is in a network of the operator's, at this moment."""
        return not all(public(address) for address in self._resolve(self.check(url)))

    def _secured(self, target: Target, sock: socket.socket, pace: Pace) -> socket.socket:
        if target.scheme == "http":
            return sock
        try:
            sock.settimeout(min(CONNECT, pace.left()))
            return _context(self._rules.ca_file).wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise


def _asked(
    target: Target, sock: PacedSocket, method: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = cast(socket.socket, sock)
    ours = {"Host": target.header, "Accept-Encoding": "identity", "Connection": "close"}
    said = {"User-Agent": "oneblock", "Accept": "*/*", **headers, **ours}
    connection.request(method, target.path, headers=said)
    return connection.getresponse()


def _connect(addresses: list[str], port: int, pace: Pace) -> socket.socket:
    last: OSError = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), min(CONNECT, pace.left()))
        except OSError as error:
            last = error
    raise last


def _target(url: str) -> Target:
    if any(ord(letter) <= 32 or letter in "\x7f\\" for letter in url):
        raise PermanentError(
            f"{shown(url)!r}: no spaces, control characters or '\\'", code="invalid_url"
        )
    parts, port = _split(url)
    if parts.scheme not in OWN_PORT:
        raise PermanentError(
            f"{shown(url)}: only http:// and https:// are asked for", code="scheme_forbidden"
        )
    if "@" in parts.netloc:
        raise PermanentError(
            f"{shown(url)}: a user or password in a URL; name credentials by secretRef",
            code="userinfo_forbidden",
        )
    host = _ascii(url, parts.hostname or "")
    path = quote(parts.path or "/", safe=SAFE) + (
        f"?{quote(parts.query, safe=SAFE)}" if parts.query else ""
    )
    return Target(url, parts.scheme, host, port or OWN_PORT[parts.scheme], path)


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError as error:
        raise PermanentError(f"{shown(url)!r} is no URL: {error}", code="invalid_url") from error


def _ascii(url: str, host: str) -> str:
    """The host as DNS knows it; what looks like digits in another script becomes digits here."""
    try:
        found = host if ":" in host else host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        found = ""
    if not found or "%" in found:
        raise PermanentError(f"{shown(url)!r}: no host that can be asked", code="invalid_url")
    return found


def _literal(host: str) -> list[str]:
    """The addresses of a host that is one already, in any spelling, or this machine's own name."""
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        return ["127.0.0.1"]
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """What sockets, TLS and http.client raise, as our two kinds."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise _tls(name, f"its certificate is not right: {error.verify_message}") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise _cut(name, "in the middle of TLS") from error
    except TimeoutError as error:
        raise _cut(name, "nothing came for a while") from error
    except ssl.SSLError as error:
        raise _tls(name, f"no TLS that we speak: {error.reason or error}") from error
    except (http.client.IncompleteRead, http.client.RemoteDisconnected) as error:
        raise _cut(name, "before its end") from error
    except http.client.HTTPException as error:
        what = f"no HTTP: {type(error).__name__}"
        raise PermanentError(f"{name}: {what}", code="bad_response") from error
    except OSError as error:
        raise _cut(name, error.strerror or str(error)) from error


@cache
def _context(ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities, and the operator's."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def _tls(name: str, why: str) -> PermanentError:
    return PermanentError(f"{name}: {why}", code="tls")


def _cut(name: str, how: str) -> TransientError:
    return TransientError(f"{name}: the connection failed: {how}", code="source_unavailable")


def _forbidden(detail: str) -> PermanentError:
    return PermanentError(detail, code="url_forbidden")


def _redirect(target: Target, detail: str) -> PermanentError:
    return PermanentError(
        f"{shown(target.url)}: redirects to where it may not: {detail}", code="redirect_forbidden"
    )
