"""Stores, one file per URL scheme: listing, looking at and opening source files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, JsonValue

from libs.common.errors import PermanentError
from libs.common.registry import Registry
from libs.stores._pins import Pin
from libs.stores._settings import Outside


@dataclass(frozen=True)
class SourceInfo:
    """One file of a source in the state in which it was seen."""

    uri: str  # names exactly this file, in every process: file:///absolute/path, s3://bucket/key
    path: str  # below the source's root
    size: int  # bytes; an empty file is listed too, its reader says `empty_file`
    etag: str = ""  # changes whenever the file may have changed
    version_id: str = ""  # where the store keeps old states: the one that was seen
    mtime: float = 0.0  # seconds since the epoch
    sha256: str = ""  # where it is known without reading


@dataclass(frozen=True)
class Access:
    """What the operator allows."""

    roots: tuple[Path, ...] = ()  # folders below which file:// may read
    private: tuple[Path, ...] = ()  # … but never in here: the warehouse
    uploads: Path | None = None  # where uploads are kept
    outside: Outside = field(default_factory=Outside)  # other machines; from the environment


@dataclass(frozen=True)
class Reach:
    """How a source's files are reached, as its manifest says: plain JSON, secrets by name alone."""

    options: dict[str, JsonValue] = field(default_factory=dict)  # the stores' of source.options
    secret: str = ""  # its name is resolved where a file is opened: libs.common.secrets
    namespace: str = "default"  # whose secrets


class Store(Protocol):
    """One scheme. Blocks: call it off the event loop.

    Raises PermanentError: `invalid_url`, `invalid_option`, `path_outside_root`,
    `endpoint_forbidden`, `source_not_found`, `source_forbidden`, `not_a_file`,
    `no_matching_files`, `source_changed`, `secret_not_found`; TransientError:
    `source_unavailable`, `too_slow`, `dns`.
    """

    Options: ClassVar[type[BaseModel]]  # what source.options may say of it; unknown ones refused

    def __init__(self, access: Access, reach: Reach = ..., /) -> None: ...

    def check(self, url: str) -> None:
        """What can be said about a URL without listing: its form, and whether it is allowed."""

    def list(self, url: str, filter: str | None) -> Iterator[SourceInfo]:
        """Files of a URL (a file, a folder, a glob) in a stable order, none held in memory.

        `filter` is a glob on names, or on paths below the root when it has a `/`.
        """

    def stat(self, url: str) -> SourceInfo:
        """One file's present state."""

    def open(self, url: str, pin: Pin | None = None, /) -> BinaryIO:
        """One file's content, seekable, in the pinned state or `source_changed`.

        Without a pin in one state all the same: the one it had when it was opened.
        """


class NoOptions(BaseModel):
    """Of stores that need none."""


STORES: Registry[type[Store]] = Registry("libs.stores", lambda: list(__path__), noun="store")


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


def store_for(url: str, access: Access, reach: Reach | None = None) -> Store:
    """The store of a URL's scheme; raises `unknown_store` naming the known ones."""
    return STORES.get(scheme(url))(access, reach or Reach())


def open_uri(uri: str, pin: str | None = None, reach: Reach | None = None) -> BinaryIO:
    """Opens an inventory's file in any process; picklable.

    What the operator allows and the secret that `reach` names come from this process's
    environment. With `pin` (see Pin.text) it is the file that was listed: else PermanentError
    `source_changed`.
    """
    known = Pin.parse(pin) if pin else None
    if scheme(uri) == "file":
        from libs.stores.file import open_file  # the inventory's own files, wherever they lie

        return open_file(uri, known.etag or None if known else None)
    return store_for(uri, Access(), reach).open(uri, known)


__all__ = [
    "STORES",
    "Access",
    "NoOptions",
    "Outside",
    "Pin",
    "Reach",
    "SourceInfo",
    "Store",
    "open_uri",
    "scheme",
    "store_for",
]
