"""How soon people are served: from `oneblock up` to a request, from a request to rows.

`python -m benchmarks.start [--requests N]`. The peer is a plain Ray Data script in a process of its
own that does what the request asks for, and starts Ray as such a script does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pyarrow.csv
from oneblock import ApiError, Client

from benchmarks import data
from benchmarks.report import Finding, percentile, show
from tests.e2e.stack import EmbeddedStack, embedded_stack

ROWS = 16_500  # about a megabyte of CSV
COLD = "import sys; from pathlib import Path; from benchmarks.peers import cold_ray_data; "
COLD += "cold_ray_data(Path(sys.argv[1]), Path(sys.argv[2]))"


def accepted_after(home: Path) -> float:
    """Seconds from `oneblock up` to the first request that is accepted, Ray starting beside."""
    begun = time.perf_counter()
    with embedded_stack(home, ray=True, until="accepting") as stack, stack.client() as client:
        client.plan(manifest(Path("/nowhere.csv"), "first"))
        taken = time.perf_counter() - begun
        stack.wait_for(lambda: stack.state["state"] == "ready", "the rest")
    return taken


def manifest(path: Path, name: str) -> dict[str, object]:
    return {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": name},
        "spec": {
            "source": {"type": "csv", "url": path.as_uri()},
            "engine": "local",
        },
    }


def readable_after(stack: EmbeddedStack, path: Path, requests: int) -> list[float]:
    """Seconds from each request to its version being readable over HTTP."""
    taken = []
    with stack.client() as client:
        for _ in range(requests):
            name = f"s{uuid.uuid4().hex[:8]}"
            begun = time.perf_counter()
            run = client.apply(manifest(path, name))
            while not ended(client, run.id):
                time.sleep(0.005)
            assert client.rows(name, limit=1).num_rows_total == ROWS
            taken.append(time.perf_counter() - begun)
    return taken


def ended(client: Client, run: str) -> bool:
    """Whether it has; the catalog hears of a run a moment after it is accepted."""
    try:
        return client.run(run).ended
    except ApiError:
        return False


def cold_script(path: Path, out: Path) -> float:
    """Seconds of the plain script."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", COLD, str(path), str(out)], check=True)
    return time.perf_counter() - begun


def run(requests: int) -> list[Finding]:
    """Everything from nothing."""
    with tempfile.TemporaryDirectory(prefix="oneblock-start-") as name:
        folder = Path(name)
        path = folder / "one.csv"
        pyarrow.csv.write_csv(data.table(ROWS, 0), path)
        first = min(accepted_after(folder / f"up{i}") for i in range(2))  # the second: a warm disk
        env = {"ONEBLOCK_FILE_ROOTS": str(folder)}
        with embedded_stack(folder / "home", env=env) as stack:
            readable_after(stack, path, 3)
            ours = readable_after(stack, path, requests)
        theirs = min(cold_script(path, folder / f"out{i}") for i in range(2))
    median = percentile(ours, 0.5)
    return [
        Finding("a cold Ray Data script / ours, 1 MB CSV", theirs / median, "×", "≥ 20"),
        Finding("from the request to rows, 1 MB CSV, median", median, "s", "≤ 0.5"),
        Finding("from `oneblock up` to a request accepted", first, "s", "≤ 5"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20)
    show(run(parser.parse_args().requests))


if __name__ == "__main__":
    main()
