"""Stores, one file per URL scheme: listing, looking at and opening source files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from libs.common.errors import PermanentError, Problem
from libs.common.registry import Registry
from libs.common.secrets import Secret, resolve
from libs.stores._archives import Address, Limits
from libs.stores._pins import Pin
from libs.stores._settings import Outside

if TYPE_CHECKING:
    from libs.common.manifest import DataSet


OPTIONS = "spec.source.options"
M = TypeVar("M", bound="StoreOptions")


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

    @classmethod
    def of(cls, dataset: DataSet) -> Reach:
        """Of a dataset's source."""
        source = dataset.spec.source
        theirs = _store_options(source.url)
        options = {name: value for name, value in source.options.items() if name in theirs}
        secret = source.secretRef.name if source.secretRef else ""
        return cls(options, secret, dataset.metadata.namespace)

    def credentials(self) -> Secret:
        """What the secret holds now; empty where none is named. Raises `secret_not_found`."""
        try:
            return resolve(self.secret, self.namespace) if self.secret else Secret({})
        except PermanentError as error:
            path = "spec.source.secretRef"
            raise PermanentError(error.detail, code=error.code, path=path) from error

    def parsed(self, model: type[M]) -> M:
        """The options as a store wants them; raises PermanentError `invalid_option`."""
        try:
            return model.model_validate(self.options)
        except ValidationError as invalid:
            said = invalid.errors(include_url=False, include_input=False)
        wrong = tuple(
            Problem("invalid_option", one["msg"], ".".join((OPTIONS, *map(str, one["loc"]))))
            for one in said
        )
        text = "; ".join(str(problem) for problem in wrong)
        raise PermanentError(text, code="invalid_option", path=OPTIONS, problems=wrong)


def reader_options(dataset: DataSet) -> dict[str, JsonValue]:
    """What of source.options is for the format's reader."""
    theirs = _store_options(dataset.spec.source.url)
    return {n: value for n, value in dataset.spec.source.options.items() if n not in theirs}


def _store_options(urls: Iterable[str]) -> set[str]:
    """Names of the options that the stores of these URLs have."""
    known = {scheme(url) for url in urls} & set(STORES.keys())
    return {"archives", *(name for key in known for name in STORES.get(key).Options.model_fields)}


class Store(Protocol):
    """One scheme. Blocks: call it off the event loop.

    Raises PermanentError: `invalid_url`, `invalid_option`, `path_outside_root`,
    `endpoint_forbidden`, `source_not_found`, `source_forbidden`, `not_a_file`,
    `no_matching_files`, `source_changed`, `secret_not_found`; TransientError:
    `source_unavailable`, `too_slow`, `dns`.
    """

    Options: ClassVar[type[StoreOptions]]

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


class StoreOptions(BaseModel):
    """What source.options may say of a store; everything else there is for the format's reader."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class NoOptions(StoreOptions):
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
    if (address := Address.parse(uri)) is not None:
        outer = replace(known, size=address.outer_size) if known else None
        opener = partial(open_uri, address.outer, outer.text() if outer else None, reach)
        from libs.stores._members import open_member

        return open_member(address, f"{uri} {pin}", opener, Limits.of(Outside()))
    if uri.startswith("file:") or scheme(uri) == "file":
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
    "StoreOptions",
    "open_uri",
    "reader_options",
    "scheme",
    "store_for",
]
