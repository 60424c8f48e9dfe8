"""Many small files and images → a version, beside Ray Data on the same files; both warm.

Ours: survey, read, keys, checksums, Lance fragments and the commit, in two worker processes. Ray's:
`read_images` or `read_binary_files` until every row was made (`materialize`), nothing written.
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil

from benchmarks.report import Finding, show
from libs.common.manifest import parse
from libs.formats import SourceFile
from libs.warehouse import Commit, Warehouse
from services.transform.engines import Engine, Stop
from services.transform.engines.local import Local
from services.transform.plan import Sizes, make_plan
from services.transform.tasks import load_schema

SPREAD = 1000  # files per folder


def images(folder: Path, count: int, size: tuple[int, int]) -> None:
    """JPEGs of noise over gradients; twenty different ones."""
    from PIL import Image

    rng = np.random.default_rng(0)
    height, width = size[1], size[0]
    encoded = []
    for seed in range(min(count, 20)):
        base = np.linspace(0, 200, width * height * 3).reshape(height, width, 3) * (seed % 5) / 5
        noise = rng.integers(0, 20, (height, width, 3))
        out = BytesIO()
        Image.fromarray((base + noise).astype(np.uint8)).save(out, "JPEG", quality=85)
        encoded.append(out.getvalue())
    for at in range(count):
        path = folder / str(at // SPREAD) / f"{at:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[at % len(encoded)])


def blobs(folder: Path, count: int, size: int) -> None:
    """Files of noise."""
    noise = np.random.default_rng(0).bytes(size + count)
    for at in range(count):
        path = folder / str(at // SPREAD) / f"{at:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise[at : at + size])


def ours(engine: Engine, kind: str, folder: Path, house: Path) -> float:
    """Seconds from the list of files to a committed version."""
    files = [
        SourceFile(p.as_uri(), p.relative_to(folder).as_posix(), p.stat().st_size)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    ]
    warehouse, name = Warehouse(house.as_uri()), f"default/{kind}{time.monotonic_ns()}"
    wanted = parse(
        {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": name.partition("/")[2]},
            "spec": {"source": {"type": kind, "url": folder.as_uri()}},
        }
    )
    begun = time.perf_counter()
    plan = make_plan(
        wanted,
        files,
        run="run",
        attempt=1,
        target=warehouse.dataset_uri(name),
        stage=str(house / "stage"),
        sizes=Sizes(),
        workers={"local": 2},
    )
    made = engine.run(plan, lambda _done: None, Stop("run"))
    commit = Commit(
        run="run",
        run_dir="",
        attempt=1,
        plan_digest="",
        inventory_digest="",
        engine="local",
        rows=made.rows,
        bytes=made.bytes,
    )
    warehouse.commit(name, made.fragments, load_schema(made.schema_), commit)
    taken = time.perf_counter() - begun
    assert made.rows == len(files)
    return taken


def rays(kind: str, folder: Path) -> float:
    """Seconds of Ray Data on the same files, and every row made."""
    import ray

    read = ray.data.read_images if kind == "image" else ray.data.read_binary_files
    begun = time.perf_counter()
    read(str(folder)).materialize()
    return time.perf_counter() - begun


@contextmanager
def peak_memory(others: set[int]) -> Iterator[Callable[[], float]]:
    """Largest resident megabytes of a child of this process that isn't among `others`."""
    done, most = threading.Event(), [0.0]

    def look() -> None:
        while not done.wait(0.05):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if child.pid not in others:
                        most[0] = max(most[0], child.memory_info().rss / 1e6)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lambda: most[0]
    finally:
        done.set()
        watcher.join()


def compare(kind: str, folder: Path, house: Path, target: str, theirs: Callable[[], float] | None,
            their_count: int, count: int) -> list[Finding]:  # fmt: skip
    """Ours over everything; Ray, which is slow, over a share of it: files per second of both."""
    others = {child.pid for child in psutil.Process().children()}  # Ray's
    engine = Local(2, 1)
    engine.start()
    try:
        ours(engine, kind, next(p for p in sorted(folder.iterdir())), house)  # warm
        with peak_memory(others) as most:
            seconds = ours(engine, kind, folder, house)
            memory = most()
    finally:
        engine.stop()
    rate = count / seconds
    found = [
        Finding(f"{kind}: files/s", rate, "/s", "", f"{count:,} files in {seconds:.2f} s"),
        Finding(f"{kind}: largest worker, resident", memory, "MB", "≤ 500"),
    ]
    if theirs is not None:
        their_rate = their_count / theirs()
        detail = f"Ray: {their_rate:,.0f} files/s over {their_count:,}"
        found.insert(0, Finding(f"{kind} beside ray.data", rate / their_rate, "×", target, detail))
    return found


def main() -> None:
    """Prints a line per figure."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=20_000)
    arguments.add_argument("--blobs", type=int, default=100_000)
    arguments.add_argument("--no-ray", action="store_true", help="ours alone")
    arguments.add_argument("--output", type=Path)
    said = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="oneblock-files-") as temporary:
        folder = Path(temporary)
        images(folder / "image", said.images, (1024, 768))
        blobs(folder / "binary", said.blobs, 4096)
        findings = []
        if not said.no_ray:
            # Before ray is imported; without a token of its own it leaves one in the home folder.
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            import ray

            ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
            rays("binary", folder / "binary" / "0")  # warm
        for kind, count, target in (("image", said.images, "≥ 20"), ("binary", said.blobs, "≥ 8")):
            part = folder / kind / "0"
            sample = part if kind == "image" else folder / kind
            share = min(SPREAD, count) if kind == "image" else count
            theirs = None if said.no_ray else (lambda k=kind, s=sample: rays(k, s))
            findings += compare(kind, folder / kind, folder / "house", target, theirs, share, count)
        show(findings, said.output)


if __name__ == "__main__":
    main()
