"""http:// and https://: one file per URL, through the guard. See docs/sources.md."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from http import HTTPStatus
from typing import BinaryIO, ClassVar, cast

from libs.common.errors import PermanentError
from libs.common.manifest.urls import shown
from libs.stores import Access, NoOptions, Pin, Reach, SourceInfo, StoreOptions
from libs.stores._download import Download, Fetched, Sink, State, modified_at, refuse
from libs.stores._globs import accepts
from libs.stores._guard import Answer, Guard, Rules
from libs.stores._http_names import file_name
from libs.stores._http_ranges import Ranges, etag_of
from libs.stores._ranged import RangedFile

NO_HEAD = frozenset({400, 403, 404, 405, 500, 501})  # answers of servers that know only GET


class HttpStore:
    """One source's view of the web."""

    Options: ClassVar[type[StoreOptions]] = NoOptions

    def __init__(
        self, access: Access, reach: Reach | None = None, rules: Rules | None = None
    ) -> None:
        self._rules = rules or Rules.of(access.outside)
        self._guard, self._reach = Guard(self._rules), reach or Reach()

    def check(self, url: str) -> None:
        self._guard.check(url)

    def list(self, url: str, filter: str | None) -> Iterator[SourceInfo]:
        found = self.stat(url)
        if not accepts(found.path, filter):
            raise nothing(url, found.path, filter)
        yield found

    def stat(self, url: str) -> SourceInfo:
        """By HEAD, or by the first byte where a server doesn't know HEAD; size -1: not told."""
        headers = self._headers(url)
        with self._guard.open(url, headers, method="HEAD") as answer:
            if answer.status == HTTPStatus.OK:
                return _info(url, answer, answer.length)
            if answer.status not in NO_HEAD:
                refuse(answer)
        with self._guard.open(url, {**headers, "Range": "bytes=0-0"}) as answer:
            if answer.status == HTTPStatus.PARTIAL_CONTENT:
                total = answer.headers.get("content-range", "").rpartition("/")[2]
                return _info(url, answer, int(total) if total.isdecimal() else None)
            if answer.status != HTTPStatus.OK:
                refuse(answer)
            return _info(url, answer, answer.length)

    def open(self, url: str, pin: Pin | None = None) -> BinaryIO:
        """By ranges, all of one state. Raises `range_unsupported` where a server gives none."""
        if pin is None or pin.size < 0:
            found = self.stat(url)
            pin = Pin(found.etag, found.size)
        if pin.size < 0:
            raise PermanentError(
                f"{shown(url)}: the server doesn't say how long it is; leave source.copy at auto",
                code="length_unknown",
            )
        ranges = Ranges(self._guard, url, pin, self._headers(url), self._rules.patience)
        return cast(BinaryIO, RangedFile(ranges.read, pin.size, shown(url)))

    def fetch(self, url: str, into: Sink, known: State | None = None) -> Fetched | None:
        """The whole file into `into`; None when it still is in the `known` state."""
        return Download(self._guard, url, self._headers(url), self._rules.seconds).run(into, known)

    def _headers(self, url: str) -> dict[str, str]:
        """Credentials; over http:// only into a network of the operator's."""
        secret = self._reach.credentials()
        told = secret.first("authorization")
        if token := secret.first("token", "bearer", "accessToken"):
            told = f"Bearer {token}"
        elif (user := secret.first("username", "user")) is not None:
            pair = f"{user}:{secret.first('password') or ''}"
            told = f"Basic {base64.b64encode(pair.encode()).decode()}"
        if told is None:
            return {}
        if url.lower().startswith("http:") and not self._guard.private(url):
            raise PermanentError(
                f"{shown(url)}: credentials are not sent unencrypted; use https://",
                code="credentials_unencrypted",
            )
        return {"Authorization": told}


def nothing(url: str, name: str, filter: str | None) -> PermanentError:
    """The file isn't among those that the source's filter wants."""
    return PermanentError(
        f"{shown(url)}: the name {name!r} doesn't match the filter {filter!r}",
        code="no_matching_files",
    )


def _info(url: str, answer: Answer, size: int | None) -> SourceInfo:
    state = State.of(answer.headers)
    return SourceInfo(
        uri=url,
        path=file_name(url, answer.url, answer.headers.get("content-disposition")),
        size=-1 if size is None else size,
        etag=etag_of(state),
        mtime=modified_at(state.modified),
    )


PLUGIN = HttpStore
