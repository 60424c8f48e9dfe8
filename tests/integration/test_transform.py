"""From SourceResolved to DatasetTransformed, over a real bus, warehouse and local lane."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.common.bus import Bus, Delivery, RunEnded, RunRecord
from libs.common.bus.admin import migrate
from libs.common.errors import Cancelled, LeaseLost, PermanentError
from libs.common.events import DatasetTransformed, Fact, SourceResolved
from libs.warehouse import InventoryFile, Warehouse
from services.transform.build import Workshop, build
from services.transform.engines.local import Local
from services.transform.plan import Sizes
from tests.buses import a_bus, eventually, started
from tests.plans import Bench, people
from tests.servers import NatsServer, nats_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        asyncio.run(migrate(running.url))
        yield running


@pytest.fixture(scope="module")
def lane() -> Iterator[Local]:
    local = Local(workers=2, tries=3)
    local.start()
    yield local
    local.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.write_csv("a.csv", people(100))
    return bench


@asynccontextmanager
async def shop(server: NatsServer, bench: Bench, lane: Local) -> AsyncIterator[Workshop]:
    async with started(a_bus(server, "transform")) as bus:
        yield workshop(bus, bench.warehouse, lane)


def workshop(bus: Bus, warehouse: Warehouse, lane: Local) -> Workshop:
    threads = ThreadPoolExecutor(2)
    return Workshop(warehouse, bus.runs, bus, {"local": lane}, threads, Sizes(), bus.instance)


async def resolved(
    shop: Workshop, bench: Bench, run: str, *, force: bool = False, **spec: object
) -> SourceResolved:
    """What ingest leaves: a run, its manifest and inventory, and the fact."""
    assert isinstance(shop.outbox, Bus)
    dataset = f"default/{bench.folder.name.replace('_', '-')}"
    for slot in await shop.outbox.runs.active():
        if slot.dataset == dataset and slot.run is not None:  # as sink and ingest end a run
            await shop.outbox.runs.finish(slot.run, "succeeded")
            await shop.outbox.runs.release(dataset, slot.run)
    await shop.outbox.runs.accept(RunRecord(id=run, dataset=dataset, generation=1))
    run_dir = shop.warehouse.run_dir(dataset, run)
    shop.warehouse.write_manifest(run_dir, dict(bench.manifest(**spec)))
    with shop.warehouse.inventory_writer(run_dir) as writer:
        for path in bench.files:
            stat = path.stat()
            writer.add(InventoryFile(path.as_uri(), path.name, stat.st_size, mtime=stat.st_mtime))
    return SourceResolved(
        run=run,
        dataset=dataset,
        generation=1,
        run_dir=run_dir,
        digest=writer.digest,
        files=writer.files,
        bytes=writer.bytes,
        force=force,
    )


def run_name(bench: Bench, number: int = 1) -> str:
    return f"run-{bench.folder.name}-{number}"


async def told(server: NatsServer, run: str) -> Fact:
    """The DatasetTransformed of this run, as sink would hear it."""
    found: list[Fact] = []

    async def heard(fact: Fact, _: Delivery) -> None:
        if isinstance(fact, DatasetTransformed) and fact.run == run:
            found.append(fact)

    bus = a_bus(server, "sink")
    bus.subscribe("sink-versions", heard)
    async with started(bus):
        await eventually(lambda: found, 10)
    return found[0]


async def test_files_become_a_version_with_every_value(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    async with shop(server, bench, lane) as works:
        fact = await resolved(works, bench, run_name(bench), transform=[{"filter": "id < 50"}])
        await build(fact, works)
        reader = works.warehouse.open(fact.dataset)
        rows = reader.page(0, 1000).to_pylist()
    expected = [{**row, "city": row["city"] or None} for row in people(50)]
    assert rows == expected
    heard = await told(server, fact.run)
    assert isinstance(heard, DatasetTransformed)
    assert (heard.version, heard.rows, heard.engine, heard.unchanged) == (1, 50, "local", False)
    assert heard.columns[0] == ("id", "int64")


async def test_the_same_message_again_makes_no_second_version(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    async with shop(server, bench, lane) as works:
        fact = await resolved(works, bench, run_name(bench))
        for _ in range(5):
            await build(fact, works)
        assert len(works.warehouse.versions(fact.dataset)) == 1


async def test_unchanged_sources_make_no_version_unless_forced(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    async with shop(server, bench, lane) as works:
        await build(await resolved(works, bench, run_name(bench, 1)), works)
        same = await resolved(works, bench, run_name(bench, 2))
        await build(same, works)
        assert len(works.warehouse.versions(same.dataset)) == 1
        forced = await resolved(works, bench, run_name(bench, 3), force=True)
        await build(forced, works)
        assert len(works.warehouse.versions(same.dataset)) == 2
    heard = await told(server, same.run)
    assert isinstance(heard, DatasetTransformed)
    assert heard.unchanged
    assert heard.version == 1


async def test_another_transform_makes_another_version(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    async with shop(server, bench, lane) as works:
        await build(await resolved(works, bench, run_name(bench, 1)), works)
        other = await resolved(works, bench, run_name(bench, 2), transform=[{"select": ["id"]}])
        await build(other, works)
        assert works.warehouse.open(other.dataset).user_schema.names == ["id"]
        assert works.warehouse.open(other.dataset, 1).user_schema.names[1] == "name"


async def test_a_bad_plan_fails_with_place_and_nearest_name_and_is_logged(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    async with shop(server, bench, lane) as works:
        fact = await resolved(works, bench, run_name(bench), transform=[{"select": ["nam"]}])
        with pytest.raises(PermanentError) as caught:
            await build(fact, works)
        lines = [line["event"] for line in works.warehouse.log(fact.run_dir).read()]
        assert works.warehouse.versions(fact.dataset) == []
    assert caught.value.code == "column_missing"
    assert caught.value.path == "spec.transform[0].select"
    assert "did you mean 'name'?" in caught.value.detail
    assert lines == ["attempt_started", "planned", "attempt_failed"]


async def test_a_file_that_changed_after_it_was_listed_is_refused(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    from libs.stores import Access, store_for

    async with shop(server, bench, lane) as works:
        fact = await resolved(works, bench, run_name(bench))
        path = bench.files[0]
        seen = store_for(path.as_uri(), Access(roots=(path.parent,))).stat(path.as_uri())
        with works.warehouse.inventory_writer(fact.run_dir) as writer:
            writer.add(InventoryFile(seen.uri, seen.path, seen.size, etag=seen.etag))
        path.write_bytes(path.read_bytes().replace(b"n1", b"n9"))
        with pytest.raises(PermanentError) as caught:
            await build(fact, works)
    assert caught.value.code == "source_changed"


async def test_a_cancelled_run_stops_within_seconds_and_leaves_no_version(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    async with shop(server, bench, lane) as works:
        assert isinstance(works.outbox, Bus)
        fact = await resolved(works, bench, run_name(bench))
        with frozen(lane):
            work = asyncio.create_task(build(fact, works))
            await eventually(lambda: logged(works, fact, "planned"), 10)
            await works.outbox.runs.cancel(fact.run)
            with pytest.raises(Cancelled):
                await asyncio.wait_for(work, 5)
        assert works.warehouse.versions(fact.dataset) == []


async def test_who_lost_the_lease_commits_nothing(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    async with shop(server, bench, lane) as works:
        fact = await resolved(works, bench, run_name(bench))
        with frozen(lane):
            work = asyncio.create_task(build(fact, works))
            await eventually(lambda: logged(works, fact, "planned"), 10)
            await overtake(works, fact.run)
            with pytest.raises(LeaseLost):
                await asyncio.wait_for(work, 20)
        assert works.warehouse.versions(fact.dataset) == []


async def test_what_a_failed_run_wrote_goes_with_the_next(
    server: NatsServer, bench: Bench, lane: Local
) -> None:
    bad = Bench(bench.folder, sizes=bench.sizes, files=[*bench.files])
    bad.write("b.csv", "id,name,price,city\n" + "1,x,1,c\n" * 2000 + '1,"x,1,c\n')
    async with shop(server, bench, lane) as works:
        fact = await resolved(works, bad, run_name(bench, 1))
        with pytest.raises(PermanentError):
            await build(fact, works)
        data = Path(works.warehouse.dataset_uri(fact.dataset)) / "data"
        await build(await resolved(works, bench, run_name(bench, 2)), works)
        assert len(list(data.iterdir())) == 1
        assert works.warehouse.open(fact.dataset).rows == 100


async def test_an_ended_run_is_not_worked_on(server: NatsServer, bench: Bench, lane: Local) -> None:
    async with shop(server, bench, lane) as works:
        assert isinstance(works.outbox, Bus)
        fact = await resolved(works, bench, run_name(bench))
        await works.outbox.runs.finish(fact.run, "cancelled")
        with pytest.raises(RunEnded):
            await build(fact, works)


async def test_a_small_csv_takes_less_than_half_a_second_on_a_warm_lane(
    server: NatsServer, tmp_path: Path, lane: Local
) -> None:
    bench = Bench(tmp_path)
    bench.write_csv("a.csv", people(40_000))
    async with shop(server, bench, lane) as works:
        took = []
        for number in range(4):
            fact = await resolved(works, bench, run_name(bench, number), force=True)
            began = asyncio.get_running_loop().time()
            await build(fact, works)
            took.append(asyncio.get_running_loop().time() - began)
    assert sorted(took)[1] < 0.5 * slack(), took


def slack() -> float:
    """How much slower than an idle machine this one may be."""
    return max(1.0, os.getloadavg()[0])


def logged(works: Workshop, fact: SourceResolved, event: str) -> bool:
    return any(line["event"] == event for line in works.warehouse.log(fact.run_dir).read())


async def overtake(works: Workshop, run: str) -> None:
    """Writes the lease as another attempt would, after ours had expired."""
    assert isinstance(works.outbox, Bus)
    bucket = works.outbox.runs._bucket
    entry = await bucket.get(f"lease.{run}")
    assert entry is not None
    other = entry.value.replace(b'"attempt":1', b'"attempt":2')
    token = b'"token":"'
    at = other.index(token) + len(token)
    await bucket.update(f"lease.{run}", other[:at] + b"x" + other[at + 1 :], entry.revision)


class frozen:  # noqa: N801  # reads as a word in `with`
    """The lane's workers hang, so that a run is under way for as long as the test wants."""

    def __init__(self, lane: Local) -> None:
        self._pids = lane.pool.pids()

    def __enter__(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for pid in self._pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
