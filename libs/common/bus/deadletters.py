"""Dead letters: a message that can't be handled, whole enough to be replayed, and the reason."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson

from libs.common.errors import OneBlockError

MAX_BODY = 256 * 1024  # bytes of the original that are kept
MAX_DETAIL = 4096  # characters
TYPE = "oneblock.dead.letter"


@dataclass(frozen=True)
class Original:
    """The message as it came."""

    stream: str
    sequence: int
    subject: str
    headers: Mapping[str, str]
    body: bytes


def subject(service: str) -> str:
    return f"oneblock.dead.{service}"


def message_id(original: Original) -> str:
    """Same message, same id: a message is buried once, however often it comes back."""
    return f"dead-{original.stream}-{original.sequence}"


def letter(original: Original, error: Exception, service: str, time: datetime) -> bytes:
    """A CloudEvent that holds the original and says why it is here."""
    code = error.code if isinstance(error, OneBlockError) else "internal_error"
    detail = str(error) if isinstance(error, OneBlockError) else f"{type(error).__name__}: {error}"
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": message_id(original),
            "source": f"oneblock/{service}",
            "type": TYPE,
            "time": time.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "service": service,
                "stream": original.stream,
                "sequence": original.sequence,
                "subject": original.subject,
                "headers": _headers(original.headers),
                "error": {"code": code, "detail": _clean(detail)[:MAX_DETAIL]},
                **_body(original.body),
            },
        }
    )


def _body(body: bytes) -> dict[str, object]:
    """Text where it is text, else base64; cut where it is too long, and said so."""
    kept = body[:MAX_BODY]
    cut: dict[str, object] = {"bytes": len(body), "truncated": len(body) > MAX_BODY}
    try:
        return {"body": kept.decode(), "encoding": "utf-8", **cut}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(kept).decode(), "encoding": "base64", **cut}


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {_clean(name)[:256]: _clean(str(value))[:4096] for name, value in headers.items()}


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON can't carry."""
    return text.encode("utf-8", "replace").decode()
