"""CloudEvents 1.0 on NATS: written structured; read structured, binary, or as a bare manifest.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

import orjson
from pydantic import ValidationError

from libs.common.errors import PermanentError, Problem
from libs.common.events import FACTS, Fact, IngestRequested
from libs.common.ids import digest
from libs.common.manifest import reader
from libs.common.manifest.errors import ManifestError

MAX_BYTES = 1024 * 1024  # the server's limit; ours stay under 64 KB, a manifest may need more
HEADERS = 4096  # of that, what a message's headers may need
CONTENT_TYPE = "application/cloudevents+json"
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True)
class Received:
    """A fact as it came in."""

    id: str
    type: str
    time: datetime
    data: Fact
    trace: str  # W3C traceparent, "" when there was none
    source: str = ""


def to_structured(
    fact: Fact, *, source: str, time: datetime, trace: str = "", id: str | None = None
) -> bytes:
    """One JSON object; `id` defaults to the fact's own. PermanentError `event_too_large`."""
    envelope: dict[str, object] = {
        "specversion": "1.0",
        "id": id or fact.id(),
        "source": source,
        "type": fact.TYPE,
        "time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": fact.model_dump(mode="json"),
    }
    if trace:
        envelope["traceparent"] = trace
    body = orjson.dumps(envelope)
    if len(body) > MAX_BYTES - HEADERS:
        raise PermanentError(
            f"a {fact.TYPE} of {len(body)} bytes; at most {MAX_BYTES - HEADERS} fit in a message",
            code="event_too_large",
        )
    return body


def from_message(
    subject: str,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    position: str = "",
    received: datetime | None = None,
) -> Received:
    """The fact in a message; raises PermanentError `invalid_event`.

    `position` (stream, sequence and time of the message) makes the id of a message that brings
    none, so that its redelivery has the same id and another message of the same content another;
    `received` is the time of one that says none.
    """
    if len(body) > MAX_BYTES:
        raise invalid(f"{len(body)} bytes; at most {MAX_BYTES} are allowed")
    lower = {name.lower(): str(value) for name, value in (headers or {}).items()}
    envelope = _binary(lower, body) if "ce-specversion" in lower else _structured(subject, body)
    kind = _type(subject, envelope)
    data = _fact(kind, envelope.get("data"))
    fallback = lower.get("nats-msg-id") or digest([subject, position, data.id()])
    return Received(
        id=_text(envelope, "id") or fallback,
        type=kind,
        time=_time(_text(envelope, "time"), received),
        data=data,
        trace=_trace(lower.get("traceparent"), _text(envelope, "traceparent")),
        source=_text(envelope, "source"),
    )


def invalid(detail: str, problems: tuple[Problem, ...] = ()) -> PermanentError:
    """The error for a message that is no fact of ours."""
    return PermanentError(f"invalid event: {detail}", code="invalid_event", problems=problems)


def _binary(headers: Mapping[str, str], body: bytes) -> dict[str, object]:
    """Attributes from `ce-` headers (percent-encoded, as in the HTTP binding), data as body."""
    envelope: dict[str, object] = {
        name.removeprefix("ce-"): unquote(value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    manifest = envelope.get("type") == IngestRequested.TYPE
    return envelope | {"data": _bare(body) if manifest else _json(body)}


def _structured(subject: str, body: bytes) -> dict[str, object]:
    """A CloudEvent in JSON; or, where requests are taken, a manifest without any envelope."""
    request = subject == IngestRequested.TYPE
    value = _bare(body) if request else _json(body)
    if not isinstance(value, dict):
        raise invalid(f"a CloudEvent is a JSON object, this is a {type(value).__name__}")
    if "specversion" not in value:
        if not request:
            raise invalid("neither `specversion` in the object nor a `ce-specversion` header")
        return {"specversion": "1.0", "type": subject, "data": value}
    return value | _data(value)


def _data(envelope: Mapping[str, object]) -> dict[str, object]:
    encoded = envelope.get("data_base64")
    if encoded is None:
        return {}
    try:
        return {"data": _json(base64.b64decode(str(encoded), validate=True))}
    except ValueError as error:
        raise invalid(f"data_base64: {error}") from error


def _type(subject: str, envelope: Mapping[str, object]) -> str:
    version = _text(envelope, "specversion")
    if not re.fullmatch(r"1\.\d+", version):
        raise invalid(f"specversion {version[:20]!r}; known: 1.0")
    kind = _text(envelope, "type")
    if kind not in FACTS:
        raise invalid(f"unknown type {kind[:120]!r}; known: {', '.join(sorted(FACTS))}")
    if subject in FACTS and subject != kind:
        raise invalid(f"type {kind!r} on the subject {subject!r}")
    return kind


def _fact(kind: str, data: object) -> Fact:
    if kind == IngestRequested.TYPE and isinstance(data, dict) and "manifest" not in data:
        data = {"manifest": data}
    try:
        return FACTS[kind].model_validate(data)
    except ValidationError as error:
        problems = tuple(
            Problem("invalid_event", found["msg"], ".".join(str(part) for part in found["loc"]))
            for found in error.errors(include_url=False, include_input=False)
        )
        said = "; ".join(str(problem) for problem in problems[:3])
        raise invalid(f"{kind}: {said}", problems) from error


def _bare(body: bytes) -> object:
    """JSON, or YAML as people write manifests."""
    if body.lstrip()[:1] == b"{":
        return _json(body)
    try:
        return reader.read(body)
    except ManifestError as error:
        raise invalid(error.detail, error.problems) from error


def _json(body: bytes) -> object:
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"not JSON: {error}") from error
    return value


def _text(envelope: Mapping[str, object], name: str) -> str:
    value = envelope.get(name, "")
    if not isinstance(value, str):
        raise invalid(f"the attribute {name!r} must be a string")
    return value


def _time(text: str, received: datetime | None) -> datetime:
    if not text:
        return received or datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(f"time {text[:40]!r} is not RFC 3339") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _trace(*candidates: str | None) -> str:
    return next((found for found in candidates if found and _TRACE.fullmatch(found)), "")
