"""A big file into ingest, by HTTP from a web server and by tus, against `cp` and `sync`.

`python -m benchmarks.uploads [--megabytes N] [--pairs N]`. Ours is timed from the outside, from the
request until the copy is durable: a run whose sources are resolved, or the answer to the last byte.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from oneblock import Client

from benchmarks.report import Finding, show
from tests.ingests import Ingest, ingest_on, manifest

MIB = 1 << 20
LIMIT = 256  # MB resident
SERVER = """
import http.server, os, sys
class Serving(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[1], "rb") as file:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            self.connection.sendfile(file)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def main() -> None:
    """Prints the findings."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=2000)
    arguments.add_argument("--pairs", type=int, default=3)
    asked = arguments.parse_args()
    show(run(asked.megabytes, asked.pairs))


def run(megabytes: int, pairs: int) -> list[Finding]:
    """Both ways by turns with their peer."""
    env = {"ONEBLOCK_PRIVATE_NETWORKS": "loopback", "ONEBLOCK_HTTP_PORTS": "*"}
    with (
        tempfile.TemporaryDirectory(prefix="oneblock-uploads-") as name,
        ingest_on(Path(name) / "home", env) as ingest,
    ):
        source = _file(Path(name) / "source.bin", megabytes)
        ingest.start()
        with _web(source) as url, resident(ingest) as peak:
            found = {
                "HTTP ingest": (lambda n: _by_http(ingest, f"{url}?n={n}"), "≥ 0.8"),
                "tus": (lambda _n: _by_tus(ingest, source), "≥ 0.7"),
            }
            findings = [
                _finding(what, megabytes, pairs, work, source, target)
                for what, (work, target) in found.items()
            ]
            return [*findings, Finding("ingest, resident at most", peak(), "MB", f"≤ {LIMIT}")]


def _finding(
    what: str, megabytes: int, pairs: int, work: Callable[[int], float], source: Path, target: str
) -> Finding:
    """The median of the pairs' speeds, ours to theirs."""
    timed = [(_by_cp(source), work(pair)) for pair in range(pairs)]
    ratios = sorted(theirs / ours for theirs, ours in timed)
    theirs, ours = (sorted(column)[pairs // 2] for column in zip(*timed, strict=True))
    size = megabytes * MIB / 1e6
    detail = f"ours {size / ours:,.0f} MB/s, cp + sync {size / theirs:,.0f} MB/s, {pairs} pairs"
    return Finding(
        f"{what} of {megabytes} MiB to cp + sync", ratios[pairs // 2], "×", target, detail
    )


def _by_cp(source: Path) -> float:
    target = source.with_suffix(".copy")
    begun = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    subprocess.run(["sync", str(target)], check=True)
    took = time.perf_counter() - begun
    target.unlink()
    return took


def _by_http(ingest: Ingest, url: str) -> float:
    name = f"b{random.randrange(1 << 32):08x}"
    with ingest.client() as client:
        begun = time.perf_counter()
        run = client.post("/v1/datasets", json=manifest(name, url)).json()["run"]["id"]
        while (state := client.get(f"/v1/runs/{run}").json()).get("stage") != "transform":
            assert state.get("state") != "failed", state
            time.sleep(0.01)
        return time.perf_counter() - begun


def _by_tus(ingest: Ingest, source: Path) -> float:
    with Client(catalog_url=ingest.url, ingest_url=ingest.url) as client:
        begun = time.perf_counter()
        client.upload(source)
        return time.perf_counter() - begun


def _file(path: Path, megabytes: int) -> Path:
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    return path


@contextmanager
def _web(source: Path) -> Iterator[str]:
    """The file at a URL, by a server that costs little itself."""
    command = [sys.executable, "-c", SERVER, str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/source.bin"
        finally:
            server.kill()


@contextmanager
def resident(ingest: Ingest) -> Iterator[Callable[[], float]]:
    """The highest resident memory of the service meanwhile, in MB."""
    assert ingest.process is not None
    watched, over, highest = psutil.Process(ingest.process.pid), threading.Event(), [0.0]

    def watch() -> None:
        while not over.wait(0.02):
            highest[0] = max(highest[0], watched.memory_info().rss / 1e6)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield lambda: highest[0]
    finally:
        over.set()
        watching.join()


if __name__ == "__main__":
    main()
