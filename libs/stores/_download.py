"""One file over HTTP, whole: tried again, gone on with where it was cut off."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NoReturn, Protocol

from libs.common.errors import PermanentError, TransientError
from libs.stores._content_encoding import Gunzip, decoder
from libs.stores._guard import Answer, Guard
from libs.stores._http_names import file_name

TRIES = 5  # in a row that bring nothing
PROGRESS = 1 << 20  # bytes that count as something
LONGEST = 60.0  # seconds between two tries
RETRIED = frozenset({408, 425, 429}) | frozenset(range(500, 600))


@dataclass(frozen=True)
class State:
    """Which state of a resource is known: what a conditional request asks by."""

    etag: str = ""
    modified: str = ""  # Last-Modified, as it was told

    def changed_headers(self) -> dict[str, str]:
        """Asks for the body only if it is another one."""
        said = {"If-None-Match": self.etag, "If-Modified-Since": "" if self.etag else self.modified}
        return {name: value for name, value in said.items() if value}

    @property
    def strong(self) -> str:
        """What holds a range to this very state; empty where nothing does."""
        return "" if self.etag.startswith("W/") else self.etag or self.modified

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> State:
        return cls(headers.get("etag", ""), headers.get("last-modified", ""))


@dataclass(frozen=True)
class Fetched:
    """What came."""

    name: str
    size: int  # bytes handed on
    state: State
    mtime: float = 0.0


class Sink(Protocol):
    """Where the bytes go."""

    def write(self, block: bytes) -> None: ...

    def restart(self) -> None:
        """Everything that was written is void; it begins anew."""


@dataclass
class Download:
    """Use once. `sleep` and `clock` are for tests."""

    guard: Guard
    url: str
    headers: Mapping[str, str]
    seconds: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _state: State = field(init=False, default=State())
    _came: int = field(init=False, default=0)  # bytes of the body as it is sent
    _total: int | None = field(init=False, default=None)
    _decoder: Gunzip | None = field(init=False, default=None)

    def run(self, into: Sink, known: State | None = None) -> Fetched | None:
        """The whole body into `into`; None when it still is in the `known` state.

        Raises PermanentError `source_not_found`, `source_forbidden`, `source_refused`,
        `corrupt_file`, `decompression_limit`; TransientError `source_unavailable`; and what the
        guard raises.
        """
        until, tries = self.clock() + self.seconds, 0
        while True:
            before = self._came
            try:
                return self._once(into, known, until)
            except TransientError as error:
                if error.code not in ("source_unavailable", "dns"):
                    raise
                tries = 0 if self._came >= before + PROGRESS else tries + 1
                pause = _pause(tries, error)
                if tries >= TRIES or self.clock() + pause > until:
                    raise
                self.sleep(pause)

    def _once(self, into: Sink, known: State | None, until: float) -> Fetched | None:
        asked = {**self.headers, **(known.changed_headers() if known and not self._came else {})}
        if self._came:
            asked |= {"Range": f"bytes={self._came}-", "If-Range": self._state.strong}
        with self.guard.open(self.url, asked, deadline=until) as answer:
            if answer.status == HTTPStatus.NOT_MODIFIED:
                return None
            if answer.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._came:
                    self._restart(into)
                    raise Unavailable(f"{answer.name}: the rest of it isn't there any more")
                refuse(answer)
            self._begin(answer, into)
            try:
                for block in answer.blocks():
                    self._came += len(block)
                    for part in self._plain(block):
                        into.write(part)
            except TransientError:
                if self._came and not self._state.strong:  # nothing holds a range to this state
                    self._restart(into)
                raise
            return self._done(answer)

    def _begin(self, answer: Answer, into: Sink) -> None:
        """Goes on behind what is here, or begins anew when the server gives the whole."""
        if answer.status == HTTPStatus.PARTIAL_CONTENT and self._follows(answer):
            return
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            self._restart(into)
            raise Unavailable(f"{answer.name}: another range came than was asked for")
        if self._came:
            self._restart(into)
        self._state, self._total = State.of(answer.headers), answer.length
        name = file_name(self.url, answer.url, answer.headers.get("content-disposition"))
        self._decoder = decoder(answer, name)

    def _follows(self, answer: Answer) -> bool:
        told = answer.headers.get("content-range", "").removeprefix("bytes ")
        start, _, total = told.partition("-")[0], *told.rpartition("/")[1:]
        same = not total.isdecimal() or self._total is None or int(total) == self._total
        return self._came > 0 and start == str(self._came) and same

    def _restart(self, into: Sink) -> None:
        self._came, self._decoder = 0, None
        into.restart()

    def _plain(self, block: bytes) -> Iterable[bytes]:
        return self._decoder.parts(block) if self._decoder else (block,)

    def _done(self, answer: Answer) -> Fetched:
        size = self._came
        if self._decoder:
            size = self._decoder.finish()
        name = file_name(self.url, answer.url, answer.headers.get("content-disposition"))
        return Fetched(name, size, self._state, modified_at(self._state.modified))


class Unavailable(TransientError):
    """Not now; `after`: seconds that the server asks us to wait."""

    def __init__(self, detail: str, after: float = 0.0) -> None:
        super().__init__(detail, code="source_unavailable")
        self.after = after


def refuse(answer: Answer) -> NoReturn:
    """The error that a status stands for."""
    status, name = answer.status, answer.name
    said = f"{status} {http.client.responses.get(status, '')}".strip()
    if status in RETRIED:
        raise Unavailable(
            f"{name}: it answers {said}", wanted_pause(answer.headers.get("retry-after", ""))
        )
    if status in (404, 410):
        raise PermanentError(f"{name}: there is no such file ({said})", code="source_not_found")
    if status in (401, 403, 407):
        raise PermanentError(
            f"{name}: it may not be read ({said}); credentials come by spec.source.secretRef",
            code="source_forbidden",
        )
    raise PermanentError(f"{name}: it answers {said}", code="source_refused")


def wanted_pause(retry_after: str) -> float:
    """Seconds of a Retry-After, which is a number or a date; 0 where it says nothing."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    return max(0.0, modified_at(retry_after) - time.time())


def modified_at(text: str) -> float:
    """Seconds since the epoch of an HTTP date; 0 for none."""
    try:
        return float(parsedate_to_datetime(text).timestamp()) if text else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _pause(tries: int, error: TransientError) -> float:
    after = error.after if isinstance(error, Unavailable) else 0.0
    own = min(LONGEST, 0.2 * float(2**tries)) * random.uniform(0.5, 1.0)
    return max(own, min(after, LONGEST))
