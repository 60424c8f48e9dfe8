"""The service's end of a Ray client process: starts it, asks it, throws it away when in doubt."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from services.transform.engines._child import Child, ChildDied
from services.transform.engines._ray_words import ADDRESS, Call, Said

TIMES = {"begin": 60.0, "look": 20.0, "cancel": 4.0, "end": 4.0}  # seconds
CONNECT, CONNECT_MOST = 20.0, 60.0  # seconds for the first try, and for later ones at most
MODULE = "services.transform.engines._ray_client"


class Lost(Exception):
    """No connection, or it broke; the next call tries anew."""


class Link:
    """One client process at a time; calls are short and take turns."""

    def __init__(self, address: str, token: Callable[[], str | None]) -> None:
        self._address, self._token = address, token
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._failures = 0  # to connect, in a row

    def ask(self, call: Call) -> Said:
        """Raises Lost when there is no cluster; everything else is in what is said."""
        with self._lock:
            said = self._said(call)
        if said.trouble == "lost":
            raise Lost(said.detail)
        return said

    def close(self) -> None:
        """Ends the process; what it watched goes on in the cluster."""
        if self._child is not None:
            self._child.kill()  # also under somebody who waits for it
        with self._lock:
            self._drop()

    def _said(self, call: Call) -> Said:
        """Connecting has a limit of its own: it works within seconds, or not at all (ray#63202)."""
        if self._child is None and call.do != "connect":
            connected = self._said(Call(do="connect"))
            if connected.trouble is not None:
                return connected
        try:
            said = Said.model_validate_json(self._line(call))
        except (ChildDied, OSError) as error:
            said = Said(trouble="lost", detail=str(error))
        if call.do == "connect":
            self._failures = self._failures + 1 if said.trouble else 0
        if said.trouble == "lost":
            self._drop()
        return said

    def _line(self, call: Call) -> str:
        child = self._child = self._child or self._connected()
        tried = min(CONNECT_MOST, CONNECT * 2**self._failures)
        alarm = threading.Timer(TIMES.get(call.do, tried), child.kill)
        alarm.daemon = True
        alarm.start()
        try:
            return child.ask(call.model_dump_json())
        finally:
            alarm.cancel()

    def _connected(self) -> Child:
        """Looks first whether anybody listens: a bad connect takes Ray half a minute to fail."""
        where = urlsplit(self._address)
        socket.create_connection((where.hostname or "", where.port or 10001), 2.0).close()
        token = self._token()
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
        return Child(MODULE, {**auth, ADDRESS: self._address, "RAY_USAGE_STATS_ENABLED": "0"})

    def _drop(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child = None
