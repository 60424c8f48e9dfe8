"""How long a page of rows takes at the HTTP client: 100 rows at random offsets of 10 million.

`python -m benchmarks.rows [--rows N] [--requests N]`: makes the version in a scratch folder,
starts nats-server and the catalog as they run in the stack, and asks for pages one by one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.bus.admin import migrate
from tests.catalogs import catalog_process, ended, story, tell
from tests.servers import nats_server

DATASET = "default/big"
TARGET = 0.020  # seconds at the 99th percentile


def table(rows: int) -> pa.Table:
    """Numbers, a float, and two texts; about 70 bytes a row."""
    numbers = pa.array(range(rows), pa.int64())
    text = pc.cast(numbers, pa.string())
    return pa.table(
        {
            "id": numbers,
            "price": pc.divide(pc.cast(numbers, pa.float64()), 7.0),
            "name": pc.binary_join_element_wise("name", text, "-"),
            "city": pc.binary_join_element_wise("a city with a longer name", text, " "),
            "when": pc.cast(pc.multiply(numbers, 1_000_000), pa.timestamp("us")),
        }
    )


def measure(client: httpx.Client, rows: int, requests: int, limit: int = 100) -> list[float]:
    """Seconds of each request, at random offsets."""
    choose = random.Random(7)
    taken = []
    for _ in range(requests):
        offset = choose.randrange(rows - limit)
        began = time.perf_counter()
        page = client.get(f"/v1/datasets/{DATASET}/rows?offset={offset}&limit={limit}")
        taken.append(time.perf_counter() - began)
        found = page.json()["rows"]
        assert len(found) == limit
        assert found[0]["row"]["id"] == offset
    return taken


def report(taken: list[float]) -> dict[str, float]:
    """Milliseconds at percentiles."""
    cuts = statistics.quantiles(taken, n=1000)
    return {
        "p50_ms": cuts[499] * 1e3,
        "p99_ms": cuts[989] * 1e3,
        "max_ms": max(taken) * 1e3,
    }


def run(rows: int, requests: int) -> dict[str, float]:
    """Everything from nothing; returns the figures."""
    with tempfile.TemporaryDirectory(prefix="oneblock-rows-") as name:
        folder = Path(name)
        with nats_server(folder) as nats:
            asyncio.run(migrate(nats.url))
            with catalog_process(folder / "home", nats) as catalog, catalog.client() as client:
                tell(nats, *story(catalog.warehouse, DATASET, "run-1", table(rows)))
                ended(client, "run-1")
                first = measure(client, rows, 1)
                figures = report(measure(client, rows, requests))
                resident = psutil.Process(catalog.pid).memory_info().rss / 2**20
                return {"first_ms": first[0] * 1e3, **figures, "catalog_rss_mb": resident}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--requests", type=int, default=1000)
    asked = parser.parse_args()
    figures = run(asked.rows, asked.requests)
    said = "  ".join(f"{name} {value:.1f}" for name, value in figures.items())
    verdict = "ok" if figures["p99_ms"] <= TARGET * 1e3 else "TOO SLOW"
    print(
        f"100 rows at any offset of {asked.rows:,}: {said}  (p99 ≤ {TARGET * 1e3:g} ms: {verdict})"
    )


if __name__ == "__main__":
    main()
