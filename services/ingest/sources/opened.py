"""Opens what is compressed or an archive, so that the inventory names the files inside.

A compression is undone once, into the warehouse, since it can be read from its start alone. Members
of archives stay where they are and are referred to, except large ones that are deflated. With
`copy: never` nothing is written: workers undo it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from libs.stores import SourceInfo, _zip
from libs.stores._archives import Kind, Limits, Member, members
from libs.stores._compressed import expanded
from services.ingest.sources.copies import Copies, Stop

LARGE = 32 << 20  # bytes from which a deflated member is kept expanded: its splits read parts of it

Open = Callable[[SourceInfo], BinaryIO]


class Opening:
    """`copies`: where to expand to; None: nowhere. `open`: a listed file in its listed state."""

    def __init__(self, limits: Limits, copies: Copies | None, open: Open, stop: Stop) -> None:
        self._limits, self._copies, self._open, self._stop = limits, copies, open, stop

    def files(self, found: SourceInfo, *, root: bool) -> Iterator[SourceInfo]:
        """The file, or what is in it. `root`: its members' paths begin in it, not beside it."""
        kind = Kind.of(found.path)
        if kind is None:
            yield found
            return
        inner = self._uncompressed(found, kind) if kind.compression else found
        if not kind.container:
            yield inner
            return
        above = "" if root else f"{found.path}/"
        with self._open(inner) as file, closing(self._members(file, kind, found.path)) as all_of:
            for member in all_of:
                self._stop()
                yield self._member(inner, member, above + member.path)

    def _members(self, file: BinaryIO, kind: Kind, name: str) -> Generator[Member]:
        yield from members(file, kind.container, name, self._limits)

    def _member(self, archive: SourceInfo, member: Member, path: str) -> SourceInfo:
        uri = member.address(archive.uri, archive.size)
        deflated = member.how == "zip" and member.numbers[-1] != _zip.STORED
        if deflated and member.size > LARGE and self._copies is not None:
            parts = partial(self._inflated, archive, member)
            return self._copies.expanded(archive, path, parts, part=member.path)
        return replace(archive, uri=uri, path=path, size=member.size, sha256="")

    def _uncompressed(self, found: SourceInfo, kind: Kind) -> SourceInfo:
        path = kind.inner(found.path)
        parts = partial(self._expanded, found, kind.compression)
        if self._copies is not None:
            return self._copies.expanded(found, path, parts)
        size = 0
        with closing(parts()) as blocks:
            for block in blocks:
                self._stop()
                size += len(block)
        member = Member(path.rpartition("/")[2], size, kind.compression, (size,))
        uri = member.address(found.uri, found.size)
        return replace(found, uri=uri, path=path, size=size, sha256="")

    def _expanded(self, found: SourceInfo, compression: str) -> Generator[bytes]:
        with self._open(found) as file:
            yield from expanded(file, compression, found.path, self._limits)

    def _inflated(self, archive: SourceInfo, member: Member) -> Generator[bytes]:
        with self._open(archive) as file:
            yield from _zip.inflated(file, member.numbers, f"{archive.path}!/{member.path}")
