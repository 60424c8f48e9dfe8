"""A stack that is killed while it works, and what must hold afterwards."""

from __future__ import annotations

import csv
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
from oneblock import Client, Run

from libs.warehouse import Warehouse
from tests.e2e.stack import EmbeddedStack, embedded_stack

ROWS = 30_000


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
