"""Cursors: where a page ended, opaque to those who pass them back."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated

import orjson
from pydantic import Field

from libs.common.errors import PermanentError
from services.catalog.api.context import Asked
from services.catalog.store.queries import Position, Row

MAX_ITEMS = 1000
Cursor = Annotated[str | None, Field(max_length=4096, description="`next_cursor` of a page")]
Limit = Annotated[int, Field(ge=1, le=MAX_ITEMS)]


class PageAsked(Asked):
    """Which page of a list."""

    cursor: Cursor = None
    limit: Limit = 100

    def position(self) -> Position | None:
        """What the cursor says; raises `invalid_cursor`."""
        if self.cursor is None:
            return None
        match decode(self.cursor):
            case [str(at), str(key)] if "\0" not in key:
                return _moment(at), key
        raise invalid_cursor()


def after(items: list[Row], limit: int) -> str | None:
    """The cursor behind a page of rows; None when it was the last."""
    if len(items) < limit:
        return None
    created = items[-1]["created_at"]
    assert isinstance(created, datetime)
    return encode([created.isoformat(), items[-1]["key"]])


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def decode(text: str) -> object:
    """Raises `invalid_cursor` for what no page has given."""
    try:
        value: object = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", True))
    except (ValueError, binascii.Error) as error:
        raise invalid_cursor() from error
    return value


def invalid_cursor() -> PermanentError:
    return PermanentError(
        "the cursor is none that a page of this list gave as next_cursor",
        code="invalid_cursor",
        path="query.cursor",
    )


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid_cursor() from error
    if moment.tzinfo is None or not 1971 < moment.year < 9000:
        raise invalid_cursor()
    return moment
