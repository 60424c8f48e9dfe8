"""nfs://host[:port]/export/path?version=…: what a URL names, and whether it may."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl, quote, unquote

from libs.common.errors import PermanentError
from libs.stores._globs import has_magic, parse

VERSIONS = {"3": ("3",), "4": ("4.1", "4.0"), "4.0": ("4.0",), "4.1": ("4.1",)}
ANY_VERSION = ("3", "4.1")  # in this order, where a URL doesn't say
QUERY = re.compile(r"[a-z]+=[^&=?/*]*(&[a-z]+=[^&=?/*]*)*")  # everything else after a `?` is a glob
HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Place:
    """One path on one server."""

    host: str  # in lower case
    port: int | None  # of NFS and of its mount service; None: what the server's port mapper says
    path: str  # absolute, decoded; may hold a glob
    version: str = ""  # empty: any

    @classmethod
    def of(cls, url: str) -> Place:
        """Raises PermanentError `invalid_url`."""
        rest = url.partition("://")[2]
        rest, query = _query(rest, url)
        place, slash, path = rest.partition("/")
        host = HOST.fullmatch(place)
        if host is None or not slash:
            raise _bad(url, "write nfs://host[:port]/export/path")
        version = query.get("version", "")
        if version and version not in VERSIONS:
            raise _bad(url, f"unknown version {version!r}; known: {', '.join(VERSIONS)}")
        names = unquote(path, errors="strict").split("/") if _utf8(path) else [".."]
        if ".." in names or any("\0" in n or len(n.encode()) > 255 for n in names):
            raise _bad(url, "'..', NUL and names of more than 255 bytes are not allowed")
        clean = "/" + "/".join(name for name in names if name not in ("", "."))
        port = int(host["port"]) if host["port"] else None
        return cls(host["name"].lower(), port, clean, version)

    @property
    def server(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host

    @property
    def versions(self) -> tuple[str, ...]:
        return VERSIONS[self.version] if self.version else ANY_VERSION

    def at(self, path: str) -> Place:
        """Another path on this server."""
        return Place(self.host, self.port, path, self.version)

    def uri(self) -> str:
        """Names exactly this path."""
        query = f"?version={self.version}" if self.version else ""
        return f"nfs://{self.server}{quote(self.path)}{query}"

    def split(self) -> tuple[str, tuple[str, ...]]:
        """Folder and glob; no glob where there is none. Raises PermanentError `invalid_glob`."""
        if not has_magic(self.path):
            return self.path, ()
        names = self.path.split("/")
        first = next(i for i, name in enumerate(names) if has_magic(name))
        return "/".join(names[:first]) or "/", parse("/".join(names[first:]))


def check_server(place: Place, servers: tuple[str, ...]) -> None:
    """Raises PermanentError `nfs_server_forbidden` unless the operator allows the server."""
    for pattern in servers:
        if fnmatchcase(place.host, pattern) or fnmatchcase(place.server, pattern):
            return
    raise PermanentError(
        f"the NFS server {place.server} is not one that an operator allows; known: "
        f"{', '.join(servers) or 'none'} (ONEBLOCK_NFS_SERVERS)",
        code="nfs_server_forbidden",
    )


def _query(rest: str, url: str) -> tuple[str, dict[str, str]]:
    before, mark, after = rest.rpartition("?")
    if not mark or not QUERY.fullmatch(after):
        return rest, {}
    query = dict(parse_qsl(after, keep_blank_values=True))
    if unknown := sorted(set(query) - {"version"}):
        raise _bad(url, f"unknown {unknown[0]!r} in the query; known: version")
    return before, query


def _utf8(path: str) -> bool:
    try:
        unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _bad(url: str, why: str) -> PermanentError:
    return PermanentError(f"{url!r}: {why}", code="invalid_url")
