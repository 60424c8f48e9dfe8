"""Errors over HTTP as problem details (RFC 9457), the same for every service.

`type` is `urn:oneblock:problem:<code>`; `code` repeats it for programs, `errors` lists every
problem found (code, detail, path). Nothing internal is told: an unexpected error answers with an
`instance` id that is also in the log.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from libs.common.errors import OneBlockError, PermanentError, Problem, TransientError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"  # seconds; what a client waits before it asks a service that is not ready again

# Codes whose status isn't the default of their kind (permanent 422, transient 503).
STATUS: dict[str, int] = {
    "empty_body": 400,
    "invalid_json": 400,
    "too_deep": 400,
    "content_length": 400,
    "invalid_range": 400,
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "origin_forbidden": 403,
    "not_found": 404,
    "dataset_not_found": 404,
    "version_not_found": 404,
    "run_not_found": 404,
    "row_not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "timeout": 408,
    "conflict": 409,
    "idempotency_conflict": 409,
    "dataset_deleted": 409,
    "run_ended": 409,
    "in_use": 409,
    "cancelled": 409,
    "lease_lost": 409,
    "gone": 410,
    "upload_not_found": 404,
    "upload_expired": 410,
    "offset_mismatch": 409,
    "stale_revision": 412,
    "tus_version": 412,
    "too_large": 413,
    "unsupported_media_type": 415,
    "wrong_host": 421,
    "locked": 423,
    "rate_limited": 429,
    "upload_checksum_mismatch": 460,
    "internal_error": 500,
    "storage_full": 507,
}
_CODES = {status: code for code, status in reversed(list(STATUS.items()))} | {
    400: "bad_request", 404: "not_found", 409: "conflict", 422: "invalid_request",
    503: "unavailable",
}  # fmt: skip


def status_of(error: OneBlockError) -> int:
    """The HTTP status for an error: by its code, else by its kind."""
    if error.code in STATUS:
        return STATUS[error.code]
    return 503 if isinstance(error, TransientError) else 422


def _phrase(status: int) -> str:
    """As HTTP calls it; tus has a status of its own."""
    return "Checksum Mismatch" if status == 460 else HTTPStatus(status).phrase


def problem_body(
    status: int,
    code: str,
    detail: str,
    problems: Iterable[Problem] = (),
    instance: str | None = None,
) -> dict[str, object]:
    """The JSON object of one answer."""
    body: dict[str, object] = {
        "type": f"urn:oneblock:problem:{code}",
        "title": _phrase(status),
        "status": status,
        "detail": _clean(detail),
        "code": code,
    }
    if instance:
        body["instance"] = instance
    if listed := [_shown(p) for p in problems]:
        body["errors"] = listed
    return body


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    problems: Iterable[Problem] = (),
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
) -> Response:
    """One problem as an answer; 503 and 507 say when to come back."""
    content = orjson.dumps(problem_body(status, code, detail, problems, instance))
    response = Response(content, status, dict(headers or {}), MEDIA_TYPE)
    if status == 503:
        response.headers.setdefault("Retry-After", RETRY_AFTER)
    if status == 401:
        response.headers.setdefault("WWW-Authenticate", 'Bearer realm="oneblock"')
    return response


def error_response(error: OneBlockError) -> Response:
    """Any error of ours as an answer."""
    return problem_response(status_of(error), error.code, error.detail, problems=error.problems)


def install(app: Starlette) -> None:
    """Answer every error of a Starlette or FastAPI app as problem details."""
    app.add_exception_handler(OneBlockError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    if "fastapi" in sys.modules:  # an extra without FastAPI has nothing to map
        from fastapi.exceptions import RequestValidationError

        app.add_exception_handler(RequestValidationError, _on_validation)


def not_found(what: str) -> PermanentError:
    """The same answer for what is absent and for what the caller may not see."""
    return PermanentError(f"{what} not found", code="not_found")


async def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, OneBlockError)
    return error_response(error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "http_error")
    return problem_response(
        error.status_code, code, _http_detail(request, error), headers=error.headers
    )


def _http_detail(request: Request, error: HTTPException) -> str:
    """What was wrong with the address or the method, instead of a bare status phrase."""
    if error.detail != _phrase(error.status_code):
        return str(error.detail)
    if error.status_code == 404:
        return "no resource at this address"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return f"{request.method} is not allowed here; allowed: {allowed}"
    return str(error.detail)


async def _on_validation(_request: Request, error: Exception) -> Response:
    """FastAPI's own validation: every wrong parameter with its place; JSON that isn't, as 400."""
    raw: list[dict[str, object]] = error.errors()  # type: ignore[attr-defined]
    if any(e.get("type") == "json_invalid" for e in raw):
        return problem_response(400, "invalid_json", "the body is not valid JSON")
    problems = [_from_pydantic(e) for e in raw]
    detail = "; ".join(str(p) for p in problems[:5])
    code = problems[0].code if len(problems) == 1 else "invalid_request"
    return problem_response(422, code, detail, problems=problems)


def _from_pydantic(error: Mapping[str, object]) -> Problem:
    kind, loc = str(error.get("type", "")), error.get("loc", ())
    path = ".".join(str(part) for part in loc) if isinstance(loc, tuple | list) else str(loc)
    codes = {"missing": "missing_field", "extra_forbidden": "unknown_field"}
    return Problem(codes.get(kind, "invalid_value"), str(error.get("msg", "invalid")), path)


def _shown(problem: Problem) -> dict[str, str]:
    shown = {"code": problem.code, "detail": _clean(problem.detail)}
    return shown | {"path": _clean(problem.path)} if problem.path else shown


def _clean(text: str) -> str:
    """Text of a caller may hold half a surrogate pair, which UTF-8 can't say."""
    return text.encode("utf-8", "backslashreplace").decode()
