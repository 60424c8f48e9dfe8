"""Whatever goes wrong, the answer is problem details, and nothing internal is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog
from fastapi import FastAPI, Query
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from libs.common.errors import LeaseLost, OneBlockError, PermanentError, Problem, TransientError
from libs.common.settings import CommonSettings
from libs.common.web import edge
from libs.common.web.body import read_json
from libs.common.web.health import routes
from libs.common.web.problems import status_of


async def boom(_request: Request) -> Response:
    raise ValueError("the password is swordfish")


async def echo(request: Request) -> Response:
    return JSONResponse(await read_json(request))


async def two_problems(_request: Request) -> Response:
    found = (Problem("a", "first", "x"), Problem("b", "se\ud800cond"))
    raise PermanentError("both", code="invalid_manifest", problems=found)


class Body(BaseModel):
    n: int


def starlette(**settings: object) -> Starlette:
    app = Starlette(
        routes=[
            Route("/boom", boom),
            Route("/echo", echo, methods=["POST"]),
            Route("/two", two_problems),
            *routes(lambda: "connected"),
        ]
    )
    edge.install(app, CommonSettings.model_validate(settings))
    return app


def fastapi() -> FastAPI:
    app = FastAPI()
    edge.install(app, CommonSettings(), max_body=1000)

    @app.post("/body")
    async def body(body: Body) -> int:
        return body.n

    @app.get("/limit")
    async def limit(limit: int = Query(ge=0)) -> int:
        return limit

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(starlette(cors_origins="https://good.example")),
        base_url="http://x",
    ) as opened:
        yield opened


@pytest.fixture
async def fast() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(fastapi()), base_url="http://x"
    ) as opened:
        yield opened


async def test_an_unexpected_error_tells_an_id_that_is_in_the_log(
    client: httpx.AsyncClient,
) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = await client.get("/boom")
    body = answer.json()
    assert (answer.status_code, body["code"]) == (500, "internal_error")
    assert "swordfish" not in answer.text
    assert [line["instance"] for line in lines if line["event"] == "internal_error"] == [
        body["instance"]
    ]


async def test_every_problem_is_listed_and_the_text_is_always_unicode(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/two")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"] == [
        {"code": "a", "detail": "first", "path": "x"},
        {"code": "b", "detail": "se\\ud800cond"},
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermanentError("x", code="anything"), 422),
        (PermanentError("x", code="not_found"), 404),
        (TransientError("x", code="anything"), 503),
        (TransientError("x", code="storage_full"), 507),
        (LeaseLost("run-1"), 409),
    ],
)
def test_the_status_comes_from_code_and_kind(error: OneBlockError, status: int) -> None:
    assert status_of(error) == status


async def test_404_and_405_are_problems_too(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nope")).json()["code"] == "not_found"
    answer = await client.get("/echo")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_fastapis_own_validation_looks_the_same(fast: httpx.AsyncClient) -> None:
    wrong = await fast.get("/limit?limit=-1")
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "query.limit")
    missing = await fast.post("/body", json={})
    assert missing.json()["code"] == "missing_field"
    broken = await fast.post("/body", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_json")
    large = await fast.post("/body", json={"n": 1, "x": "x" * 2000})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")


async def test_only_listed_origins_may_read_and_change(client: httpx.AsyncClient) -> None:
    good, evil = {"Origin": "https://good.example"}, {"Origin": "https://evil.example"}
    allowed = await client.post("/echo", json=[1], headers=good)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://good.example"
    assert "access-control-allow-credentials" not in allowed.headers
    read = await client.get("/healthz", headers=evil)
    assert "access-control-allow-origin" not in read.headers
    assert (await client.post("/echo", json=[1], headers=evil)).status_code == 403
    assert (await client.post("/echo", json=[1], headers={"Origin": "null"})).status_code == 403
    same = {"Origin": "http://x"}
    assert (await client.post("/echo", json=[1], headers=same)).status_code == 200


async def test_health_tells_why_a_service_is_not_ready() -> None:
    async def reasons() -> dict[str, str]:
        return {"disk": "is full"}

    async def fails() -> dict[str, str]:
        raise OSError("x")

    for state, check, reason in (
        ("connected", reasons, "disk"),
        ("connected", fails, "checks"),
        ("reconnecting", reasons, "bus"),
    ):
        app = Starlette(routes=routes(lambda state=state: state, check))  # type: ignore[misc]
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            assert (await client.get("/healthz")).json() == {"status": "ok", "bus": state}
            answer = await client.get("/readyz")
            assert answer.status_code == 503
            assert list(answer.json()["reasons"]) == [reason]
            assert (await client.get("/metrics")).status_code == 200


async def test_a_body_that_never_ends_is_given_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "BODY_SECONDS", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(5)
        yield b"]"

    kind = {"content-type": "application/json"}
    answer = await client.post("/echo", content=slow(), headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (408, "timeout")
