"""CSV and parquet → filter → version with row keys, against hand-written Ray Data on one cluster.

`python -m benchmarks.throughput [--bytes N] [--pairs N]`. Ours is timed from the outside, from the
request to the readable version; theirs inside the cluster, from read to written parquet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import data, peers
from benchmarks.report import Finding, ratio, show
from deploy.local.ray_head import client_environment
from tests.e2e.stack import EmbeddedStack, embedded_stack


@dataclass(frozen=True)
class Case:
    """One kind of input."""

    name: str
    kind: str  # csv or parquet
    url: str
    paths: list[str]


def cases(folder: Path, size: int) -> list[Case]:
    """Many CSV files, the same as one file, and parquet; `size` in bytes of CSV."""
    many = data.csv_files(folder / "csv", size)
    whole = data.one_csv(folder / "one.csv", many)
    parquet = data.parquet_files(folder / "parquet", size)
    return [
        Case("CSV, many files", "csv", (folder / "csv").as_uri() + "/", [str(p) for p in many]),
        Case("CSV, one file", "csv", whole.as_uri(), [str(whole)]),
        Case("parquet", "parquet", (folder / "parquet").as_uri() + "/", [str(p) for p in parquet]),
    ]


def ours(stack: EmbeddedStack, case: Case) -> float:
    """Seconds from the request to the readable version."""
    manifest = {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": f"t{uuid.uuid4().hex[:8]}"},
        "spec": {
            "source": {"type": case.kind, "url": case.url},
            "transform": [{"filter": "price > 10"}],
            "engine": "ray",
        },
    }
    with stack.client() as client:
        begun = time.perf_counter()
        run = client.apply(manifest, wait=True, timeout=600)
        taken = time.perf_counter() - begun
        assert run.state == "succeeded", run.raw
    shutil.rmtree(stack.home / "warehouse" / f"{run.dataset}.lance")
    return taken


def theirs(case: Case, out: Path, tuning: peers.Tuning, blocks: int | None) -> float:
    """Seconds of the hand-written script, in a worker of the same cluster."""
    import ray

    script = ray.remote(num_cpus=0)(peers.ray_data_filter)
    taken: float = ray.get(script.remote(case.paths, case.kind, str(out), tuning, blocks))
    shutil.rmtree(out)
    return taken


def measure(case: Case, pairs: int, our: Callable[[], float], out: Path) -> list[Finding]:
    """Interleaved: ours, idiomatic, tuned with the best of three block counts, again."""
    print(f"{case.name}: warm-up {our():.1f} s", flush=True)
    tunings = {blocks: theirs(case, out, "tuned", blocks) for blocks in (2, 4, 8)}
    best = min(tunings, key=lambda blocks: tunings[blocks])
    print(f"{case.name}: Ray Data by blocks {tunings}", flush=True)
    mine, plain, tuned = [], [], []
    for _ in range(pairs):
        mine.append(our())
        plain.append(theirs(case, out, "idiomatic", None))
        tuned.append(theirs(case, out, "tuned", best))
    return [
        ratio(f"{case.name}: ours / idiomatic Ray Data", mine, plain, "≤ 0.4"),
        ratio(f"{case.name}: ours / Ray Data with {best} blocks", mine, tuned, "≤ 0.5"),
    ]


def run(size: int, pairs: int) -> list[Finding]:
    """Everything from nothing."""
    with tempfile.TemporaryDirectory(prefix="oneblock-throughput-") as name:
        folder = Path(name)
        found = cases(folder, size)
        env = {"ONEBLOCK_FILE_ROOTS": str(folder)}
        with embedded_stack(folder / "home", ray=True, env=env) as stack:
            token = (stack.home / "ray" / "token").read_text().strip()
            env_vars = client_environment(token)
            with connected(stack.endpoint("ray"), env_vars):
                return [
                    finding
                    for case in found
                    for finding in measure(
                        case, pairs, lambda c=case: ours(stack, c), folder / "out"
                    )
                ]


@contextmanager
def connected(address: str, environment: dict[str, str]) -> Iterator[None]:
    """A Ray client connection of this process; Ray reads its environment when it is imported."""
    os.environ.update(environment)
    import ray

    for patience in (2, 5, None):
        try:
            ray.init(address, logging_level="error", log_to_driver=False)
            break
        except ConnectionError:  # usual in a head's first seconds
            if patience is None:
                raise
            time.sleep(patience)
    try:
        yield
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    show(run(asked.bytes, asked.pairs))


if __name__ == "__main__":
    main()
