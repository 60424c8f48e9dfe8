"""What happens, as it happens; and what a catalog does when things around it fall over."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow as pa
import pytest

from libs.common.bus.admin import migrate
from libs.common.events import Progress, RunChanged, SourceResolved
from libs.common.web.tokens import add_entry, new_token
from tests.buses import a_bus, jetstream, started
from tests.catalogs import CatalogProcess, catalog_process, ended, soon, story, tell
from tests.servers import NatsServer, nats_server

CARS = "default/cars"
TABLE = pa.table({"id": [1, 2, 3]})


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        asyncio.run(migrate(server.url))
        yield server


class Listening:
    """Reads an event stream in a thread."""

    def __init__(self, response: httpx.Response) -> None:
        self.events: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(response,), daemon=True)
        self._thread.start()

    def _read(self, response: httpx.Response) -> None:
        event: dict[str, Any] = {}
        try:
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    event[name] = orjson.loads(value) if name == "data" else value
                elif "data" in event:
                    self.events.append(event)
                    event = {}
        except httpx.HTTPError:
            pass
        self.ended.set()

    def wait(self, count: int, within: float = 10.0) -> list[dict[str, Any]]:
        deadline = time.monotonic() + within
        while len(self.events) < count:
            assert time.monotonic() < deadline, self.events
            time.sleep(0.01)
        return self.events


@contextmanager
def listening(
    catalog: CatalogProcess, query: str = "", token: str | None = None, last: str | None = None
) -> Iterator[Listening]:
    headers = {"Last-Event-ID": last} if last else {}
    with (
        catalog.client(token) as client,
        client.stream("GET", f"/v1/events{query}", headers=headers, timeout=30) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Listening(response)


def accepted(run: str, dataset: str = CARS) -> RunChanged:
    return RunChanged(run=run, dataset=dataset, generation=1, state="accepted")


def test_facts_are_told_and_can_be_resumed_from_the_last_one_heard(
    tmp_path: Path, nats: NatsServer
) -> None:
    with catalog_process(tmp_path / "home", nats) as catalog:
        with listening(catalog) as heard:
            tell(nats, accepted("run-1"), accepted("run-2"))
            first, second = heard.wait(2)[:2]
        assert first["event"] == "fact"
        assert first["data"]["type"] == "oneblock.event.run.changed"
        assert {first["data"]["data"]["run"], second["data"]["data"]["run"]} == {"run-1", "run-2"}
        tell(nats, accepted("run-3"))
        soon_listed(catalog, "run-3")
        with listening(catalog, last=first["id"]) as heard:
            told = [event["data"]["data"]["run"] for event in heard.wait(2)]
        assert told == [second["data"]["data"]["run"], "run-3"]
        with listening(catalog, last="00000000-7") as heard:
            assert heard.wait(1)[0]["event"] == "reset"


def soon_listed(catalog: CatalogProcess, run: str) -> None:
    with catalog.client() as client:
        soon(client, f"/v1/runs/{run}")


def test_a_stream_tells_only_what_was_asked_for_and_may_be_seen(
    tmp_path: Path, nats: NatsServer
) -> None:
    tokens = tmp_path / "tokens.json"
    token, entry = new_token(namespaces=["team"])
    add_entry(tokens, entry)
    environment = {"ONEBLOCK_TOKENS_FILE": str(tokens)}
    with (
        catalog_process(tmp_path / "home", nats, **environment) as catalog,
        listening(catalog, token=token) as mine,
        listening(catalog, "?run=run-4", token=token) as one,
        listening(catalog, "?dataset=team/b", token=token) as other,
    ):
        tell(
            nats, accepted("run-1"), accepted("run-3", "team/a"), accepted("run-4", "team/a"),
            accepted("run-5", "team/b"),
        )  # fmt: skip
        runs = sorted(event["data"]["data"]["run"] for event in mine.wait(3))
        assert runs == ["run-3", "run-4", "run-5"]
        assert [e["data"]["data"]["run"] for e in one.wait(1)] == ["run-4"]
        assert [e["data"]["data"]["run"] for e in other.wait(1)] == ["run-5"]


def test_progress_shows_in_the_run_and_in_the_stream(tmp_path: Path, nats: NatsServer) -> None:
    resolved = SourceResolved(
        run="run-1", dataset=CARS, generation=1, run_dir="r", digest="d", files=3, bytes=9
    )
    told = Progress(
        run="run-1",
        dataset=CARS,
        stage="transform",
        attempt=1,
        rows=70,
        done=2,
        total=8,
        at=None,
    )

    async def publish() -> None:
        async with started(a_bus(nats, "teller")) as bus:
            await bus.publish(accepted("run-1"))
            await bus.publish(resolved)
            await bus.progress(told)

    with catalog_process(tmp_path / "home", nats) as catalog:
        with listening(catalog, "?run=run-1") as heard:
            asyncio.run(publish())
            progress = [e for e in heard.wait(3) if e["event"] == "progress"]
        assert progress[0]["data"]["data"]["done"] == 2
        assert "id" not in progress[0]
        with catalog.client() as client:
            transform = client.get("/v1/runs/run-1").json()["stages"][1]
        assert (transform["state"], transform["rows"]) == ("running", 70)
        assert (transform["done"], transform["total"], transform["attempt"]) == (2, 8, 1)


def test_open_streams_do_not_hold_up_a_stop(tmp_path: Path, nats: NatsServer) -> None:
    with catalog_process(tmp_path / "home", nats) as catalog, listening(catalog) as heard:
        tell(nats, accepted("run-1"))
        heard.wait(1)
        began = time.monotonic()
        os.kill(catalog.pid, signal.SIGTERM)
        assert heard.ended.wait(5)
        assert time.monotonic() - began < 4


def test_a_killed_catalog_goes_on_where_it_was(tmp_path: Path, nats: NatsServer) -> None:
    home = tmp_path / "home"
    with pytest.raises(AssertionError), catalog_process(home, nats) as catalog:
        facts = story(catalog.warehouse, CARS, "run-1", TABLE)
        tell(nats, *facts[:2])
        os.kill(catalog.pid, signal.SIGKILL)
    tell(nats, *facts[2:])
    with catalog_process(home, nats) as catalog, catalog.client() as client:
        assert ended(client, "run-1")["state"] == "succeeded"
        assert len(client.get(f"/v1/datasets/{CARS}/rows").json()["rows"]) == 3
    assert asyncio.run(dead_letters(nats)) == 0


async def dead_letters(nats: NatsServer) -> int:
    async with jetstream(nats) as js:
        return (await js.stream_info("OB_DEAD")).state.messages


def test_a_lost_database_is_built_again_from_the_stream(tmp_path: Path, nats: NatsServer) -> None:
    """An operator deletes the consumer, and every fact is folded once more."""

    async def forget() -> None:
        async with jetstream(nats) as js:
            await js.delete_consumer("OB_EVENTS", "catalog-facts")
        await migrate(nats.url)

    with catalog_process(tmp_path / "one", nats) as catalog, catalog.client() as client:
        tell(nats, *story(catalog.warehouse, CARS, "run-1", TABLE))
        before = ended(client, "run-1")
    asyncio.run(forget())
    with catalog_process(tmp_path / "two", nats) as catalog, catalog.client() as client:
        assert ended(client, "run-1") == before


def test_while_nats_is_away_what_is_known_can_be_read(tmp_path: Path, nats: NatsServer) -> None:
    with catalog_process(tmp_path / "home", nats) as catalog, catalog.client() as client:
        tell(nats, *story(catalog.warehouse, CARS, "run-1", TABLE))
        ended(client, "run-1")
        nats.kill()
        assert client.get(f"/v1/datasets/{CARS}/rows").status_code == 200
        assert client.get("/v1/runs/run-1").status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        nats.start()
        tell(nats, *story(catalog.warehouse, CARS, "run-2", TABLE))
        assert ended(client, "run-2", within=20)["state"] == "succeeded"


def test_a_message_that_is_no_fact_does_not_hold_up_the_next(
    tmp_path: Path, nats: NatsServer
) -> None:
    async def publish() -> None:
        async with jetstream(nats) as js:
            for body in (b"no json", b"{}", b'{"specversion":"1.0","type":"x.y","id":"1"}'):
                await js.publish("oneblock.event.run.changed", body)

    with catalog_process(tmp_path / "home", nats) as catalog:
        asyncio.run(publish())
        tell(nats, accepted("run-1"))
        soon_listed(catalog, "run-1")
        deadline = time.monotonic() + 10
        while asyncio.run(dead_letters(nats)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
