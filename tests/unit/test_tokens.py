"""API tokens: who may do what, and how a token ends."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from libs.common.errors import PermanentError
from libs.common.settings import CommonSettings
from libs.common.web import edge, tokens
from libs.common.web.tokens import Tokens, add_entry, authorize, new_token, remove_entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_told_once_and_kept_as_a_hash(path: Path) -> None:
    token, entry = new_token(name="ci", scopes=["read", "write"], namespaces=["team"])
    add_entry(path, entry)
    secret = token.partition(".")[2]
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    identity = Tokens.load(path).identify(token)
    assert identity is not None
    assert identity.name == "ci"
    assert (identity.may("write"), identity.may("label")) == (True, False)
    assert (identity.sees("team"), identity.sees("default")) == (True, False)


def test_admin_includes_every_scope(path: Path) -> None:
    token, entry = new_token(scopes=["admin"])
    identity = Tokens(path, [entry]).identify(token)
    assert identity is not None
    assert all(identity.may(scope) for scope in tokens.SCOPES)


def test_what_is_no_valid_token(path: Path) -> None:
    token, entry = new_token(expires=datetime.now(UTC) + timedelta(hours=1))
    known = Tokens(path, [entry])
    assert known.identify(token) is not None
    assert known.identify(token, datetime.now(UTC) + timedelta(hours=2)) is None
    naive = entry.model_copy(update={"expires": datetime(2020, 1, 1)})
    assert Tokens(path, [naive]).identify(token) is None
    wrong = [
        "",
        "ob_",
        "x",
        f"ob_{entry.id}.",
        f"ob_{entry.id}",
        token + "x",
        token[:-1],
        "ä\ud800",
    ]
    assert [known.identify(t) for t in wrong] == [None] * len(wrong)


def test_removing_an_entry_revokes_the_token(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "RELOAD_AFTER", 0)
    token, entry = new_token()
    other, kept = new_token()
    add_entry(path, entry)
    add_entry(path, kept)
    known = Tokens.load(path)
    assert remove_entry(path, entry.id)
    assert not remove_entry(path, entry.id)
    assert known.identify(token) is None
    assert known.identify(other) is not None
    path.write_text("{")  # being edited: what was known stays
    assert known.identify(other) is not None
    path.unlink()
    assert known.identify(other) is None


@pytest.mark.parametrize("text", ["", "[]", '{"tokens": [{"id": "a", "hash": "plain"}]}'])
def test_a_file_that_is_wrong_is_named_but_not_quoted(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(PermanentError) as caught:
        Tokens.load(path)
    assert str(path) in caught.value.detail
    assert "plain" not in caught.value.detail


async def test_over_http_missing_is_401_and_too_little_403(path: Path) -> None:
    reader, entry = new_token(scopes=["read"], namespaces=["team"])
    add_entry(path, entry)

    async def write(request: Request) -> Response:
        authorize(request, "write")
        return PlainTextResponse("ok")

    async def read(request: Request) -> Response:
        identity = authorize(request, "read")
        identity.require_namespace(request.path_params["ns"], "dataset")
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/w", write, methods=["POST"]), Route("/r/{ns}", read)])
    edge.install(app, CommonSettings(tokens_file=path))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        missing = await client.get("/r/team")
        assert (missing.status_code, missing.json()["code"]) == (401, "unauthorized")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        for header in ("Bearer nope", "Basic abc", "Bearer", f"Bearer {reader}x"):
            answer = await client.get("/r/team", headers={"authorization": header})
            assert answer.status_code == 401
        mine = {"authorization": f"Bearer {reader}"}
        assert (await client.get("/r/team", headers=mine)).status_code == 200
        assert (await client.get("/r/other", headers=mine)).status_code == 404
        assert (await client.post("/w", headers=mine)).status_code == 403
