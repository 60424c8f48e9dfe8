"""Stores, one file per URL scheme: listing, looking at and opening source files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from libs.common.errors import PermanentError
from libs.common.registry import Registry


@dataclass(frozen=True)
class SourceInfo:
    """One file of a source in the state in which it was seen."""

    uri: str  # opens exactly this file, in every process: file:///absolute/path
    path: str  # below the source's root
    size: int  # bytes; an empty file is listed too, its reader says `empty_file`
    etag: str = ""  # changes whenever the file may have changed
    version_id: str = ""
    mtime: float = 0.0  # seconds since the epoch
    sha256: str = ""  # where it is known without reading


@dataclass(frozen=True)
class Access:
    """What the operator allows."""

    roots: tuple[Path, ...] = ()  # folders below which file:// may read
    private: tuple[Path, ...] = ()  # … but never in here: the warehouse
    uploads: Path | None = None  # where uploads are kept


class Store(Protocol):
    """One scheme. Blocks: call it off the event loop.

    Raises PermanentError: `invalid_url`, `path_outside_root`, `source_not_found`,
    `source_forbidden`, `not_a_file`, `no_matching_files`.
    """

    def check(self, url: str) -> None:
        """What can be said about a URL without listing: its form, and whether it is allowed."""

    def list(self, url: str, filter: str | None) -> Iterator[SourceInfo]:
        """Files of a URL (a file, a folder, a glob) in a stable order, none held in memory.

        `filter` is a glob on names, or on paths below the root when it has a `/`.
        """

    def stat(self, url: str) -> SourceInfo:
        """One file's present state."""

    def open(self, url: str) -> BinaryIO:
        """One file's content, seekable."""


STORES: Registry[Callable[[Access], Store]] = Registry(
    "libs.stores", lambda: list(__path__), noun="store"
)


def scheme(url: str) -> str:
    """The scheme of a URL; raises `invalid_url` when it has none."""
    try:
        found = urlsplit(url).scheme
    except ValueError:
        found = ""
    if not found:
        raise PermanentError(
            f"{url!r} is no URL; known schemes: {', '.join(STORES.keys())}", code="invalid_url"
        )
    return found.lower()


def store_for(url: str, access: Access) -> Store:
    """The store of a URL's scheme; raises `unknown_store` naming the known ones."""
    return STORES.get(scheme(url))(access)


def open_uri(uri: str, etag: str | None = None) -> BinaryIO:
    """Opens an inventory's file in any process (picklable, no settings needed).

    With `etag` it must be the file that was listed: else PermanentError `source_changed`.
    """
    from libs.stores.file import open_file  # the registry keeps plug-ins unloaded until used

    if scheme(uri) != "file":
        raise PermanentError(f"can't open {uri!r}: only file:// is known", code="invalid_url")
    return open_file(uri, etag)


__all__ = ["STORES", "Access", "SourceInfo", "Store", "open_uri", "scheme", "store_for"]
