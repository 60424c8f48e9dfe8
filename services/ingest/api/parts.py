"""What the routes share: the manifest in a body, digest headers, descriptions for OpenAPI."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from starlette.requests import Request

from libs.common.errors import PermanentError
from libs.common.manifest import DataSet, reader
from libs.common.web.body import media_type, parse_json, read_body, unsupported_media_type
from services.ingest.requests import read_manifest

JSON = "application/json"
YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
BODY_LIMIT = reader.MAX_BYTES + 1024
HEX = re.compile(r"[0-9a-fA-F]{64}")
CONTENT_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):")

MANIFEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A DataSet manifest",
        "content": {
            kind: {"schema": {"$ref": "#/components/schemas/DataSet"}}
            for kind in (JSON, "application/yaml")
        },
    }
}
UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file's bytes, raw; no multipart",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
MEANINGS = {
    400: "The body is missing, cut off, or no JSON",
    401: "A token is needed, or this one is not valid",
    403: "The token lacks the scope",
    404: "No such thing, or not in a namespace of yours",
    408: "The body comes too slowly",
    410: "It has expired",
    412: "The protocol version is another",
    423: "Another process writes to it",
    460: "The checksum is wrong",
    409: "It conflicts with what is there",
    413: "The body is too large",
    415: "The content type is not taken",
    422: "Something in the request is wrong; `errors` lists everything",
    500: "An unexpected error; `instance` finds it in the log",
    503: "NATS is away; try again after Retry-After seconds",
    507: "The disk is full",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI; 401, 403 and 500 belong to every one."""
    schema = {"$ref": "#/components/schemas/ProblemAnswer"}
    content = {"application/problem+json": {"schema": schema}}
    every = sorted({*statuses, 401, 403, 500})
    return {status: {"description": MEANINGS[status], "content": content} for status in every}


async def manifest_of(request: Request) -> DataSet:
    """The manifest in the body: JSON strictly, YAML safely; sniffed when no type is given."""
    kind = media_type(request)
    if kind not in ("", JSON, "application/octet-stream", *YAML) and not kind.endswith("+json"):
        raise unsupported_media_type(kind, (JSON, YAML[0]))
    body = await read_body(request, BODY_LIMIT)
    as_json = kind == JSON or kind.endswith("+json")
    if not as_json:
        return read_manifest(body)
    value = parse_json(body)
    if not isinstance(value, dict):
        raise PermanentError("a manifest is a JSON object", code="invalid_manifest")
    return read_manifest(value)


def announced_sha256(request: Request) -> str | None:
    """The checksum that the sender announces, as hex; raises `bad_request` for a malformed one."""
    if given := request.headers.get("x-checksum-sha256"):
        return given.lower() if HEX.fullmatch(given) else _hex(given, "X-Checksum-Sha256")
    for header in ("content-digest", "repr-digest"):
        if found := CONTENT_DIGEST.search(request.headers.get(header, "")):
            return _hex(found[1], header)
    return None


def announced_size(request: Request) -> int | None:
    """Content-Length, which a chunked body doesn't have."""
    given = request.headers.get("content-length", "")
    return int(given) if given.isdigit() else None


def _hex(text: str, header: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise PermanentError(
            f"{header}: a SHA-256 has 64 hex digits, or 32 bytes in base64", code="bad_request"
        )
    return raw.hex()
