"""Pieces of a file over HTTP, all of the state that was listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from libs.common.errors import PermanentError, TransientError
from libs.stores import Pin
from libs.stores._download import State, refuse
from libs.stores._guard import Answer, Guard
from libs.stores._patience import Patience


@dataclass(frozen=True)
class Ranges:
    """What RangedFile asks for its bytes; threads may share it."""

    guard: Guard
    url: str
    pin: Pin
    headers: Mapping[str, str] = field(repr=False)
    patience: float

    def read(self, start: int, stop: int) -> bytes:
        """Exactly these bytes.

        Raises PermanentError `source_changed`, `range_unsupported`; TransientError
        `source_unavailable`, `too_slow`.
        """
        asked = {**self.headers, "Range": f"bytes={start}-{stop - 1}"}
        if self.pin.etag.startswith('"'):
            asked["If-Match"] = self.pin.etag
        patience = Patience(self.url.partition("?")[0], self.patience)
        while True:
            try:
                return self._once(asked, start, stop)
            except TransientError as error:
                if error.code != "source_unavailable":
                    raise
                patience.wait(error, error.detail)

    def _once(self, asked: Mapping[str, str], start: int, stop: int) -> bytes:
        with self.guard.open(self.url, asked) as answer:
            self._check(answer, start, stop)
            found = b"".join(answer.blocks())
        if len(found) != stop - start:
            raise self._changed(answer)
        return found

    def _check(self, answer: Answer, start: int, stop: int) -> None:
        gone = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        if answer.status in gone:
            raise self._changed(answer)
        whole = start == 0 and answer.length == stop == self.pin.size
        if answer.status == HTTPStatus.OK and not whole:
            raise PermanentError(
                f"{answer.name}: this server gives whole files alone; leave source.copy at auto",
                code="range_unsupported",
            )
        if answer.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            refuse(answer)
        expected = f"bytes {start}-{stop - 1}/{self.pin.size}"
        same = whole or answer.headers.get("content-range", "") == expected
        if not same or self._other(answer):
            raise self._changed(answer)

    def _other(self, answer: Answer) -> bool:
        found = etag_of(State.of(answer.headers))
        return bool(self.pin.etag) and found != self.pin.etag

    def _changed(self, answer: Answer) -> PermanentError:
        return PermanentError(
            f"{answer.name} changed after it was listed; run again", code="source_changed"
        )


def etag_of(state: State) -> str:
    """The best word for a state; without `#`, which pins are parted by."""
    return (state.etag or state.modified).replace("#", "%23")
