"""Reading a JSON request body: bounded, strict, and with a code for each way of being wrong."""

from __future__ import annotations

import json
import math
from typing import cast

from starlette.requests import Request

from libs.common.errors import PermanentError

MAX_BODY = 1 << 20  # bytes of a request body, unless a route says otherwise
MAX_DEPTH = 64  # levels of nesting
JSON_TYPES = frozenset({"application/json"})

Json = dict[str, object] | list[object] | str | int | float | bool | None


def media_type(request: Request) -> str:
    """The content type without parameters, in lower case; empty when none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The whole body; raises `too_large` as soon as it is longer than `limit`, or `empty_body`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PermanentError(f"the body is larger than {limit} bytes", code="too_large")
    if not body.strip():
        raise PermanentError("the body is empty; a JSON object is expected", code="empty_body")
    return bytes(body)


async def read_json(request: Request, limit: int = MAX_BODY) -> Json:
    """The JSON body of a request that is declared as JSON; anything else is a 415."""
    kind = media_type(request)
    if kind not in JSON_TYPES and not kind.endswith("+json"):
        raise unsupported_media_type(kind, ("application/json",))
    return parse_json(await read_body(request, limit))


async def read_object(request: Request, limit: int = MAX_BODY) -> dict[str, object]:
    """As `read_json`, and it must be an object."""
    value = await read_json(request, limit)
    if not isinstance(value, dict):
        raise PermanentError(
            f"a JSON object is expected, not {type(value).__name__}", code="invalid_value"
        )
    return value


def unsupported_media_type(kind: str, allowed: tuple[str, ...]) -> PermanentError:
    """415, naming what is taken."""
    said = f"content type {kind!r} is not taken here" if kind else "no content type was sent"
    return PermanentError(f"{said}; allowed: {', '.join(allowed)}", code="unsupported_media_type")


def parse_json(raw: bytes) -> Json:
    """Strict JSON: UTF-8, no duplicate keys, no NaN, 64-bit integers, at most MAX_DEPTH levels."""
    try:
        value = cast(
            Json,
            json.loads(
                raw.decode("utf-8"),
                object_pairs_hook=_object,
                parse_constant=_constant,
                parse_int=_integer,
                parse_float=_float,
            ),
        )
    except UnicodeDecodeError as error:
        raise PermanentError(
            f"the body is not UTF-8: byte {error.start} is wrong", code="invalid_json"
        ) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise PermanentError(
            f"the body is not valid JSON: {error.msg} ({where})", code="invalid_json"
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    _check(value)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise PermanentError(f"the key {twice!r} is given twice", code="duplicate_key", path=twice)
    return result


def _constant(name: str) -> float:
    raise PermanentError(f"{name} is not a JSON number", code="invalid_number")


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise PermanentError(
            f"the integer {text[:24]} does not fit in 64 bits", code="integer_out_of_range"
        )
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise PermanentError(f"the number {text[:24]} is too large", code="invalid_number")
    return value


def _check(value: Json) -> None:
    """Depth, and strings that are no Unicode (lone surrogates), without recursion."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        for item in level:
            if isinstance(item, str):
                _unicode(item)
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise _too_deep()


def _children(item: object) -> list[object]:
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    return item if isinstance(item, list) else []


def _unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PermanentError(
            f"a string holds half a surrogate pair at position {error.start}",
            code="invalid_string",
        ) from error


def _too_deep() -> PermanentError:
    return PermanentError(f"nested deeper than {MAX_DEPTH} levels", code="too_deep")
