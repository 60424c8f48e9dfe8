"""The main path on the real stack: files in, every value out, on both engines."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import nats
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.stack import EmbeddedStack, embedded_stack

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow, pytest.mark.ray]

WORDS = ["plain", 'with "quotes"', "comma, inside", "line\nbreak", "ümläut ☃", ""]
ROWS = 3_000


def row(i: int) -> dict[str, Any]:
    """One row with what usually goes wrong: quotes, newlines, nulls, big numbers, dates."""
    return {
        "id": i,
        "word": WORDS[i % len(WORDS)],
        "big": 2**53 + i,
        "ratio": i / 7 if i % 11 else None,
        "day": date(2026, 1 + i % 12, 1 + i % 28),
        "yes": i % 3 == 0,
    }


def write_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        file.write(",".join(row(0)) + "\n")
        file.writelines(",".join(map(cell, row(i).values())) + "\n" for i in range(ROWS))


def cell(value: object) -> str:
    """Text in quotes, so that the empty one isn't a null; the rest without."""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value).lower()


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row(i) for i in range(ROWS)]), path, row_group_size=700)


def manifest(name: str, kind: str, url: str, engine: str) -> dict[str, Any]:
    return {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": name},
        "spec": {
            "source": {"type": kind, "url": url, "key": ["id"]},
            "transform": [{"filter": "id % 2 = 0"}],
            "engine": engine,
        },
    }


def as_json(found: dict[str, Any]) -> dict[str, Any]:
    """As the catalog answers it."""
    return {**found, "day": found["day"].isoformat()}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    with embedded_stack(tmp_path_factory.mktemp("main") / "home", ray=True) as found:
        yield found


@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.parametrize(("kind", "write"), [("csv", write_csv), ("parquet", write_parquet)])
def test_every_value_that_went_in_comes_out(
    stack: EmbeddedStack, tmp_path: Path, kind: str, write: Any, engine: str
) -> None:
    path = tmp_path / f"rows.{kind}"
    write(path)
    name = f"values-{kind}-{engine}"
    uploaded = json.loads(stack.cli("upload", str(path), "-o", "json").stdout)
    url = (uploaded["items"][0] if "items" in uploaded else uploaded)["url"]
    with stack.client() as client:
        run = client.apply(manifest(name, kind, url, engine), wait=True, timeout=120)
    assert (run.state, run.version) == ("succeeded", 1), run.raw
    want = {i: as_json(row(i)) for i in range(0, ROWS, 2)}
    assert over_http(stack, name) == want
    text = stack.cli("rows", name, "--offset", "1000", "--limit", "500", "-o", "json").stdout
    told = {r["row"]["id"]: r["row"] for r in json.loads(text)["rows"]}
    assert len(told) == 500
    assert told.items() <= want.items()


def over_http(stack: EmbeddedStack, name: str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    with httpx.Client(base_url=stack.endpoint("catalog")) as client:
        while True:
            page = client.get(
                f"/v1/datasets/default/{name}/rows", params={"offset": len(found), "length": 100}
            )
            rows = page.raise_for_status().json()["rows"]
            found |= {r["row"]["id"]: r["row"] for r in rows}
            if not rows:
                return found


def test_row_keys_are_the_same_on_both_engines_and_from_both_formats(
    stack: EmbeddedStack,
) -> None:
    keys = []
    with httpx.Client(base_url=stack.endpoint("catalog")) as client:
        for name in ("csv-local", "csv-ray", "parquet-local", "parquet-ray"):
            page = client.get(f"/v1/datasets/default/values-{name}/rows", params={"length": 100})
            rows = sorted(page.raise_for_status().json()["rows"], key=lambda r: r["row"]["id"])
            keys.append({r["row"]["id"]: r["row_key"] for r in rows})
    shared = set.intersection(*(set(k) for k in keys))
    assert len(shared) > 50
    assert all(k[i] == keys[0][i] for k in keys for i in shared)


def test_the_same_request_five_times_at_once_is_one_run_and_one_version(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    write_csv(path)
    key = uuid.uuid4().hex

    def apply(_: int) -> str:
        with stack.client() as client:
            return client.apply(manifest("five", "csv", path.as_uri(), "local"), key=key).id

    with ThreadPoolExecutor(5) as pool:
        runs = set(pool.map(apply, range(5)))
    assert len(runs) == 1
    with stack.client() as client:
        assert client.wait(runs.pop(), timeout=60).state == "succeeded"
        assert [v.number for v in client.versions("five")] == [1]
        assert len(client.runs("five")) == 1


async def test_the_same_message_delivered_five_times_is_one_run_and_one_version(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    """Without Nats-Msg-Id, so that the server stores all five."""
    path = tmp_path / "rows.csv"
    write_csv(path)
    event = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "test",
        "type": "oneblock.ingest.requested",
        "data": {"manifest": manifest("message", "csv", path.as_uri(), "local")},
    }
    client = await nats.connect(stack.endpoint("nats"))
    for _ in range(5):
        await client.jetstream().publish("oneblock.ingest.requested", json.dumps(event).encode())
    await client.close()
    await asyncio.to_thread(settled, stack, "message")
    with stack.client() as found:
        assert [v.number for v in found.versions("message")] == [1]
        assert [r.state for r in found.runs("message")] == ["succeeded"]


def settled(stack: EmbeddedStack, name: str) -> None:
    """Until the dataset has a run, all of its runs have ended, and ingest has no message left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with stack.client() as client:
            runs = client.runs(name)
        if runs and all(r.ended for r in runs) and asyncio.run(waiting(stack)) == 0:
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} did not settle")


async def waiting(stack: EmbeddedStack) -> int:
    """Messages that ingest has not settled yet."""
    client = await nats.connect(stack.endpoint("nats"))
    try:
        info = await client.jetstream().consumer_info("OB_INGEST", "ingest-requests")
        return (info.num_pending or 0) + (info.num_ack_pending or 0)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"kind: [", "invalid_yaml"),
        (b"{}", "missing_field"),
        (b'{"apiVersion": "core.oneblock.ai/v1alpha1", "kind": "DataSet"', None),
        (b"", "empty_body"),
    ],
)
def test_a_manifest_that_is_none_is_refused_in_words(
    stack: EmbeddedStack, body: bytes, code: str | None
) -> None:
    answer = httpx.post(
        stack.endpoint("ingest") + "/v1/datasets",
        content=body,
        headers={"content-type": "application/yaml"},
    )
    assert answer.status_code in {400, 422}
    problem = answer.json()
    assert answer.headers["content-type"].startswith("application/problem+json")
    if code is not None:
        assert code in json.dumps(problem)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ragged", b"a,b\n1,2\n3,4,5\n", ("ragged.csv", "3")),
        ("nul", b"a,b\n1,2\n3,\x004\n", ("nul.csv",)),
        ("quote", b'a,b\n1,"2\n3,4\n', ("quote.csv",)),
        ("latin", b"a,b\n1,caf\xe9\n", ("latin.csv", "2")),
        ("twice", b"a,a\n1,2\n", ("twice.csv", "a")),
    ],
)
def test_a_bad_file_fails_its_run_and_names_the_place(
    stack: EmbeddedStack, tmp_path: Path, name: str, content: bytes, says: tuple[str, ...]
) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_bytes(content)
    wanted = manifest(f"bad-{name}", "csv", path.as_uri(), "local")
    del wanted["spec"]["source"]["key"], wanted["spec"]["transform"]
    with stack.client() as client:
        run = client.apply(wanted)
        with pytest.raises(Exception, match=name):
            client.wait(run.id, timeout=60)
        ended = client.run(run.id)
        assert ended.state == "failed"
        for word in says:
            assert word in ended.error_detail
        assert client.versions(f"bad-{name}") == []


def test_types_that_change_late_in_a_file_lose_nothing(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    path = tmp_path / "late.csv"
    with path.open("w") as file:
        file.write("id,value\n")
        file.writelines(f"{i},{i}\n" for i in range(400_000))
        file.write("400000,not a number\n")
    wanted = manifest("late", "csv", path.as_uri(), "local")
    del wanted["spec"]["transform"]
    with stack.client() as client:
        run = client.apply(wanted, wait=True, timeout=120)
        assert run.state == "succeeded"
        page = client.rows("late", offset=399_999, limit=2)
    assert [r["value"] for r in page.values()] == ["399999", "not a number"]
