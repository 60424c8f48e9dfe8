"""nfs://host[:port]/export/path: files, folders and globs on NFS servers that an operator allows.

NFSv3 and v4.1 without a mount (`?version=3`, `4.1`; without: whichever the server speaks), or
through a mount that the operator has made and told of.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

from libs.common.errors import PermanentError
from libs.stores import Access, NoOptions, Outside, Pin, Reach, SourceInfo, StoreOptions
from libs.stores._globs import HIDDEN, accepts, fits, has_magic, parse
from libs.stores._nfs_client import Entry, Server
from libs.stores._nfs_url import Place, check_server
from libs.stores._paths import to_path, to_uri
from libs.stores._ranged import RangedFile
from libs.stores.file import FileStore

MAX_LINKS = 8


class NfsStore:
    """One source's view of NFS."""

    Options: ClassVar[type[StoreOptions]] = NoOptions

    def __init__(self, access: Access, _reach: Reach | None = None) -> None:
        self._outside = access.outside

    def check(self, url: str) -> None:
        place = Place.of(url)
        parse("/".join(place.split()[1]))
        if _mounted(place, self._outside) is None:
            check_server(place, self._outside.servers())

    def list(self, url: str, filter: str | None) -> Iterator[SourceInfo]:
        place, count = Place.of(url), 0
        mount = _mounted(place, self._outside)
        for found in mount.list(place) if mount else self._found(place):
            if accepts(found.path, filter):
                count += 1
                yield found
        if not count:
            raise _nothing(url, filter)

    def stat(self, url: str) -> SourceInfo:
        place = Place.of(url)
        if mount := _mounted(place, self._outside):
            return mount.stat(place)
        name = place.path.rpartition("/")[2]
        return _info(place, self._server(place).stat(place.path), name)

    def open(self, url: str, pin: Pin | None = None) -> BinaryIO:
        place = Place.of(url)
        if mount := _mounted(place, self._outside):
            return mount.open(place, pin)
        server = self._server(place)
        found = server.stat(place.path, pinned=pin is not None)
        if pin is not None and pin.etag and pin.etag != found.etag:
            raise PermanentError(
                f"{url} changed after it was listed; run again", code="source_changed"
            )
        size = _info(place, found, found.name).size
        return cast(BinaryIO, RangedFile(partial(server.read, place.path, found.etag), size, url))

    def _found(self, place: Place) -> Iterator[SourceInfo]:
        server = self._server(place)
        base: str = place.path
        pattern: tuple[str, ...] = ()
        if has_magic(place.path) and not _there(server, place.path):
            base, pattern = place.split()
        top = server.stat(base)
        if top.kind != "directory":
            if not pattern:
                yield _info(place.at(base), top, top.name)
            return
        depth = None if not pattern or "**" in pattern else len(pattern)
        hidden = any(segment.startswith(HIDDEN) for segment in pattern)
        for path, entry, names in _walk(server, base, (), _Depth(depth, hidden)):
            if not pattern or fits(names, pattern):
                yield _info(place.at(path), entry, "/".join(names))

    def _server(self, place: Place) -> Server:
        check_server(place, self._outside.servers())
        return _servers.get(place, self._outside)


@dataclass(frozen=True)
class _Depth:
    """How far to go: to the level that a glob has (None: all), and whether into hidden names."""

    limit: int | None
    hidden: bool


def _walk(
    server: Server, folder: str, names: tuple[str, ...], depth: _Depth, links: int = 0
) -> Iterator[tuple[str, Entry, tuple[str, ...]]]:
    """Files below a folder with their paths, sorted; one folder's names are held at a time."""
    for entry in server.entries(folder):
        if entry.name.startswith(HIDDEN) and not depth.hidden:
            continue
        path, below, followed = f"{folder.rstrip('/')}/{entry.name}", (*names, entry.name), links
        while entry.kind == "symlink":
            followed += 1
            if followed > MAX_LINKS:
                raise PermanentError(f"{path}: too many symlinks", code="path_outside_root")
            path = server.follow(path)
            entry = server.stat(path)
        last = len(below) == depth.limit
        if entry.kind == "directory" and not last:
            yield from _walk(server, path, below, depth, followed)
        elif entry.kind != "directory" and (last or depth.limit is None):
            yield path, entry, below


@dataclass(frozen=True)
class _Mount:
    """An export that is mounted on this machine."""

    export: str
    folder: Path

    def list(self, place: Place) -> Iterator[SourceInfo]:
        for found in self._store().list(to_uri(self._local(place)), None):
            yield self._as_nfs(found, place)

    def stat(self, place: Place) -> SourceInfo:
        return self._as_nfs(self._store().stat(to_uri(self._local(place))), place)

    def open(self, place: Place, pin: Pin | None) -> BinaryIO:
        pin = pin if pin is not None and pin.etag else None
        return self._store().open(to_uri(self._local(place)), pin)

    def _store(self) -> FileStore:
        return FileStore(Access(roots=(self.folder,)))

    def _local(self, place: Place) -> str:
        below = place.path.removeprefix(self.export.rstrip("/"))
        return os.fspath(self.folder).rstrip("/") + below

    def _as_nfs(self, found: SourceInfo, place: Place) -> SourceInfo:
        """The file by its name on the server, which is the same on every machine."""
        real = os.path.realpath(self.folder)
        below = to_path(found.uri).removeprefix(real)
        return replace(found, uri=place.at(self.export.rstrip("/") + below).uri())


def _mounted(place: Place, outside: Outside) -> _Mount | None:
    for host, export, folder in outside.mounts():
        inside = f"{place.path}/".startswith(export.rstrip("/") + "/")
        if host in (place.host, place.server) and inside:
            return _Mount(export, folder)
    return None


class _Servers:
    """Of this process, so that the files of a run share a connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], Server] = {}

    def get(self, place: Place, outside: Outside) -> Server:
        key = (place.server, place.version, repr(outside))
        with self._lock:
            return self._kept.setdefault(key, Server(place, outside))


_servers = _Servers()


def _there(server: Server, path: str) -> bool:
    """A file of that very name, glob characters and all."""
    try:
        server.stat(path)
    except PermanentError:
        return False
    return True


def _info(place: Place, found: Entry, path: str) -> SourceInfo:
    if found.kind != "file":
        detail = f"{place.uri()} is no regular file ({found.kind})"
        raise PermanentError(detail, code="not_a_file")
    return SourceInfo(
        uri=place.uri(), path=path, size=found.size, etag=found.etag, mtime=found.mtime / 1e9
    )


def _nothing(url: str, filter: str | None) -> PermanentError:
    said = f"no file matches the filter {filter!r}" if filter else "no file is there or matches"
    return PermanentError(f"{url}: {said}", code="no_matching_files")


PLUGIN = NfsStore
