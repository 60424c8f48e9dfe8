"""The sink against a real bus and a real warehouse: a version arrives, and the run ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from libs.common.bus import Bus, RunRecord
from libs.common.bus.admin import migrate
from libs.common.events import DatasetDelivered, DatasetTransformed, Fact, RunChanged
from libs.common.settings import CommonSettings
from libs.formats import SYSTEM_FIELDS
from libs.warehouse import Commit, Version, Warehouse, write_fragments
from services.sink.app import make_app
from services.sink.settings import SinkSettings
from tests.servers import NatsServer, nats_server

ROOT = Path(__file__).parents[2]
DATASET = "default/fruit"
SCHEMA = pa.schema([("n", pa.int64()), ("version", pa.int64()), *SYSTEM_FIELDS])
DEADLINE = 75.0  # a lease and an acknowledgement of the dead run out in 30 s


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        asyncio.run(migrate(server.url))
        yield server


@dataclass
class World:
    """A stack in which a test plays ingest, transform and catalog."""

    bus: Bus
    warehouse: Warehouse
    folder: Path
    settings: SinkSettings
    dataset: str
    facts: list[Fact] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def version(self, number: int, rows: int) -> Version:
        """As transform makes it, by run-<dataset>-<number>."""
        run = self.run(number)
        columns = [
            pa.array(range(rows), pa.int64()),
            pa.array([number] * rows, pa.int64()),
            pa.array([n.to_bytes(16, "big") for n in range(rows)], pa.binary(16)),
            pa.array([n.to_bytes(8, "big") for n in range(rows)], pa.binary(8)),
            pa.array([7] * rows, pa.int64()),
        ]
        uri = self.warehouse.dataset_uri(self.dataset)
        fragments = write_fragments(uri, [pa.record_batch(columns, schema=SCHEMA)], SCHEMA)
        run_dir = self.warehouse.run_dir(self.dataset, run)
        commit = Commit(run, run_dir, 1, "p", "i", "local", rows, rows * 8)
        return self.warehouse.commit(self.dataset, fragments, SCHEMA, commit)

    def run(self, number: int) -> str:
        return f"run-{self.dataset.replace('/', '-')}-{number}"

    async def transformed(
        self, number: int, *destinations: dict[str, object], rows: int = 10, unchanged: bool = False
    ) -> DatasetTransformed:
        """What transform says of a run, with everything in place that it says it of."""
        run = self.run(number)
        namespace, name = self.dataset.split("/")
        manifest: dict[str, object] = {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "source": {"type": "csv", "url": "upload://fruit.csv"},
                "destination": list(destinations),
            },
        }
        run_dir = self.warehouse.run_dir(self.dataset, run)
        await self.bus.runs.accept(RunRecord(id=run, dataset=self.dataset, manifest=manifest))
        self.warehouse.write_manifest(run_dir, manifest)
        made = 1 if unchanged else self.version(number, rows).number
        return DatasetTransformed(
            run=run,
            dataset=self.dataset,
            generation=1,
            run_dir=run_dir,
            version=made,
            rows=rows,
            unchanged=unchanged,
        )

    async def told(self, wanted: Callable[[Fact], bool]) -> Fact:
        """The first fact of this dataset that is as wanted."""
        async with asyncio.timeout(DEADLINE):
            while True:
                for fact in list(self.facts):
                    if wanted(fact):
                        return fact
                self.heard.clear()
                await self.heard.wait()

    async def end_of(self, run: str) -> RunChanged:
        fact = await self.told(lambda f: isinstance(f, RunChanged) and f.run == run)
        assert isinstance(fact, RunChanged)
        return fact

    def deliveries(self, run: str) -> list[DatasetDelivered]:
        return [f for f in self.facts if isinstance(f, DatasetDelivered) and f.run == run]


@pytest.fixture
async def world(nats: NatsServer, tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "out").mkdir()
    settings = SinkSettings(
        nats_url=nats.url,
        warehouse=(tmp_path / "wh").as_uri(),
        sink_roots=(tmp_path / "out",),
        stop_timeout=5.0,
    )
    bus = Bus(CommonSettings(nats_url=nats.url, stop_timeout=5.0), "catalog")
    dataset = f"default/f{tmp_path.name[-40:].replace('_', '-').lower()}"
    world = World(bus, Warehouse(settings.warehouse), tmp_path, settings, dataset)

    async def hear(fact: Fact, _delivery: object) -> None:
        if getattr(fact, "dataset", "").startswith(dataset):
            world.facts.append(fact)
            world.heard.set()

    bus.subscribe("catalog-facts", hear)
    await bus.start()
    try:
        yield world
    finally:
        await bus.stop()


@pytest.fixture
async def sink(world: World) -> AsyncIterator[None]:
    """The service, in this process."""
    app = make_app(world.settings)
    async with app.router.lifespan_context(app):
        yield


def local(folder: Path, format: str = "parquet") -> dict[str, object]:
    return {"type": "local", "url": folder.as_uri(), "format": format}


@pytest.mark.usefixtures("sink")
async def test_a_version_goes_to_every_destination_and_the_run_succeeds(world: World) -> None:
    fact = await world.transformed(
        1, local(world.out / "a"), local(world.out / "b", "csv"), local(world.out / "c", "jsonl")
    )
    await world.bus.publish(fact)
    ended = await world.end_of(fact.run)
    assert (ended.state, ended.stage, ended.version) == ("succeeded", "sink", 1)
    assert [(d.kind, d.format, d.rows, d.unchanged) for d in world.deliveries(fact.run)] == [
        ("local", "parquet", 10, False),
        ("local", "csv", 10, False),
        ("local", "jsonl", 10, False),
    ]
    assert pq.read_table(world.out / "a" / "part-00000.parquet")["n"].to_pylist() == list(range(10))
    assert pc.read_csv(world.out / "b" / "part-00000.csv").num_rows == 10
    events = [line["event"] for line in world.warehouse.log(fact.run_dir).read()]
    assert events == ["delivered"] * 3


@pytest.mark.usefixtures("sink")
async def test_a_run_without_destinations_ends_at_once(world: World) -> None:
    fact = await world.transformed(1)
    await world.bus.publish(fact)
    assert (await world.end_of(fact.run)).state == "succeeded"


@pytest.mark.usefixtures("sink")
async def test_a_run_that_changed_nothing_is_skipped_unless_a_destination_is_new(
    world: World,
) -> None:
    first = await world.transformed(1, local(world.out / "a"))
    await world.bus.publish(first)
    assert (await world.end_of(first.run)).state == "succeeded"
    await world.bus.runs.release(world.dataset, first.run)

    same = await world.transformed(2, local(world.out / "a"), unchanged=True)
    await world.bus.publish(same)
    assert (await world.end_of(same.run)).state == "skipped"
    assert [d.unchanged for d in world.deliveries(same.run)] == [True]
    await world.bus.runs.release(world.dataset, same.run)

    more = await world.transformed(
        3, local(world.out / "a"), local(world.out / "n"), unchanged=True
    )
    await world.bus.publish(more)
    assert (await world.end_of(more.run)).state == "succeeded"
    assert [d.unchanged for d in world.deliveries(more.run)] == [True, False]


@pytest.mark.usefixtures("sink")
async def test_one_destination_that_refuses_holds_no_other_back(world: World) -> None:
    (world.out / "a").mkdir()
    (world.out / "a" / "thesis.tex").write_text("mine")
    fact = await world.transformed(1, local(world.out / "a"), local(world.out / "b"))
    await world.bus.publish(fact)
    ended = await world.end_of(fact.run)
    assert (ended.state, ended.stage) == ("failed", "sink")
    assert ended.error is not None
    assert (ended.error.code, ended.error.path) == (
        "destination_not_ours",
        "spec.destination[0].url",
    )
    assert [d.destination for d in world.deliveries(fact.run)] == [(world.out / "b").as_uri()]
    assert (world.out / "a" / "thesis.tex").read_text() == "mine"


@pytest.mark.usefixtures("sink")
async def test_a_destination_outside_the_roots_fails_the_run_and_touches_nothing(
    world: World,
) -> None:
    fact = await world.transformed(1, local(world.folder / "elsewhere"))
    await world.bus.publish(fact)
    ended = await world.end_of(fact.run)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == ("failed", "path_outside_root")
    assert not (world.folder / "elsewhere").exists()


@pytest.mark.usefixtures("sink")
async def test_the_same_message_five_times_is_one_delivery(world: World) -> None:
    fact = await world.transformed(1, local(world.out / "a"))
    await asyncio.gather(*(world.bus.publish(fact, id=f"{fact.run}-{n}") for n in range(5)))
    assert (await world.end_of(fact.run)).state == "succeeded"
    inode = (world.out / "a").stat().st_ino
    await world.bus.publish(fact, id=f"{fact.run}-late")
    await asyncio.sleep(0.5)  # nothing is to happen: there is no event to wait for
    assert len(world.deliveries(fact.run)) == 1
    assert (world.out / "a").stat().st_ino == inode
    assert [p.name for p in world.out.iterdir()] == ["a"]


@pytest.mark.usefixtures("sink")
async def test_a_cancelled_run_delivers_nothing(world: World) -> None:
    fact = await world.transformed(1, local(world.out / "a"))
    async with await world.bus.runs.lease(fact.run, "test"):  # somebody works on it: no end yet
        await world.bus.runs.cancel(fact.run)
    await world.bus.publish(fact)
    assert (await world.end_of(fact.run)).state == "cancelled"
    assert list(world.out.iterdir()) == []


class Process:
    """The service as a process."""

    def __init__(self, world: World, **environment: str) -> None:
        settings = world.settings
        self._log = (world.folder / "sink.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.sink"],
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
            env={
                **os.environ,
                "ONEBLOCK_NATS_URL": settings.nats_url,
                "ONEBLOCK_WAREHOUSE": settings.warehouse,
                "ONEBLOCK_SINK_ROOTS": str(world.out),
                "ONEBLOCK_STOP_TIMEOUT": "5",
                **environment,
            },
        )

    async def death(self) -> int:
        return await asyncio.to_thread(self.process.wait, DEADLINE)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()


POINTS = ("sink_before_switch", "sink_after_switch", "sink_before_publish", "sink_before_end")


async def test_a_sink_killed_anywhere_is_followed_by_one_delivery_and_no_leftovers(
    world: World,
) -> None:
    facts = []
    first = world.dataset
    for number, point in enumerate(POINTS):
        world.dataset = f"{first}-{number}"
        fact = await world.transformed(1, local(world.out / point))
        with Process(world, CRASHPOINT=point) as dying:
            await world.bus.publish(fact)
            assert await dying.death() == -signal.SIGKILL
        facts.append(fact)
    with Process(world):  # what the dead ones held comes back when their leases have run out
        ends = [await world.end_of(fact.run) for fact in facts]
    assert [end.state for end in ends] == ["succeeded"] * 4
    for fact, point in zip(facts, POINTS, strict=True):
        [delivery] = {d.id(): d for d in world.deliveries(fact.run)}.values()
        assert not delivery.unchanged
        assert pq.read_table(world.out / point).num_rows == 10
    assert sorted(p.name for p in world.out.iterdir()) == sorted(POINTS)


async def test_a_sink_that_is_stopped_ends_with_0_and_hands_back_nothing_half_done(
    world: World,
) -> None:
    with Process(world) as service:
        fact = await world.transformed(1, local(world.out / "a"))
        await world.bus.publish(fact)
        await world.end_of(fact.run)
        service.process.send_signal(signal.SIGTERM)
        assert await service.death() == 0
