"""Exports of NFS servers, connected to by nfs-rs: no mount, no privileges."""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from libs.common.errors import OneBlockError, PermanentError
from libs.stores import Outside
from libs.stores._nfs_url import Place
from libs.stores._patience import Pace, Patience

if TYPE_CHECKING:
    from nfs_rs import Client, File, FileInfo

CONNECT = 5.0  # seconds
OPERATION = 20.0  # seconds for one request and its own retries
SLICE = 1 << 20  # bytes asked for at once; read-ahead has several such requests under way
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """What a folder holds, or what a path names."""

    name: str
    kind: str  # file, directory, symlink, …
    size: int
    mtime: int  # nanoseconds since the epoch

    @property
    def etag(self) -> str:
        """Inode numbers are left out: some servers give new ones when they are restarted."""
        return f"{self.size:x}-{self.mtime:x}"


class Server:
    """One server's exports; used by many threads, connected again when a connection is lost."""

    def __init__(self, place: Place, outside: Outside) -> None:
        self._place, self._outside = place, outside
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}  # by the path of the export

    def stat(self, path: str, *, pinned: bool = False) -> Entry:
        """Raises PermanentError `source_not_found`, or `source_changed` for what was listed."""
        found = self._do(path, lambda client, name: client.stat(name), pinned=pinned)
        return _entry(path.rpartition("/")[2], found)

    def entries(self, path: str) -> list[Entry]:
        """Of a folder, by name."""

        def scan(client: Client, name: str) -> list[Entry]:
            return [_entry(entry.name, entry.info) for entry in client.scandir(name)]

        found = (e for e in self._do(path, scan) if e.name not in (".", ".."))
        return sorted(found, key=lambda entry: entry.name.encode())

    def follow(self, path: str) -> str:
        """Where a symlink leads, if it stays on the server's path below the export."""
        target = self._do(path, lambda client, name: client.readlink(name))
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        export = self._connected(path)[1]
        if target.startswith("/") or not below(joined, export):
            raise PermanentError(
                f"{self._name(path)} is a symlink out of its export", code="path_outside_root"
            )
        return joined

    def read(self, path: str, etag: str, start: int, stop: int) -> bytearray:
        """Exactly these bytes of the state that `etag` names."""
        found, what = bytearray(), self._name(path)
        pace = Pace(what, self._outside.read_min_rate)

        def read(client: Client, name: str) -> None:
            with client.open(name, "rb") as file:
                _read_on(file, found, start, stop, pace)
            if _entry(name, client.stat(name)).etag != etag:
                raise PermanentError(
                    f"{what} changed after it was listed; run again", code="source_changed"
                )

        self._do(path, read, lambda: len(found), pinned=True)
        return found

    def _do(
        self,
        path: str,
        work: Callable[[Client, str], T],
        progress: Callable[[], int] = lambda: 0,
        *,
        pinned: bool = False,
    ) -> T:
        """Does the work, on a new connection when the old one is lost."""
        from nfs_rs import NfsError

        patience, before = Patience(self._name(path), self._outside.read_patience), 0
        while True:
            client: Client | None = None
            try:
                client, root = self._connected(path)
                return work(client, path.removeprefix(root.rstrip("/")).lstrip("/") or ".")
            except (NfsError, OSError) as error:
                final = _translated(error, self._name(path), pinned)
                if final is not None:
                    raise final from error
                self._lost(client)
                if progress() > before:
                    before = progress()
                    patience.progressed()
                patience.wait(error, f"the server doesn't answer ({type(error).__name__})")

    def _connected(self, path: str) -> tuple[Client, str]:
        """A connection to the export that holds the path, and the export's own path."""
        with self._lock:
            for export, client in self._clients.items():
                if below(path, export):
                    return client, export
            client, export = _mount(self._place.at(path), self._outside)
            self._clients[export] = client
            return client, export

    def _lost(self, client: Client | None) -> None:
        """The next one who asks connects again; those who still use it get their own errors."""
        with self._lock:
            self._clients = {e: c for e, c in self._clients.items() if c is not client}

    def _name(self, path: str) -> str:
        return self._place.at(path).uri()


def below(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it."""
    return f"{path}/".startswith(folder.rstrip("/") + "/")


def _read_on(file: File, found: bytearray, start: int, stop: int, pace: Pace) -> None:
    while len(found) < stop - start:
        at = start + len(found)
        piece = file.read_at(at, min(SLICE, stop - at))
        if not piece:
            return  # shorter than it was: the look at its state says so
        found += piece
        pace.add(len(piece))


def _mount(place: Place, outside: Outside) -> tuple[Client, str]:
    """A URL doesn't say where the export ends and the path in it begins: the shortest path that the
    server lets us mount is the export.
    """
    first: Exception | None = None
    for version in place.versions:
        for export in _exports(place.path):
            try:
                return _connect(place, export, version, outside), export
            except Exception as error:
                if not _elsewhere(error):
                    first = first or error
                    break  # not of this path alone: the server doesn't speak this version
                first = first or error
    assert first is not None  # there is one version and one export at least
    raise first


def _exports(path: str) -> Iterator[str]:
    names = path.strip("/").split("/")
    yield from ("/" + "/".join(names[:i]) for i in range(1, len(names) + 1) if names[0])
    yield "/"


def _connect(place: Place, export: str, version: str, outside: Outside) -> Client:
    try:
        from nfs_rs import Client
    except ImportError as error:
        raise PermanentError(
            "NFS is read without a mount on Linux x86-64 alone; elsewhere an operator maps the "
            "export to a local mount with ONEBLOCK_NFS_MOUNTS",
            code="nfs_unavailable",
        ) from error
    return Client.connect(
        f"nfs://{place.host}{quote(export)}",
        versions=(version,),
        uid=outside.nfs_uid,
        gid=outside.nfs_gid,
        nfs_port=place.port,
        mount_port=place.port,
        noresvport=os.geteuid() != 0,  # servers may ask for a port that only root can take
        connect_timeout=CONNECT,
        operation_timeout=OPERATION,
    )


def _elsewhere(error: Exception) -> bool:
    """Whether another export of the same server may do."""
    from nfs_rs import NfsMountError, NfsNotFoundError, NfsPermissionError

    return isinstance(error, NfsMountError | NfsNotFoundError | NfsPermissionError)


def _translated(error: Exception, what: str, pinned: bool) -> OneBlockError | None:
    """What it means for the run; None: connect again and go on."""
    from nfs_rs import NfsEncodingError, NfsInvalidInputError, NfsMountError, NfsUnsupportedError

    said = str(error).lower()
    denied = isinstance(error, PermissionError) or "permission" in said or "access" in said
    if isinstance(error, FileNotFoundError | NotADirectoryError) or (
        isinstance(error, NfsMountError) and not denied
    ):
        if pinned:
            detail = f"{what} is gone since it was listed; run again"
            return PermanentError(detail, code="source_changed")
        return PermanentError(f"{what}: no such file or folder", code="source_not_found")
    if isinstance(error, PermissionError | NfsMountError):
        return PermanentError(f"{what}: the server doesn't allow it", code="source_forbidden")
    if isinstance(error, IsADirectoryError):
        return PermanentError(f"{what} is a folder", code="not_a_file")
    if isinstance(error, NfsInvalidInputError | NfsUnsupportedError | NfsEncodingError):
        return PermanentError(f"{what}: {error}", code="source_unreadable")
    return None


def _entry(name: str, info: FileInfo) -> Entry:
    return Entry(name, info.type.value, info.size, info.mtime)
