"""One request and its answer, decided without any I/O: what to send, when to ask again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx

from oneblock.errors import ApiError, NotRunning

Service = Literal["catalog", "ingest"]

# Nobody answered, or not in full: asking again with the same key is safe.
TROUBLE = (httpx.TransportError,)
RETRIED = frozenset({502, 503, 504})

HINTS = {
    401: "set ONEBLOCK_TOKEN, or pass token=; make one with `oneblock token create`",
    403: "use a token with that scope: `oneblock token create --scope …`",
    503: "see what is wrong with `oneblock status`; nothing that was accepted is lost",
}


@dataclass(frozen=True)
class Request:
    """What is sent to a service; `key` makes a repeated request the same request."""

    service: Service
    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: object = None
    text: str | None = None  # a body of `content_type`, instead of `json`
    content_type: str = "application/yaml"
    key: str | None = None
    content: bytes | None = None  # a body of bytes, instead of both
    more: Mapping[str, str] = field(default_factory=dict)  # headers

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice is the same as sending it once."""
        return self.key is not None or self.method in ("GET", "HEAD", "PUT", "DELETE")

    def carrying(self, body: Mapping[str, Any] | str) -> Request:
        """The same with a body: JSON, or YAML as it was written."""
        return replace(self, text=body) if isinstance(body, str) else replace(self, json=body)

    def headers(self, token: str) -> dict[str, str]:
        head = {"Accept": "application/json"}
        if token:
            head["Authorization"] = f"Bearer {token}"
        if self.key:
            head["Idempotency-Key"] = self.key
        if self.text is not None:
            head["Content-Type"] = self.content_type
        return {**head, **self.more}

    def query(self) -> dict[str, Any]:
        """The parameters that have a value."""
        return {k: v for k, v in self.params.items() if v is not None}


def tus_metadata(**said: str) -> str:
    """As tus wants it: names, and values in base64."""
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in said.items())


def pause(attempt: int, response: httpx.Response | None) -> float:
    """Seconds before asking again: Retry-After where it was told, else doubling from 0.1."""
    told = response.headers.get("retry-after", "") if response is not None else ""
    backoff = float(min(0.1 * 2**attempt, 2.0))
    return min(float(told), 5.0) if told.isdigit() else backoff


def refused(response: httpx.Response) -> ApiError:
    """The answer as an error. The body must have been read."""
    try:
        problem = response.json()
    except ValueError:
        problem = {"detail": response.text[:500]}
    if not isinstance(problem, Mapping):
        problem = {"detail": str(problem)[:500]}
    return ApiError(response.status_code, problem, hint=HINTS.get(response.status_code, ""))


def unreachable(service: Service, base: str, error: Exception) -> NotRunning:
    """Nobody answered at `base`."""
    why = str(error) or type(error).__name__
    return NotRunning(
        f"{service} does not answer at {base or 'any known address'}: {why}",
        hint="start the stack with `oneblock up`; see how it is with `oneblock status`",
    )
