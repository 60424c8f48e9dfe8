"""Dead letters keep what is needed to understand and to replay a message."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import orjson

from libs.common.bus.deadletters import MAX_BODY, Original, letter, message_id
from libs.common.errors import PermanentError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def an_original(body: bytes = b"{}") -> Original:
    return Original("OB_EVENTS", 7, "oneblock.event.x", {"Nats-Msg-Id": "abc"}, body)


def data_of(body: bytes) -> dict[str, object]:
    error = PermanentError("not JSON", code="invalid_event")
    envelope = orjson.loads(letter(an_original(body), error, "sink", NOW))
    data: dict[str, object] = envelope["data"]
    return data


def test_it_says_what_came_from_where_and_why_it_could_not_be_handled() -> None:
    data = data_of(b"hello")
    assert data["body"] == "hello"
    assert data["encoding"] == "utf-8"
    assert data["error"] == {"code": "invalid_event", "detail": "not JSON"}
    assert (data["stream"], data["sequence"]) == ("OB_EVENTS", 7)
    assert data["subject"] == "oneblock.event.x"
    assert data["headers"] == {"Nats-Msg-Id": "abc"}
    assert data["service"] == "sink"


def test_bytes_that_are_no_text_come_back_as_they_were() -> None:
    data = data_of(b"\xff\x00\xfe")
    assert data["encoding"] == "base64"
    assert base64.b64decode(str(data["body"])) == b"\xff\x00\xfe"


def test_a_large_body_is_cut_and_the_letter_says_so() -> None:
    data = data_of(b"x" * (MAX_BODY + 10))
    assert len(str(data["body"])) == MAX_BODY
    assert data["truncated"] is True
    assert data["bytes"] == MAX_BODY + 10


def test_a_bug_is_named_by_its_exception() -> None:
    envelope = orjson.loads(letter(an_original(), ValueError("bad \ud800"), "sink", NOW))
    assert envelope["data"]["error"]["code"] == "internal_error"
    assert "ValueError" in envelope["data"]["error"]["detail"]


def test_the_same_message_has_the_same_letter_id() -> None:
    assert message_id(an_original(b"a")) == message_id(an_original(b"b")) == "dead-OB_EVENTS-7"
