"""The source files of a dataset: listed, copied where the manifest wants it, archives opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict

from libs.common.errors import OneBlockError, PermanentError
from libs.common.ids import source_id
from libs.common.manifest import DataSet
from libs.common.manifest.urls import shown
from libs.stores import Access, Pin, Reach, SourceInfo, open_uri, store_for
from libs.stores._archives import Address, Limits
from libs.stores._globs import accepts
from services.ingest.sources.content import Content
from services.ingest.sources.copies import Copies, Fetching, Stop
from services.ingest.sources.opened import Opening


class Archives(BaseModel):
    """What source.options says of archives, whatever the store and the format."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    archives: bool = True  # opened; else they are files like any other


def sources(dataset: DataSet, access: Access, stop: Stop = lambda: None) -> Iterator[SourceInfo]:
    """Every file of every source URL in a stable order; what two URLs find comes once.

    Blocks, and may copy: `stop` raises to give up.
    """
    source = dataset.spec.source
    finding = _Finding(dataset, access, stop)
    seen: set[int] = set()
    for index, url in enumerate(source.url):
        try:
            for found in finding.files(url):
                if len(source.url) > 1:
                    alike = found.path if found.sha256 else ""  # one content, several files
                    if (known := source_id(f"{found.uri}\0{alike}")) in seen:
                        continue
                    seen.add(known)
                yield found
        except PermanentError as error:
            raise placed(error, dataset, index) from error


def placed(error: OneBlockError, dataset: DataSet, index: int) -> PermanentError:
    """The error with its place in the manifest: an option or the secret, else the URL."""
    path = error.path if error.path and error.path.startswith("spec.") else "spec.source.url"
    if path == "spec.source.url" and len(dataset.spec.source.url) > 1:
        path = f"{path}[{index}]"
    return PermanentError(error.detail, code=error.code, path=path)


class _Finding:
    """What a dataset's URLs name now."""

    def __init__(self, dataset: DataSet, access: Access, stop: Stop) -> None:
        source = dataset.spec.source
        self._access, self._reach = access, Reach.of(dataset)
        self._filter, self._copy = source.filter, source.copy_
        self._copies: Copies | None = None
        if access.uploads is not None:
            self._copies = Copies(Content(access.uploads), self._reach, stop)
        self._open_archives = Archives.model_validate(self._reach.options).archives
        into = self._copies if source.copy_ != "never" else None
        self._opening = Opening(Limits.of(access.outside), into, self._open, stop)

    def files(self, url: str) -> Iterator[SourceInfo]:
        """Files and members of archives that the filter lets through."""
        count = 0
        for found in self._listed(url):
            for one in self._opened(url, found):
                if accepts(found.path, self._filter) or accepts(one.path, self._filter):
                    count += 1
                    yield one
        if not count:
            raise _nothing(url, self._filter)

    def _opened(self, url: str, found: SourceInfo) -> Iterator[SourceInfo]:
        if not self._open_archives:
            return iter((found,))
        return self._opening.files(found, root=_is_itself(url, found.path))

    def _listed(self, url: str) -> Iterator[SourceInfo]:
        """As the store lists them, copied where that is wanted."""
        store = store_for(url, self._access, self._reach)
        if self._copies is not None and self._copy != "never" and isinstance(store, Fetching):
            yield self._copies.fetched(store, url)
            return
        for found in store.list(url, None if self._open_archives else self._filter):
            copied = self._copy == "always" and not found.sha256
            yield self._copies.copied(store, found) if copied and self._copies else found

    def _open(self, found: SourceInfo) -> BinaryIO:
        return open_listed(self._access, self._reach, found)


def open_listed(access: Access, reach: Reach, found: SourceInfo) -> BinaryIO:
    """A listed file, or a copy of one, in the state in which it was listed."""
    pin = Pin(found.etag, found.size, found.version_id)
    if found.uri.startswith("file:") or Address.parse(found.uri) is not None:
        return open_uri(found.uri, pin.text(), reach)
    return store_for(found.uri, access, reach).open(found.uri, pin)


def _is_itself(url: str, path: str) -> bool:
    """Whether a URL names this very file, rather than a folder or a glob that has it."""
    scheme, _, rest = url.partition("://")
    alone = scheme.lower() in ("http", "https", "upload")
    return alone or ("/" not in path and unquote(rest).endswith("/" + path))


def _nothing(url: str, filter: str | None) -> PermanentError:
    what = f"that the filter {filter!r} lets through" if filter else "in it"
    return PermanentError(f"{shown(url)}: no file {what}", code="no_matching_files")
