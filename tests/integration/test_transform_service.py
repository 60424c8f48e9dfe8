"""The whole service as a process: killed at every crash point, it ends with one version."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from libs.common.bus import Bus, Delivery, RunRecord
from libs.common.bus.admin import migrate
from libs.common.events import DatasetTransformed, Fact, SourceResolved
from libs.warehouse import InventoryFile
from tests.buses import a_bus, eventually, started
from tests.plans import Bench, people
from tests.servers import NatsServer, nats_server

POINTS = (
    "after_lease",
    "before_commit",
    "after_commit_before_tag",
    "after_tag",
    "before_publish",
    "after_publish",
    "before_ack",
    "after_ack",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as running:
        asyncio.run(migrate(running.url, ack_wait=2.0))
        yield running


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.write_csv("a.csv", people(1000))
    return bench


@contextmanager
def service(server: NatsServer, bench: Bench, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    env = {
        "ONEBLOCK_NATS_URL": server.url,
        "ONEBLOCK_WAREHOUSE": bench.warehouse.url,
        "ONEBLOCK_PORT": "0",
        "ONEBLOCK_READY_FILE": str(bench.folder / "ready"),
        "ONEBLOCK_STOP_TIMEOUT": "5",
        "ONEBLOCK_LEASE_TTL": "2",
        **more,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.transform"], env={**os.environ, **env}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def listening(server: NatsServer) -> AsyncIterator[tuple[Bus, list[DatasetTransformed]]]:
    """A bus beside the service, and what sink would hear."""
    heard: list[DatasetTransformed] = []

    async def hear(fact: Fact, _: Delivery) -> None:
        if isinstance(fact, DatasetTransformed):
            heard.append(fact)

    bus = a_bus(server, "sink")
    bus.subscribe("sink-versions", hear)
    async with started(bus):
        yield bus, heard


async def ask(bus: Bus, bench: Bench, run: str = "run-1") -> SourceResolved:
    """What ingest does: accept, write manifest and inventory, tell."""
    house, dataset = bench.warehouse, "default/x"
    await bus.runs.accept(RunRecord(id=run, dataset=dataset, generation=1))
    run_dir = house.run_dir(dataset, run)
    house.write_manifest(run_dir, dict(bench.manifest()))
    with house.inventory_writer(run_dir) as writer:
        for path in bench.files:
            writer.add(InventoryFile(path.as_uri(), path.name, path.stat().st_size))
    fact = SourceResolved(
        run=run, dataset=dataset, generation=1, run_dir=run_dir,
        digest=writer.digest, files=writer.files, bytes=writer.bytes,
    )  # fmt: skip
    await bus.publish(fact)
    return fact


@pytest.mark.parametrize("point", POINTS)
async def test_killed_anywhere_there_is_one_version_and_one_fact_of_it(
    point: str, server: NatsServer, bench: Bench
) -> None:
    async with listening(server) as (bus, heard):
        await ask(bus, bench)
        with service(server, bench, CRASHPOINT=point) as first:
            await eventually(lambda: first.poll() is not None, 30)
            assert first.returncode == -signal.SIGKILL
        with service(server, bench):
            await eventually(lambda: heard, 60)
        versions = bench.warehouse.versions("default/x")
        rows = bench.warehouse.open("default/x").page(0, 10_000)["id"].to_pylist()
    assert [v.number for v in versions] == [1]
    assert sorted(rows) == list(range(1000))
    assert {fact.id() for fact in heard} == {heard[0].id()}


async def test_it_answers_health_stops_cleanly_and_stays_small(
    server: NatsServer, bench: Bench
) -> None:
    async with listening(server) as (bus, heard):
        with service(server, bench) as process:
            ready = bench.folder / "ready"
            await eventually(ready.exists, 30)
            port = json.loads(ready.read_text())["port"]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

                async def healthy() -> bool:
                    try:
                        return (await client.get("/readyz")).status_code == 200
                    except httpx.TransportError:
                        return False

                await eventually(healthy, 30)
                for number in range(3):
                    fact = await ask(bus, bench, f"run-{number}")
                    await eventually(lambda: len(heard) > number, 30)  # noqa: B023
                    await bus.runs.finish(fact.run, "succeeded")
                    await bus.runs.release(fact.dataset, fact.run)
                assert "oneblock_rows_total" in (await client.get("/metrics")).text
            assert psutil.Process(process.pid).memory_info().rss < 256 * 1024 * 1024
            workers = psutil.Process(process.pid).children()
            process.terminate()
            assert await asyncio.to_thread(process.wait, 15) == 0
            await eventually(lambda: not any(w.is_running() for w in workers), 5)
    assert [fact.unchanged for fact in heard] == [False, True, True]
