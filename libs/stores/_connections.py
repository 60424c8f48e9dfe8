"""Connections on behalf of a manifest, to addresses that were checked."""

from __future__ import annotations

import ipaddress
import os
import ssl
import threading
import time
from collections.abc import Sequence
from functools import cache
from urllib.parse import urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, exceptions

from libs.common.errors import PermanentError
from libs.stores._addresses import resolve
from libs.stores._settings import Network

EVERYWHERE: tuple[Network, ...] = tuple(
    ipaddress.ip_network(n) for n in ("0.0.0.0/0", "::/0")
)  # for what the operator names
FRESH = 300.0  # seconds that the addresses of a name are used
KEPT = 32  # idle connections


class Connections:
    """To one scheme://host[:port]. No redirects, no proxies: nothing but the checked address."""

    def __init__(self, base: str, networks: Sequence[Network], what: str) -> None:
        self._base, self._networks, self._what = base, networks, what
        self._lock = threading.Lock()
        self._pool: HTTPConnectionPool | None = None
        self._made, self._failed = 0.0, 0

    def pool(self) -> HTTPConnectionPool:
        """Raises PermanentError `endpoint_forbidden`, TransientError `dns`."""
        with self._lock:
            if self._pool is None or time.monotonic() - self._made > FRESH:
                self._pool, self._made = self._connect(), time.monotonic()
            return self._pool

    def failed(self) -> None:
        """A connection couldn't be made: the next one goes to the name's next address."""
        with self._lock:
            self._pool, self._failed = None, self._failed + 1

    def _connect(self) -> HTTPConnectionPool:
        parts = urlsplit(self._base)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        addresses = resolve(host, port, self._networks, self._what)
        address = addresses[self._failed % len(addresses)]
        if not secure:
            return HTTPConnectionPool(address, port, maxsize=KEPT)
        return HTTPSConnectionPool(
            address,
            port,
            maxsize=KEPT,
            ssl_context=_context(os.environ.get("AWS_CA_BUNDLE")),
            server_hostname=host,
            assert_hostname=host,
        )


def host_header(base: str) -> str:
    """As HTTP and a signature want it: without the scheme's own port."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    own = {"http": 80, "https": 443}[parts.scheme]
    return host if parts.port in (None, own) else f"{host}:{parts.port}"


def broken(error: Exception, what: str) -> str:
    """What a person is told of a failed connection; raises PermanentError `tls`."""
    if isinstance(error, exceptions.SSLError):
        raise PermanentError(f"{what}: its certificate is not right: {error}", code="tls")
    if isinstance(error, exceptions.NewConnectionError | exceptions.ConnectTimeoutError):
        return "can't be connected to"
    late = isinstance(error, exceptions.TimeoutError)
    return "no answer in time" if late else "the connection broke off"


@cache
def _context(bundle: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=bundle)
