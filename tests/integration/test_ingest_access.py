"""Tokens on ingest: scopes, and namespaces that don't exist for others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from libs.common.web.tokens import add_entry, new_token, remove_entry
from tests.buses import eventually
from tests.ingests import Ingest, ingest_on, manifest


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    home = tmp_path_factory.mktemp("access") / "home"
    file = home.parent / "tokens.json"
    add_entry(file, new_token()[1])
    # All addresses: with a tokens file that is allowed.
    env = {"ONEBLOCK_TOKENS_FILE": str(file), "ONEBLOCK_HOST": "0.0.0.0"}
    with ingest_on(home, env) as running:
        running.put(a="x\n1\n")
        running.start()
        yield running


def token(service: Ingest, *scopes: str, namespaces: tuple[str, ...] = ("default",)) -> str:
    text, entry = new_token(scopes=scopes, namespaces=namespaces)  # type: ignore[arg-type]
    add_entry(service.home.parent / "tokens.json", entry)
    deadline = time.monotonic() + 10
    with as_(service, text) as client:  # until the file was looked at again
        while client.get("/v1/runs/run-x").status_code == 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return text


def as_(service: Ingest, text: str) -> httpx.Client:
    return service.client(headers={"Authorization": f"Bearer {text}"})


async def test_other_namespaces_do_not_exist(service: Ingest) -> None:
    mine, others = token(service, "admin"), token(service, "admin", namespaces=("other",))
    body = manifest("secret", f"file://{service.data}/a.csv")
    with as_(service, mine) as client:
        run = client.post("/v1/datasets", json=body).json()["run"]["id"]
        await eventually(lambda: client.get(f"/v1/runs/{run}").status_code == 200)
    with as_(service, others) as client:
        for method, path, json in (
            ("GET", f"/v1/runs/{run}", None),
            ("POST", f"/v1/runs/{run}/cancel", None),
            ("POST", f"/v1/runs/{run}/retry", None),
            ("POST", "/v1/datasets", body),
            ("POST", "/v1/datasets/plan", body),
            ("POST", "/v1/datasets/default/secret/runs", None),
            ("DELETE", "/v1/datasets/default/secret", None),
        ):
            there = client.request(method, path, json=json)
            assert (there.status_code, there.json()["code"]) == (404, "not_found"), path
            absent = client.request(method, path.replace("secret", "none"), json=json)
            assert absent.status_code == 404


def test_reading_is_not_writing_and_nothing_is_nothing(service: Ingest) -> None:
    reader = token(service, "read")
    calls = (
        ("POST", "/v1/datasets"),
        ("POST", "/v1/datasets/plan"),
        ("POST", "/v1/datasets/default/x/runs"),
        ("DELETE", "/v1/datasets/default/x"),
        ("POST", "/v1/runs/run-x/cancel"),
        ("POST", "/v1/runs/run-x/retry"),
        ("PUT", "/v1/uploads/a.csv"),
    )
    with as_(service, reader) as client, service.client() as nobody:
        for method, path in calls:
            assert client.request(method, path).status_code == 403, path
            answer = nobody.request(method, path)
            assert answer.status_code == 401, path
            assert "www-authenticate" in answer.headers
        assert client.get("/v1/runs/run-x").status_code == 404
        assert nobody.get("/v1/runs/run-x").status_code == 401
        assert nobody.get("/healthz").status_code == 200


async def test_a_revoked_token_ends_within_seconds(service: Ingest) -> None:
    text = token(service, "read")
    with as_(service, text) as client:
        assert client.get("/v1/runs/run-x").status_code == 404
        remove_entry(service.home.parent / "tokens.json", text[3:].partition(".")[0])
        await eventually(lambda: client.get("/v1/runs/run-x").status_code == 401)


def test_no_token_is_in_the_log(service: Ingest) -> None:
    text = token(service, "read")
    with as_(service, text) as client:
        client.get("/v1/runs/run-x")
    assert text.partition(".")[2] not in service.log
