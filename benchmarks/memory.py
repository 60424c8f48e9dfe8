"""How much memory each service takes while gigabytes flow through the whole stack.

`python -m benchmarks.memory [--small GB] [--large GB]`: CSV files go up through ingest, become a
version on the local lane and parquet at a destination, while pages of rows are read; the resident
memory of the four services is sampled ten times a second (worker processes apart). A target of the
project is told with `--small 1 --large 10`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil
import pyarrow.csv
from oneblock import Client, OneBlockError

from benchmarks import data
from benchmarks.report import Finding, percentile, show
from tests.e2e.stack import EmbeddedStack, embedded_stack

SERVICES = ("ingest", "transform", "sink", "catalog")
LIMIT = 256  # MB resident, each
GROWTH = "≤ 1.1"  # peak at the large size by peak at the small one
EVERY = 0.1  # seconds between samples
GB = 10**9
MIB = 2**20


class Sampler:
    """The highest resident memory of each service since `restart`, in MB; a context manager."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self._processes = {name: psutil.Process(stack.pid(name)) for name in SERVICES}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peaks: dict[str, float] = {}
        self.restart()

    def restart(self) -> None:
        self.peaks = dict.fromkeys(SERVICES, 0.0)
        self._sample()

    def _sample(self) -> None:
        for name, process in self._processes.items():
            self.peaks[name] = max(self.peaks[name], process.memory_info().rss / MIB)

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            self._sample()

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()


@dataclass
class Pages:
    """Reads pages of 100 rows at random offsets, until told to stop."""

    stack: EmbeddedStack
    taken: list[float] = field(default_factory=list)  # seconds

    @contextmanager
    def being_read(self, dataset: str) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._read, args=(dataset, over))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _read(self, dataset: str, over: threading.Event) -> None:
        choose = random.Random(7)
        rows = 100
        with self.stack.client() as client:
            while not over.wait(0.02):
                begun = time.perf_counter()
                with suppress(OneBlockError):  # there is no version at first
                    page = client.rows(dataset, offset=choose.randrange(max(1, rows - 99)))
                    rows = page.num_rows_total
                    self.taken.append(time.perf_counter() - begun)


def upload(client: Client, folder: Path, size: int) -> tuple[list[str], int]:
    """Sends CSV of about `size` bytes, a file at a time and none kept here; URLs and bytes."""
    urls: list[str] = []
    sent = 0
    while sent < size:
        path = folder / f"part-{len(urls):04}.csv"
        pyarrow.csv.write_csv(data.table(data.ROWS, len(urls)), path)
        done = client.upload(path)
        path.unlink()
        sent += done.size
        urls.append(done.url)
    return urls, sent


def flow(stack: EmbeddedStack, folder: Path, name: str, size: int) -> int:
    """Everything once: up, version, destination, pages meanwhile; returns the bytes."""
    with stack.client() as client:
        urls, sent = upload(client, folder, size)
        manifest = {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": name},
            "spec": {
                "source": {"type": "csv", "url": urls},
                "transform": [{"filter": "price > 10"}],
                "engine": "local",
                "destination": [
                    {"type": "local", "url": (folder / name).as_uri(), "format": "parquet"}
                ],
            },
        }
        pages = Pages(stack)
        with pages.being_read(name):
            run = client.apply(manifest, wait=True, timeout=3 * 3600)
            assert run.state == "succeeded", run.raw
        if pages.taken:
            print(f"{name}: {len(pages.taken)} pages read meanwhile, ", end="")
            print(f"p99 {percentile(pages.taken, 0.99) * 1e3:.1f} ms", flush=True)
        return sent


def run(small: float, large: float) -> list[Finding]:
    """Small, then large, in the same processes: what the small one leaves is in the large one."""
    with tempfile.TemporaryDirectory(prefix="oneblock-memory-") as name:
        folder = Path(name)
        with embedded_stack(folder / "home") as stack, Sampler(stack) as of:
            print(told("idle", of.peaks), flush=True)
            peaks = []
            for label, size in (("small", small), ("large", large)):
                of.restart()
                begun = time.perf_counter()
                sent = flow(stack, folder, label, int(size * GB))
                peaks.append(dict(of.peaks))
                took = time.perf_counter() - begun
                print(told(f"{label}, {sent / GB:.2f} GB in {took:.0f} s", peaks[-1]), flush=True)
        return findings(peaks[0], peaks[1], large)


def told(what: str, peaks: dict[str, float]) -> str:
    """One line of peaks."""
    return f"{what}: " + ", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items())


def findings(small: dict[str, float], large: dict[str, float], size: float) -> list[Finding]:
    """For each service the growth, then the peak."""
    found = []
    for name in SERVICES:
        growth = large[name] / small[name]
        detail = f"{small[name]:.0f} MB, then {large[name]:.0f} MB"
        found.append(Finding(f"{name}: peak, large / small", growth, "×", GROWTH, detail))
        most = max(small[name], large[name])
        found.append(Finding(f"{name}: peak while {size:g} GB flow", most, "MB", f"≤ {LIMIT}"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=float, default=0.3, help="GB of CSV")
    parser.add_argument("--large", type=float, default=3.0, help="GB of CSV")
    asked = parser.parse_args()
    show(run(asked.small, asked.large))


if __name__ == "__main__":
    main()
