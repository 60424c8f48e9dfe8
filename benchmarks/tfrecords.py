"""TFRecords → a version, beside `ray.data.read_tfrecords` with TensorFlow; both warm, two cores.

Ours: split, checksums, Examples into columns, row keys, Lance fragments and the commit, in two
worker processes. Ray's: the same kind of records until every row was made (`materialize`), without
checksums and with nothing written; over fewer records, since it is slow.
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.files import peak_memory
from benchmarks.report import Finding, show
from libs.common.manifest import parse
from libs.formats import FORMATS, SourceFile
from libs.warehouse import Commit, Warehouse
from services.transform.engines import Engine, Stop
from services.transform.engines.local import Local
from services.transform.plan import Sizes, make_plan
from services.transform.tasks import load_schema

BATCH = 10_000


def write(path: Path, count: int) -> Path:
    """Records of about 250 bytes: numbers, texts, bytes, lists of fixed and of varying length."""
    rng, out = np.random.default_rng(0), None
    plugin = FORMATS.get("tfrecords")
    path.parent.mkdir(parents=True, exist_ok=True)
    for begin in range(0, count, BATCH):
        batch = _batch(rng, begin, min(BATCH, count - begin))
        out = out or plugin.writer(str(path), batch.schema, plugin.WriteOptions())
        out.write(batch)
    assert out is not None
    out.close()
    return path


def _batch(rng: np.random.Generator, begin: int, count: int) -> pa.RecordBatch:
    vectors = pa.array(rng.random(count * 16, np.float32))
    return pa.RecordBatch.from_pydict(
        {
            "id": np.arange(begin, begin + count),
            "label": rng.integers(-5, 10**9, count),
            "score": rng.random(count, np.float32),
            "name": [f"name {i}" for i in range(begin, begin + count)],
            "vector": pa.FixedSizeListArray.from_arrays(vectors, 16),
            # Ray can't read lists of which some have one value or none.
            "tags": [[f"t{j}" for j in range(2 + i % 3)] for i in range(count)],
            "ids": [list(range(i, i + 2 + i % 4)) for i in range(count)],
            "blob": [rng.bytes(20) for _ in range(count)],
        }
    )


def ours(engine: Engine, path: Path, house: Path) -> tuple[float, int]:
    """Seconds from the file to a committed version, and its rows."""
    warehouse, name = Warehouse(house.as_uri()), f"default/t{time.monotonic_ns()}"
    wanted = parse(
        {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": name.partition("/")[2]},
            "spec": {"source": {"type": "tfrecords", "url": path.as_uri()}},
        }
    )
    begun = time.perf_counter()
    plan = make_plan(
        wanted,
        [SourceFile(path.as_uri(), path.name, path.stat().st_size)],
        run="run",
        attempt=1,
        target=warehouse.dataset_uri(name),
        stage=str(house / "stage"),
        sizes=Sizes(),
        workers={"local": 2},
    )
    made = engine.run(plan, lambda _done: None, Stop("run"))
    facts = Commit("run", "", 1, "", "", "local", made.rows, made.bytes)
    warehouse.commit(name, made.fragments, load_schema(made.schema_), facts)
    return time.perf_counter() - begun, made.rows


def rays(path: Path) -> tuple[float, int]:
    """Seconds of Ray Data until every row was made, and how many."""
    import ray

    begun = time.perf_counter()
    rows = ray.data.read_tfrecords(str(path)).materialize().count()
    return time.perf_counter() - begun, rows


def main() -> None:
    """Prints a line per figure."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--records", type=int, default=1_000_000)
    arguments.add_argument("--theirs", type=int, default=20_000, help="records for Ray")
    arguments.add_argument("--no-ray", action="store_true", help="ours alone")
    arguments.add_argument("--output", type=Path)
    said = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="oneblock-tfrecords-") as temporary:
        folder = Path(temporary)
        large = write(folder / "large" / "a.tfrecord", said.records)
        small = write(folder / "small" / "a.tfrecord", said.theirs)
        their_rate = 0.0
        if not said.no_ray:
            # Before ray is imported; without a token of its own it leaves one in the home folder.
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            import ray

            ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
            rays(write(folder / "warm" / "a.tfrecord", 100))
            seconds, rows = rays(small)
            assert rows == said.theirs
            their_rate = rows / seconds
            ray.shutdown()
        others = {child.pid for child in psutil.Process().children()}
        engine = Local(2, 1)
        engine.start()
        try:
            ours(engine, small, folder / "house")  # warm
            with peak_memory(others) as most:
                seconds, rows = ours(engine, large, folder / "house")
                memory = most()
        finally:
            engine.stop()
        assert rows == said.records
        rate, size = rows / seconds, large.stat().st_size / 1e6
        found = [
            Finding("tfrecords: records/s", rate, "/s", "", f"{rows:,}, {size / seconds:.0f} MB/s"),
            Finding("tfrecords: largest worker, resident", memory, "MB", "≤ 500"),
        ]
        if their_rate:
            detail = f"Ray: {their_rate:,.0f} records/s over {said.theirs:,}"
            beside = Finding("tfrecords beside ray.data", rate / their_rate, "×", "≥ 50", detail)
            found.insert(0, beside)
        show(found, said.output)


if __name__ == "__main__":
    main()
