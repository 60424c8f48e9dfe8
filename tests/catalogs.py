"""A catalog as its own process on a real nats-server, and the story of runs to tell it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pyarrow as pa

from libs.common.events import (
    DatasetDelivered,
    DatasetTransformed,
    Fact,
    RunChanged,
    SourceResolved,
)
from libs.common.manifest import parse
from libs.formats import SYSTEM_FIELDS
from libs.warehouse import Commit, Version, Warehouse, write_fragments
from tests.buses import a_bus, started
from tests.servers import NatsServer

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class CatalogProcess:
    """A catalog that runs; `log` is what it wrote to stderr."""

    url: str
    pid: int
    log: Path
    warehouse: Warehouse

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10)


@contextmanager
def catalog_process(folder: Path, nats: NatsServer, **environment: str) -> Iterator[CatalogProcess]:
    """Starts it on a free port; at the end it must stop cleanly by itself."""
    folder.mkdir(exist_ok=True)
    ready, log = folder / "ready.json", folder / "catalog.log"
    ready.unlink(missing_ok=True)
    own = {
        "ONEBLOCK_NATS_URL": nats.url,
        "ONEBLOCK_HOME": str(folder),
        "ONEBLOCK_PORT": "0",
        "ONEBLOCK_READY_FILE": str(ready),
        "ONEBLOCK_STOP_TIMEOUT": "5",
        **environment,
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ONEBLOCK_")}
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-W", "error::DeprecationWarning", "-m", "services.catalog"],
            cwd=ROOT, env=kept | own, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        url = _answering(process, ready, log)
        yield CatalogProcess(url, process.pid, log, Warehouse((folder / "warehouse").as_uri()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def _answering(process: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if ready.exists():
            url = f"http://127.0.0.1:{orjson.loads(ready.read_bytes())['port']}"
            try:
                if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                    return url
            except httpx.TransportError:
                pass
        time.sleep(0.02)
    raise AssertionError(f"the catalog didn't start:\n{log.read_text()[-4000:]}")


def tell(nats: NatsServer, *facts: Fact) -> None:
    """Publishes facts as some other service."""

    async def publish() -> None:
        async with started(a_bus(nats, "teller")) as bus:
            for fact in facts:
                await bus.publish(fact)

    asyncio.run(publish())


def want(nats: NatsServer, manifest: dict[str, object]) -> int:
    """Stores a manifest as ingest does; returns its generation."""

    async def put() -> int:
        async with started(a_bus(nats, "teller")) as bus:
            return (await bus.specs.put(parse(manifest))).generation

    return asyncio.run(put())


def manifest_of(dataset: str) -> dict[str, object]:
    namespace, _, name = dataset.partition("/")
    return {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": {"type": "csv", "url": "file:///data/x.csv"}},
    }


def committed(warehouse: Warehouse, dataset: str, run: str, table: pa.Table) -> Version:
    """Makes the table's rows the dataset's next version, with numbered row keys."""
    count = table.num_rows
    system = [
        pa.array([n.to_bytes(16, "big") for n in range(count)], pa.binary(16)),
        pa.array([b"\0" * 8] * count, pa.binary(8)),
        pa.array([0] * count, pa.int64()),
    ]
    for field, values in zip(SYSTEM_FIELDS, system, strict=True):
        table = table.append_column(field, values)
    schema = table.schema
    fragments = write_fragments(warehouse.dataset_uri(dataset), table.to_batches(), schema)
    commit = Commit(
        run=run, run_dir=warehouse.run_dir(dataset, run), attempt=1, plan_digest="p",
        inventory_digest="i", engine="local", rows=count, bytes=table.nbytes,
    )  # fmt: skip
    return warehouse.commit(dataset, fragments, schema, commit)


def story(
    warehouse: Warehouse, dataset: str, run: str, table: pa.Table, generation: int = 1
) -> list[Fact]:
    """Commits the rows and gives the facts of the whole run that made them."""
    version = committed(warehouse, dataset, run, table)
    run_dir = warehouse.run_dir(dataset, run)
    return [
        RunChanged(run=run, dataset=dataset, generation=generation, state="accepted"),
        SourceResolved(
            run=run, dataset=dataset, generation=generation, run_dir=run_dir, digest="d",
            files=1, bytes=100,
        ),
        DatasetTransformed(
            run=run, dataset=dataset, generation=generation, run_dir=run_dir,
            version=version.number, rows=table.num_rows, bytes=table.nbytes, engine="local",
            columns=tuple((f.name, str(f.type)) for f in table.schema),
        ),
        DatasetDelivered(
            run=run, dataset=dataset, version=version.number, destination="file:///out",
            kind="local", format="csv", files=1, rows=table.num_rows, bytes=90,
        ),
        RunChanged(
            run=run, dataset=dataset, generation=generation, state="succeeded",
            version=version.number,
        ),
    ]  # fmt: skip


def soon(
    client: httpx.Client, path: str, status: int = 200, within: float = 10.0
) -> httpx.Response:
    """The answer of `path` as soon as it has this status."""
    deadline = time.monotonic() + within
    while (answer := client.get(path)).status_code != status:
        assert time.monotonic() < deadline, f"{path}: {answer.status_code} {answer.text[:500]}"
        time.sleep(0.02)
    return answer


def ended(client: httpx.Client, run: str, within: float = 10.0) -> dict[str, object]:
    """The run as soon as the catalog says that it has finished."""
    deadline = time.monotonic() + within
    while True:
        found: dict[str, object] = soon(client, f"/v1/runs/{run}", within=within).json()
        if found["finished_at"]:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
