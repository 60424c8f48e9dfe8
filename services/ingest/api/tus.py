"""/v1/uploads as tus 1.0 wants it: creation, creation-with-upload, checksum, expiration,
termination."""

from __future__ import annotations

import base64
import binascii
from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common import metrics
from libs.common.errors import PermanentError
from libs.common.web.body import media_type, unsupported_media_type
from libs.common.web.tokens import require
from libs.stores.upload import upload_url
from services.ingest import names
from services.ingest.api.datasets import Wired
from services.ingest.api.parts import HEX, errors
from services.ingest.tus.notes import Note
from services.ingest.tus.resumable import ALGORITHMS, Checksum

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,expiration,termination"
BODY = "application/offset+octet-stream"
MAX_METADATA = 4096
ALWAYS = {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}

router = APIRouter(tags=["uploads"], dependencies=[Depends(require("write"))])
Offset = Annotated[int, Header(alias="upload-offset", ge=0)]


class Speaking:
    """Every answer to a tus client says the version; a method may come by a header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "tus-resumable" not in headers or not scope["path"].startswith("/v1/uploads"):
            return await self._app(scope, receive, send)
        method = headers.get("x-http-method-override", "").upper()
        if scope["method"] == "POST" and method in ("PATCH", "DELETE", "HEAD"):
            scope = {**scope, "method": method}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = MutableHeaders(scope=message)
                said["Tus-Resumable"] = said["Tus-Version"] = VERSION
            await send(message)

        await self._app(scope, receive, told)


def _spoken(request: Request) -> None:
    """The client's version must be ours."""
    if request.headers.get("tus-resumable") != VERSION:
        raise PermanentError(
            f"Tus-Resumable: {VERSION} is needed; a plain upload is PUT /v1/uploads/<name>",
            code="tus_version",
        )


Tus = Depends(_spoken)


@router.options("/v1/uploads", status_code=204, summary="What of tus is spoken here")
async def options(wired: Wired) -> Response:
    said = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(wired.resumable.limits.max_bytes),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    return Response(status_code=204, headers={**ALWAYS, **said})


@router.post(
    "/v1/uploads",
    status_code=201,
    summary="Begin an upload that can be resumed (tus)",
    dependencies=[Tus],
    responses=errors(400, 412, 413, 415, 422, 503, 507),
)
async def create(
    request: Request,
    wired: Wired,
    upload_length: Annotated[int, Header(ge=0)],
    upload_metadata: Annotated[str, Header(max_length=MAX_METADATA)] = "",
) -> Response:
    said = _metadata(upload_metadata)
    name = names.checked_path(said.get("path") or said.get("filename") or "upload")
    note = await wired.resumable.create(name, upload_length, upload_metadata, _announced(said))
    headers = {"Location": f"{request.url.path}/{note.id}", "Upload-Expires": _expires(note)}
    if media_type(request) == BODY:
        note, offset = await wired.resumable.append(note.id, 0, request.stream(), _sum(request))
        headers |= _state(note, offset)
    return Response(status_code=201, headers={**ALWAYS, **headers})


@router.head(
    "/v1/uploads/{upload}",
    status_code=200,
    summary="How much of an upload is here (tus)",
    dependencies=[Tus],
    responses=errors(404, 410, 412),
)
async def look(upload: str, wired: Wired) -> Response:
    note, offset = await wired.resumable.look(upload)
    more = {"Upload-Metadata": note.metadata} if note.metadata else {}
    return Response(headers={**ALWAYS, **_state(note, offset), **more})


@router.patch(
    "/v1/uploads/{upload}",
    status_code=204,
    summary="Send on (tus)",
    dependencies=[Tus],
    openapi_extra={
        "requestBody": {"content": {BODY: {"schema": {"type": "string", "format": "binary"}}}}
    },
    responses=errors(400, 404, 408, 409, 410, 412, 413, 415, 422, 423, 460, 503, 507),
)
async def append(upload: str, request: Request, wired: Wired, upload_offset: Offset) -> Response:
    if media_type(request) != BODY:
        raise unsupported_media_type(media_type(request), (BODY,))
    note, offset = await wired.resumable.append(
        upload, upload_offset, request.stream(), _sum(request)
    )
    if note.done:
        metrics.BYTES.labels("upload").inc(note.length)
    return Response(status_code=204, headers={**ALWAYS, **_state(note, offset)})


@router.delete(
    "/v1/uploads/{upload}",
    status_code=204,
    summary="Give an upload up (tus)",
    dependencies=[Tus],
    responses=errors(404, 410, 412),
)
async def remove(upload: str, wired: Wired) -> Response:
    await wired.resumable.remove(upload)
    return Response(status_code=204, headers=ALWAYS)


def _state(note: Note, offset: int) -> dict[str, str]:
    """Offset and length; of a finished upload also the URL that a manifest names."""
    said = {
        "Upload-Offset": str(offset),
        "Upload-Length": str(note.length),
        "Upload-Expires": _expires(note),
    }
    if note.done and note.sha256:
        said["OneBlock-Upload-Url"] = upload_url(note.sha256, note.name)
        said["OneBlock-Upload-Sha256"] = note.sha256
    return said


def _expires(note: Note) -> str:
    return formatdate(note.expires, usegmt=True)


def _metadata(text: str) -> dict[str, str]:
    """`key base64,key base64`; raises `bad_request`."""
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise PermanentError(
                f"Upload-Metadata: {key[:40]!r} is no UTF-8 in base64", code="bad_request"
            ) from error
    return found


def _announced(said: dict[str, str]) -> str | None:
    sha256 = said.get("sha256")
    if sha256 is not None and not HEX.fullmatch(sha256):
        raise PermanentError("Upload-Metadata: sha256 has 64 hex digits", code="bad_request")
    return sha256.lower() if sha256 else None


def _sum(request: Request) -> Checksum | None:
    """Upload-Checksum: `sha256 <base64>`; raises `bad_request`."""
    given = request.headers.get("upload-checksum")
    if given is None:
        return None
    algorithm, _, text = given.partition(" ")
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if algorithm not in ALGORITHMS or not digest:
        raise PermanentError(
            f"Upload-Checksum: one of {', '.join(ALGORITHMS)}, a space, base64", code="bad_request"
        )
    return Checksum(algorithm, digest)
