"""/v1/uploads: files sent over HTTP, raw."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from libs.common import metrics
from libs.common.errors import PermanentError
from libs.common.web.body import media_type, unsupported_media_type
from libs.common.web.tokens import require
from libs.stores.upload import upload_url
from services.ingest import names
from services.ingest.api.answers import Uploaded
from services.ingest.api.datasets import Wired
from services.ingest.api.parts import UPLOAD_BODY, announced_sha256, announced_size, errors

router = APIRouter(tags=["uploads"])


@router.put(
    "/v1/uploads/{filename:path}",
    status_code=201,
    summary="Store a file",
    dependencies=[Depends(require("write"))],
    openapi_extra=UPLOAD_BODY,
    responses=errors(400, 408, 413, 415, 422, 503, 507),
)
async def upload(filename: str, request: Request, wired: Wired) -> Uploaded:
    name = names.checked(filename)
    _plain(request)
    stored = await wired.uploads.receive(
        request.stream(), announced_size(request), announced_sha256(request)
    )
    metrics.BYTES.labels("upload").inc(stored.size)
    url = upload_url(stored.sha256, name)
    return Uploaded(url=url, size=stored.size, sha256=stored.sha256)


def _plain(request: Request) -> None:
    """The body must be the file itself: no form around it, no compression to be undone."""
    if media_type(request).startswith("multipart/"):
        raise unsupported_media_type("multipart", ("any other: send the file's bytes as the body",))
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise PermanentError(
            "Content-Encoding is not taken; send the file as it is", code="unsupported_media_type"
        )
