"""kill -9 of every part while a run works: one version, right rows, one delivery, nothing to do."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from oneblock import Client, Run

from deploy.local import process
from libs.warehouse import Warehouse
from tests.e2e.stack import EmbeddedStack, embedded_stack

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = 30_000
POINTS = {
    "ingest": (
        "after_accept_before_publish",
        "after_spec_put",
        "after_slot",
        "before_resolved",
        "after_resolved_before_ack",
    ),
    "transform": (
        "after_lease",
        "before_commit",
        "after_commit_before_tag",
        "after_tag",
        "before_publish",
    ),
    "sink": (
        "sink_before_parts",
        "sink_before_switch",
        "sink_after_switch",
        "sink_before_publish",
        "sink_before_end",
    ),
    "catalog": (
        "catalog_before_commit:1",
        "catalog_after_commit:1",
        "catalog_before_commit:2",
        "catalog_after_commit:2",
        "catalog_before_commit:3",
    ),
}


class World:
    """A stack, a CSV, and the crash point that is armed."""

    def __init__(self, folder: Path, *, ray: bool) -> None:
        self.folder = folder
        self.ray = ray
        self.armed = folder / "crash-point"
        self.source = folder / "data" / "rows.csv"
        self.source.parent.mkdir()
        with self.source.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text", "price"])
            writer.writerows([i, f"text {i}", i / 4] for i in range(ROWS))

    def manifest(self, name: str) -> dict[str, object]:
        return {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": name},
            "spec": {
                "source": {"type": "csv", "url": self.source.as_uri(), "key": ["id"]},
                "transform": [{"filter": "price >= 100"}],
                "destination": {
                    "type": "local",
                    "format": "parquet",
                    "url": str(self.folder / "out" / name),
                },
                "engine": "ray" if self.ray else "local",
            },
        }


def open_world(folder: Path, *, ray: bool) -> Iterator[tuple[World, EmbeddedStack]]:
    world = World(folder, ray=ray)
    env = {
        "CRASHPOINT_FILE": str(world.armed),
        "ONEBLOCK_FILE_ROOTS": str(folder / "data"),
        "ONEBLOCK_SINK_ROOTS": str(folder / "out"),
        "ONEBLOCK_LEASE_TTL": "2",
    }
    with embedded_stack(folder / "home", ray=ray, env=env) as stack:
        yield world, stack


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, EmbeddedStack]]:
    yield from open_world(tmp_path_factory.mktemp("kills"), ray=False)


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, EmbeddedStack]]:
    yield from open_world(tmp_path_factory.mktemp("kills-ray"), ray=True)


def ended(client: Client, run: str) -> Run:
    """The run when it has ended; services may be away in between."""
    deadline = time.monotonic() + 120
    last: object = None
    while time.monotonic() < deadline:
        with suppress(Exception):
            last = client.run(run)
            if isinstance(last, Run) and last.ended:
                return last
        time.sleep(0.05)
    raise AssertionError(f"{run} did not end: {last}")


def assert_done_once(world: World, stack: EmbeddedStack, name: str, run: Run) -> None:
    """Exactly one version with the right rows, one delivery, and nothing that nobody uses."""
    assert (run.state, run.version) == ("succeeded", 1), run.raw
    want = [(i, f"text {i}", i / 4) for i in range(ROWS) if i / 4 >= 100]
    warehouse = Warehouse((stack.home / "warehouse").as_uri())
    assert [v.number for v in warehouse.versions(f"default/{name}")] == [1]
    rows = [
        (r["id"], r["text"], r["price"])
        for batch in warehouse.open(f"default/{name}").batches()
        for r in batch.to_pylist()
    ]
    assert sorted(rows) == want
    out = world.folder / "out" / name
    told = json.loads((out / "_manifest.json").read_text())
    assert (told["version"], told["rows"]) == (1, len(want))
    delivered = [r for f in told["files"] for r in pq.read_table(out / f["path"]).to_pylist()]
    assert sorted((r["id"], r["text"], r["price"]) for r in delivered) == want
    assert sorted(p.name for p in out.parent.iterdir() if name in p.name) == [name]
    with stack.client() as client:
        assert len(client.dataset(name).raw["deliveries"]) == 1


def apply(client: Client, world: World, name: str) -> str:
    """Asks for the run; the client asks again, with the same key, where ingest dies."""
    key = uuid.uuid4().hex
    deadline = time.monotonic() + 60
    while True:
        try:
            return client.apply(world.manifest(name), key=key).id
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("service", "point"), [(s, p) for s, points in POINTS.items() for p in points]
)
def test_a_killed_service_costs_nothing(
    local: tuple[World, EmbeddedStack], service: str, point: str
) -> None:
    world, stack = local
    name = f"{service}-{point}".replace("_", "-").replace(":", "-")
    before = stack.pid(service)
    world.armed.write_text(point)
    with stack.client() as client:
        run = ended(client, apply(client, world, name))
        assert not world.armed.exists(), f"{point} was never reached"
        stack.wait_ready(service, other_than=before)
        assert_done_once(world, stack, name, ended(client, run.id))


def when_listed(world: World, stack: EmbeddedStack, name: str) -> bool:
    runs = stack.home / "warehouse" / "default" / f"{name}.runs"
    return any(runs.glob("*/inventory.parquet"))


def when_fragments(world: World, stack: EmbeddedStack, name: str) -> bool:
    return any((stack.home / "warehouse" / "default" / f"{name}.lance").glob("data/*"))


def when_committed(world: World, stack: EmbeddedStack, name: str) -> bool:
    return any((stack.home / "warehouse" / "default" / f"{name}.lance").glob("_versions/*"))


def when_delivering(world: World, stack: EmbeddedStack, name: str) -> bool:
    return (world.folder / "out" / name).exists() or any((world.folder / "out").glob(f".*{name}*"))


def at_once(world: World, stack: EmbeddedStack, name: str) -> bool:
    return True


@pytest.mark.parametrize(
    "moment", [at_once, when_listed, when_fragments, when_committed, when_delivering]
)
def test_a_killed_broker_costs_nothing(
    local: tuple[World, EmbeddedStack], moment: Callable[[World, EmbeddedStack, str], bool]
) -> None:
    world, stack = local
    name = "nats-" + moment.__name__.replace("_", "-")
    with stack.client() as client:
        run = apply(client, world, name)
        stack.wait_for(lambda: moment(world, stack, name), moment.__name__)
        old = stack.kill("nats")
        stack.wait_ready("nats", other_than=old)
        assert_done_once(world, stack, name, ended(client, run))


def drivers(stack: EmbeddedStack) -> list[psutil.Process]:
    """Processes of the stack in which a run's driver lives in the Ray cluster."""
    found = []
    for member in process.members(str(stack.state["stack"])):
        with suppress(psutil.Error):
            title = " ".join(member.cmdline())
            if title.startswith("ray::RunActor"):
                found.append(member)
    return found


@pytest.mark.ray
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_a_killed_ray_actor_costs_nothing(
    on_ray: tuple[World, EmbeddedStack], delay: float
) -> None:
    """The delays spread the kills over the driver's short life; the result may not depend on it."""
    world, stack = on_ray
    name = f"actor-{int(delay * 1000)}"
    known = {p.pid for p in drivers(stack)}
    with stack.client() as client:
        run = apply(client, world, name)
        stack.wait_for(lambda: {p.pid for p in drivers(stack)} - known, "the driver")
        time.sleep(delay)
        for driver in drivers(stack):
            with suppress(psutil.Error):
                driver.kill()
        assert_done_once(world, stack, name, ended(client, run))


@pytest.mark.ray
@pytest.mark.parametrize("point", ["after_actor_start", "before_commit", "after_tag"])
def test_a_killed_transform_service_finds_its_ray_run_again(
    on_ray: tuple[World, EmbeddedStack], point: str
) -> None:
    world, stack = on_ray
    name = "ray-" + point.replace("_", "-")
    before = stack.pid("transform")
    world.armed.write_text(point)
    with stack.client() as client:
        run = ended(client, apply(client, world, name))
        assert not world.armed.exists(), f"{point} was never reached"
        stack.wait_ready("transform", other_than=before)
        assert_done_once(world, stack, name, run)


def test_everything_killed_at_once_goes_on_where_it_was(
    local: tuple[World, EmbeddedStack],
) -> None:
    world, stack = local
    with stack.client() as client:
        run = apply(client, world, "everything")
    stack.wait_for(lambda: when_listed(world, stack, "everything"), "the inventory")
    stack.kill_everything()
    stack.start()
    with stack.client() as client:
        assert_done_once(world, stack, "everything", ended(client, run))


def test_a_frozen_transform_service_writes_nothing_after_another_took_over(
    local: tuple[World, EmbeddedStack],
) -> None:
    """SIGSTOP instead of a kill: the service thaws and has to notice what it missed."""
    world, stack = local
    pid = stack.pid("transform")
    os.kill(pid, signal.SIGSTOP)
    try:
        with stack.client() as client:
            run = apply(client, world, "frozen")
            stack.wait_for(lambda: when_listed(world, stack, "frozen"), "the inventory")
    finally:
        os.kill(pid, signal.SIGCONT)
    with stack.client() as client:
        assert_done_once(world, stack, "frozen", ended(client, run))
