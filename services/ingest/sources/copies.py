"""Copies of source files, made once per state of the file: what was copied is remembered."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from libs.common.ids import digest
from libs.stores import Pin, Reach, SourceInfo, Store
from libs.stores._download import Fetched, Sink, State
from libs.warehouse import InventoryFile
from libs.warehouse.files import write_atomically
from services.ingest.sources.content import Content, Kept, Spool

REMEMBERED = ".copies"
BLOCK = 4 << 20

Stop = Callable[[], None]  # raises when the copy isn't wanted any more


@runtime_checkable
class Fetching(Protocol):
    """A store that hands a file on as it comes, and knows an unchanged one without reading it."""

    def fetch(self, url: str, into: Sink, known: State | None = None) -> Fetched | None: ...


class Copy(BaseModel):
    """What is remembered of a file that was copied."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    size: int
    path: str
    mtime: float = 0.0
    etag: str = ""
    modified: str = ""
    version_id: str = ""


class Copies:
    """Copies files into `content`."""

    def __init__(self, content: Content, reach: Reach, stop: Stop) -> None:
        self._content, self._reach, self._stop = content, reach, stop

    def fetched(self, store: Fetching, url: str) -> SourceInfo:
        """The file of a URL as it is now; asked for conditionally when it is known."""
        known = self._known(url)
        state = State(known.etag, known.modified) if known else None
        with self._content.receive() as spool:
            found = store.fetch(url, _Stopping(spool, self._stop), state)
            if found is None:
                assert known is not None
                return self._info(known)
            kept = spool.keep()
        etag, modified = found.state.etag, found.state.modified
        copy = Copy(path=found.name, mtime=found.mtime, etag=etag, modified=modified, **vars(kept))
        if etag or modified:
            self._remember(url, copy)
        return self._info(copy)

    def copied(self, store: Store, found: SourceInfo) -> SourceInfo:
        """A listed file in the state that was listed; not read when that was copied before."""
        known = self._known(found.uri)
        now = (found.etag, found.version_id, found.size)
        if known and found.etag and (known.etag, known.version_id, known.size) == now:
            return replace(self._info(known), path=found.path)
        pin = Pin(found.etag, found.size, found.version_id)
        with self._content.receive() as spool, store.open(found.uri, pin) as file:
            while block := file.read(BLOCK):
                self._stop()
                spool.write(block)
            kept = spool.keep()
        state = {"etag": found.etag, "version_id": found.version_id, "mtime": found.mtime}
        copy = Copy.model_validate({"path": found.path, **state, **vars(kept)})
        if found.etag:
            self._remember(found.uri, copy)
        return self._info(copy)

    def expanded(
        self, found: SourceInfo, path: str, parts: Callable[[], Generator[bytes]], part: str = ""
    ) -> SourceInfo:
        """What a listed file becomes; `part`: which part of it. Not expanded anew unless changed.

        The result is called `path`.
        """
        key = f"{found.uri}!/{part}"
        state = InventoryFile(**{**vars(found), "path": ""}).state()
        known = self._known(key)
        if known and state and known.etag == state:
            return replace(self._info(known), path=path)
        with self._content.receive() as spool, closing(parts()) as blocks:
            for block in blocks:
                self._stop()
                spool.write(block)
            kept = spool.keep()
        copy = Copy(path=path, mtime=found.mtime, etag=state, **vars(kept))
        self._remember(key, copy)
        return self._info(copy)

    def _info(self, copy: Copy) -> SourceInfo:
        return self._content.info(Kept(copy.sha256, copy.size), copy.path, copy.mtime)

    def _known(self, uri: str) -> Copy | None:
        """What is remembered, if the copy still is there."""
        with suppress(FileNotFoundError, ValidationError):
            known = Copy.model_validate_json(self._place(uri).read_bytes())
            return known if self._content.find(known.sha256, known.size) else None
        return None

    def _remember(self, uri: str, copy: Copy) -> None:
        write_atomically(self._place(uri), copy.model_dump_json().encode())

    def _place(self, uri: str) -> Path:
        """By the URL and who asks: another's credentials may show another file."""
        key = digest([uri, self._reach.secret, self._reach.namespace, self._reach.options])
        return self._content.folder / REMEMBERED / key[:2] / f"{key}.json"


class _Stopping:
    """Gives up between two blocks when the run isn't wanted any more."""

    def __init__(self, spool: Spool, stop: Stop) -> None:
        self.restart, self._spool, self._stop = spool.restart, spool, stop

    def write(self, block: bytes) -> None:
        self._stop()
        self._spool.write(block)
