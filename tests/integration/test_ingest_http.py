"""ingest's HTTP surface, really served, against a real NATS server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from libs.common.events import FACTS, Fact, SourceResolved
from libs.warehouse import RunDirs
from tests.buses import eventually, jetstream, stored
from tests.ingests import Ingest, ingest_on, manifest


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    with ingest_on(
        tmp_path_factory.mktemp("ingest"), {"ONEBLOCK_MAX_UPLOAD_BYTES": "10000000"}
    ) as running:
        running.start()
        yield running


@pytest.fixture
def client(service: Ingest) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


async def facts(service: Ingest, run: str) -> list[Fact]:
    """Everything told about a run, in order."""
    async with jetstream(service.nats) as js:
        messages = [json.loads(body) for _, body in await stored(js, "OB_EVENTS")]
    told = [FACTS[m["type"]].model_validate(m["data"]) for m in messages]
    return [fact for fact in told if getattr(fact, "run", None) == run]


async def resolved(service: Ingest, run: str) -> SourceResolved:
    async def look() -> SourceResolved | None:
        found = [f for f in await facts(service, run) if isinstance(f, SourceResolved)]
        assert len(found) <= 1
        return found[0] if found else None

    return await eventually(look)


def refused(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    codes = {body["code"], *(e["code"] for e in body.get("errors", []))}  # type: ignore[attr-defined]
    assert code in codes
    return body


# the good way


async def test_a_manifest_becomes_a_run_with_an_inventory(service: Ingest) -> None:
    service.put(good__a="x\n1\n", good__b="x\n2\n")
    url = f"file://{service.data}/good/*.csv"
    with service.client() as client:
        answer = client.post("/v1/datasets", json=manifest("good", url))
    assert answer.status_code == 202, answer.text
    run = answer.json()["run"]["id"]
    assert answer.headers["location"] == f"/v1/runs/{run}"
    fact = await resolved(service, run)
    assert (fact.files, fact.bytes, fact.generation) == (2, 8, 1)
    runs = RunDirs(service.warehouse.as_uri())
    assert [f.path for f in runs.inventory(fact.run_dir)] == ["a.csv", "b.csv"]
    assert runs.read_manifest(fact.run_dir)["kind"] == "DataSet"
    assert [line["event"] for line in runs.log(fact.run_dir).read()] == ["source_resolved"]
    states = [getattr(f, "state", "") for f in await facts(service, run)]
    assert states[0] == "accepted"
    with service.client() as client:
        shown = client.get(f"/v1/runs/{run}").json()
    assert (shown["state"], shown["stage"]) == ("running", "transform")


async def test_yaml_is_taken_with_its_type_or_without_any(service: Ingest) -> None:
    service.put(yaml="x\n1\n")
    text = f"""
apiVersion: core.oneblock.ai/v1alpha1
kind: DataSet
metadata: {{name: yaml}}
spec:
  source: {{type: csv, url: "file://{service.data}/yaml.csv"}}
"""
    with service.client() as client:
        for headers in ({"content-type": "application/yaml"}, {}):
            answer = client.post("/v1/datasets", content=text.encode(), headers=headers)
            assert answer.status_code == 202, answer.text


async def test_requests_while_a_run_is_active_are_coalesced(service: Ingest) -> None:
    service.put(many="x\n1\n")
    body = manifest("many", f"file://{service.data}/many.csv")
    with service.client() as client:
        ids = [client.post("/v1/datasets", json=body).json()["run"]["id"] for _ in range(4)]
        await resolved(service, ids[0])

        async def fates() -> list[str] | None:
            states = [client.get(f"/v1/runs/{run}") for run in ids]
            if any(s.status_code != 200 for s in states):
                return None
            told = sorted(s.json()["state"] for s in states)
            return told if told == ["accepted", "coalesced", "coalesced", "running"] else None

        await eventually(fates)
        records = [client.get(f"/v1/runs/{run}").json() for run in ids]
        waiting = [r["id"] for r in records if r["state"] == "accepted"]
        assert {r["into"] for r in records if r["state"] == "coalesced"} == set(waiting)


async def test_the_same_key_is_the_same_run_and_another_body_a_conflict(service: Ingest) -> None:
    service.put(key="x\n1\n")
    body = manifest("key", f"file://{service.data}/key.csv")
    async with httpx.AsyncClient(base_url=service.url) as client:
        headers = {"Idempotency-Key": "k-1"}
        sent = (client.post("/v1/datasets", json=body, headers=headers) for _ in range(5))
        answers = await asyncio.gather(*sent)
        assert {a.status_code for a in answers} == {202}
        assert len({a.json()["run"]["id"] for a in answers}) == 1
        assert sorted(a.json()["duplicate"] for a in answers) == [False, True, True, True, True]
        other = manifest("key", f"file://{service.data}/key.csv", engine="local")
        refused(
            await client.post("/v1/datasets", json=other, headers=headers),
            409,
            "idempotency_conflict",
        )
        other_name = manifest("key2", f"file://{service.data}/key.csv")
        refused(
            await client.post("/v1/datasets", json=other_name, headers=headers),
            409,
            "idempotency_conflict",
        )
        bad = {"Idempotency-Key": "x" * 300}
        refused(
            await client.post("/v1/datasets", json=body, headers=bad),
            422,
            "invalid_idempotency_key",
        )


async def test_a_trace_reaches_the_fact(service: Ingest) -> None:
    service.put(trace="x\n1\n")
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with service.client(headers={"traceparent": parent, "x-request-id": "abc.1"}) as client:
        url = f"file://{service.data}/trace.csv"
        answer = client.post("/v1/datasets", json=manifest("trace", url))
    assert answer.headers["x-request-id"] == "abc.1"
    run = answer.json()["run"]["id"]
    await resolved(service, run)
    async with jetstream(service.nats) as js:
        bodies = [json.loads(body) for _, body in await stored(js, "OB_EVENTS")]
    [told] = [b for b in bodies if b["type"] == SourceResolved.TYPE and b["data"]["run"] == run]
    assert told["traceparent"].split("-")[1] == parent.split("-")[1]


async def test_a_plan_tells_without_doing(service: Ingest) -> None:
    service.put(plan__a="x\n1\n", plan__b="x\n1\n")
    body = manifest("plan", f"file://{service.data}/plan", f"file://{service.data}/absent.csv")
    with service.client() as client:
        answer = client.post("/v1/datasets/plan", json=body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["files"], found["bytes"], found["spec"]) == (2, 8, "new")
        assert (found["engine"], found["complete"], found["type"]) == ("local", True, "csv")
        assert [(p["code"], p["path"]) for p in found["problems"]] == [
            ("source_not_found", "spec.source.url[1]")
        ]
        refused(client.post("/v1/datasets/default/plan/runs"), 404, "not_found")
        auto = manifest("plan", f"file://{service.data}/plan", source={"type": "auto"})
        assert client.post("/v1/datasets/plan", json=auto).json()["type"] == "csv"


async def test_running_again_cancelling_retrying_deleting(service: Ingest) -> None:
    service.put(life="x\n1\n")
    with service.client() as client:
        url = f"file://{service.data}/life.csv"
        first = client.post("/v1/datasets", json=manifest("life", url)).json()["run"]["id"]
        await resolved(service, first)
        again = client.post("/v1/datasets/default/life/runs?force=true")
        assert again.status_code == 202
        assert again.json()["run"]["force"] is True
        refused(client.post(f"/v1/runs/{first}/retry"), 409, "conflict")
        assert client.post(f"/v1/runs/{first}/cancel").status_code == 202
        second = again.json()["run"]["id"]
        await eventually(lambda: client.get(f"/v1/runs/{first}").json()["state"] == "cancelled")
        assert (await resolved(service, second)).force is True  # it moved up
        refused(client.post(f"/v1/runs/{first}/cancel"), 409, "run_ended")
        third = client.post(f"/v1/runs/{first}/retry").json()["run"]
        assert third["cause"] == "retry"
        await eventually(lambda: client.get(f"/v1/runs/{third['id']}").status_code == 200)
        gone = client.delete("/v1/datasets/default/life")
        assert gone.status_code == 202
        assert gone.json()["generation"] == 2
        assert set(gone.json()["cancelled"]) == {second, third["id"]}
        await eventually(lambda: client.get(f"/v1/runs/{second}").json()["state"] == "cancelled")
        refused(client.post("/v1/datasets/default/life/runs"), 409, "dataset_deleted")
        assert client.delete("/v1/datasets/default/life").json()["generation"] == 2
        back = client.post("/v1/datasets", json=manifest("life", url))
        assert back.status_code == 202


# uploads


def test_an_upload_can_be_a_source(client: httpx.Client, service: Ingest) -> None:
    data = b"x\n1\n"
    digest = hashlib.sha256(data).hexdigest()
    sums = {"X-Checksum-Sha256": digest}
    answer = client.put("/v1/uploads/my%20file.csv", content=data, headers=sums)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {
        "url": f"upload://{digest}/my%20file.csv",
        "size": 4,
        "sha256": digest,
    }
    plan = client.post("/v1/datasets/plan", json=manifest("up", answer.json()["url"])).json()
    assert (plan["files"], plan["sources"][0]["sample"]) == (1, ["my file.csv"])


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../../etc/passwd", 422),
        ("..%2f..%2fetc%2fpasswd", 422),
        ("....//x", 422),
        ("/etc/passwd", 422),
        ("%2fetc%2fpasswd", 422),
        ("a%00b", 422),
        ("C:%5Cx", 422),
        ("a" * 300, 422),
        ("%ff%fe", 422),
        ("%e2%80%aegnp.exe", 422),
        ("", 422),
    ],
)
def test_names_that_are_paths_are_refused(service: Ingest, name: str, status: int) -> None:
    answer = raw(service, f"PUT /v1/uploads/{name}", b"x", {})
    assert answer.startswith(f"HTTP/1.1 {status}"), answer
    assert "invalid_name" in answer
    assert not list(service.home.rglob("*passwd*"))


def test_what_an_upload_may_not_be(client: httpx.Client) -> None:
    refused(client.put("/v1/uploads/a.csv", content=b""), 422, "empty_file")
    bad = {"X-Checksum-Sha256": "0" * 64}
    refused(client.put("/v1/uploads/a.csv", content=b"x", headers=bad), 422, "checksum_mismatch")
    digest = {"Content-Digest": "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"}
    refused(client.put("/v1/uploads/a.csv", content=b"x", headers=digest), 422, "checksum_mismatch")
    refused(
        client.put("/v1/uploads/a.csv", content=b"x", headers={"X-Checksum-Sha256": "zz"}),
        400,
        "bad_request",
    )
    refused(client.put("/v1/uploads/a.csv", files={"f": b"x"}), 415, "unsupported_media_type")
    refused(client.put("/v1/uploads/a.csv", content=b"x" * 10_000_001), 413, "too_large")


def test_an_endless_chunked_upload_ends_at_the_cap(client: httpx.Client, service: Ingest) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(4000):
            yield b"x" * 65536

    refused(client.put("/v1/uploads/a.csv", content=endless()), 413, "too_large")
    assert not list((service.warehouse / "uploads" / ".incoming").glob("*"))


async def test_an_upload_cut_off_leaves_nothing_and_the_service_goes_on(service: Ingest) -> None:
    incoming = service.warehouse / "uploads" / ".incoming"
    address = service.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as sock:
        sock.sendall(b"PUT /v1/uploads/cut.csv HTTP/1.1\r\nHost: localhost\r\n")
        sock.sendall(b"Content-Length: 9000000\r\n\r\n" + b"x" * 5_000_000)
        await eventually(lambda: incoming.is_dir() and any(incoming.iterdir()))
    await eventually(lambda: not any(incoming.iterdir()))
    with service.client() as client:
        assert client.get("/healthz").status_code == 200


# bad input


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"  \n", 400, "empty_body"),
        (b"{", 400, "invalid_json"),
        (b'{"a": "\xff"}', 400, "invalid_json"),
        (b'{"a": NaN}', 422, "invalid_number"),
        (b'{"a": 1e999}', 422, "invalid_number"),
        (b"[" * 500_000, 400, "too_deep"),
        (b'{"a":1,"a":2}', 422, "duplicate_key"),
        (b'{"a": 9223372036854775808}', 422, "integer_out_of_range"),
        (b'{"a": "\\ud800"}', 422, "invalid_string"),
        (b"[]", 422, "invalid_manifest"),
        (b"{}", 422, "missing_field"),
        (b'{"a": "' + b"x" * 2_000_000 + b'"}', 413, "too_large"),
    ],
    ids=lambda value: str(value[:12]) if isinstance(value, bytes) else str(value),
)
def test_bad_json(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    kind = {"content-type": "application/json"}
    refused(client.post("/v1/datasets", content=body, headers=kind), status, code)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: ]", "line 1"),
        ("\tkind: x", "line 1"),
        ("kind: 1\nkind: 2", "line 2"),
        ("a: !!python/object/apply:os.system [id]", "tag"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [" + "*b," * 100 + "]", "alias"),
        ("just text", "mapping"),
    ],
)
def test_bad_yaml(client: httpx.Client, text: str, words: str) -> None:
    kind = {"content-type": "application/yaml"}
    answer = client.post("/v1/datasets", content=text, headers=kind)
    assert words in str(refused(answer, 422, "invalid_yaml")["errors"])


def test_every_problem_of_a_manifest_is_told_at_once(client: httpx.Client) -> None:
    body = manifest("Bad_Name", "file:///x.csv", engin="local", source={"type": "xls"})
    answer = client.post("/v1/datasets", json=body)
    problems = refused(answer, 422, "invalid_manifest")["errors"]
    assert isinstance(problems, list)
    told = {p["path"]: (p["code"], p["detail"]) for p in problems}
    assert told["spec.engin"][0] == "unknown_field"
    assert "engine" in told["spec.engin"][1]
    assert "csv" in told["spec.source.type"][1]
    assert told["metadata.name"][0] == "invalid_name"


def test_what_is_not_built_yet_is_named(client: httpx.Client) -> None:
    body = manifest("later", "https://example.com/x.csv", entrypoint="python x.py")
    problems = refused(client.post("/v1/datasets", json=body), 422, "not_supported_yet")["errors"]
    assert isinstance(problems, list)
    assert {p["path"] for p in problems} == {"spec.entrypoint"}


def test_files_outside_the_roots_are_refused_at_once(client: httpx.Client) -> None:
    answer = client.post("/v1/datasets", json=manifest("out", "file:///etc/passwd"))
    refused(answer, 422, "path_outside_root")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/datasets", 405, "method_not_allowed"),
        ("GET", "/v1/runs/'; DROP TABLE runs; --", 404, "not_found"),
        ("GET", "/v1/runs/..%2f..", 404, "not_found"),
        ("GET", "/v1/runs/%00", 404, "not_found"),
        ("POST", "/v1/runs/run-absent/cancel", 404, "not_found"),
        ("DELETE", "/v1/datasets/default/absent", 404, "not_found"),
        ("DELETE", "/v1/datasets/a.b/c*>", 404, "not_found"),
        ("POST", "/v1/datasets/default/absent/runs", 404, "not_found"),
        ("POST", "/v1/datasets/default/absent/runs?force=maybe", 422, "invalid_value"),
    ],
)
def test_bad_addresses(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    refused(client.request(method, path), status, code)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_forms_and_text_are_no_manifests(client: httpx.Client, kind: str) -> None:
    answer = client.post("/v1/datasets", content=b"a=1&" * 100_000, headers={"content-type": kind})
    assert answer.status_code in (413, 415)


def test_web_pages_of_others_can_change_nothing(client: httpx.Client) -> None:
    evil = {"Origin": "https://evil.example"}
    answer = client.post("/v1/datasets", json={}, headers=evil)
    refused(answer, 403, "origin_forbidden")
    assert "access-control-allow-origin" not in answer.headers
    rebound = client.get("/healthz", headers={"Host": "evil.example"})
    refused(rebound, 421, "wrong_host")


def test_a_content_length_that_lies_is_no_500(service: Ingest) -> None:
    short = raw(service, "POST /v1/datasets", b'{"a": 1}', {"Content-Length": "3"})
    assert short.startswith("HTTP/1.1 400")
    garbage = raw(service, "POST /v1/datasets", b"", {"Content-Length": "abc"})
    assert garbage.startswith("HTTP/1.1 400")


def test_openapi_describes_every_route_and_its_errors(client: httpx.Client) -> None:
    from openapi_spec_validator import validate

    document = client.get("/openapi.json").json()
    validate(document)
    put = document["paths"]["/v1/uploads/{filename}"]["put"]["responses"]
    assert {"201", "401", "403", "413", "422", "507"} <= put.keys()


def test_metrics_count_requests_by_route(client: httpx.Client) -> None:
    client.get("/v1/runs/run-x")
    text = client.get("/metrics").text
    assert 'oneblock_http_requests_total{method="GET",route="/v1/runs/{run}",status="404"}' in text


def raw(service: Ingest, start: str, body: bytes, headers: dict[str, str]) -> str:
    """A request that no client library would send."""
    head = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    kind = {} if start.startswith("PUT") else {"Content-Type": "application/json"}
    lines = [f"{start} HTTP/1.1", *(f"{k}: {v}" for k, v in {**head, **kind, **headers}.items())]
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer.decode("utf-8", "replace")


def test_a_graceful_stop_is_quick_and_clean(tmp_path: Path) -> None:
    with ingest_on(tmp_path / "home") as service:
        service.start()
        with service.client() as client:
            assert client.get("/readyz").status_code == 200
        assert service.end(signal.SIGTERM) == 0
