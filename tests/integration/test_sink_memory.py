"""The sink's memory doesn't grow with what flows through it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from libs.formats import SYSTEM_FIELDS
from libs.warehouse import Commit, Warehouse, write_fragments

ROOT = Path(__file__).parents[2]
LIMIT_MB = 256
ROWS = 50_000  # of about 100 bytes each, in a batch
SCHEMA = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("s", pa.string()), *SYSTEM_FIELDS])
CHILD = """
import sys

from libs.warehouse.memory import keep_flat

keep_flat()
from pathlib import Path
import services.sink.app  # all that the service loads
from libs.warehouse import Warehouse
from services.sink.destinations import Access
from services.sink.destinations.local import PLUGIN
from tests.delivery import Eye, order

folder, format = Path(sys.argv[1]), sys.argv[2]
rows = Warehouse((folder / "wh").as_uri()).open("default/m")
what = order(folder / "out" / format, dataset="default/m", format=format)
PLUGIN.deliver(what, rows, Access((folder,)), Eye())
peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""


def batches(count: int) -> Iterator[pa.RecordBatch]:
    """Rows that don't compress away."""
    for number in range(count):
        noise = os.urandom(ROWS * 16)
        words = [noise[i : i + 20].hex() for i in range(0, ROWS * 8, 8)]
        yield pa.record_batch(
            [
                pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64()),
                pa.array([i / 7 for i in range(ROWS)], pa.float64()),
                pa.array(words),
                pa.Array.from_buffers(pa.binary(16), ROWS, [None, pa.py_buffer(noise)]),
                pa.Array.from_buffers(pa.binary(8), ROWS, [None, pa.py_buffer(noise)]),
                pa.array([7] * ROWS, pa.int64()),
            ],
            schema=SCHEMA,
        )


def peak_mb(folder: Path, count: int, format: str) -> int:
    warehouse = Warehouse((folder / "wh").as_uri())
    fragments = write_fragments(warehouse.dataset_uri("default/m"), batches(count), SCHEMA)
    commit = Commit("run-1", "default/m.runs/run-1", 1, "p", "i", "local", 0, 0)
    warehouse.commit("default/m", fragments, SCHEMA, commit)
    words = [sys.executable, "-c", CHILD, str(folder), format]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_three_times_the_rows_need_no_more_memory_to_deliver(format: str, tmp_path: Path) -> None:
    little = peak_mb(tmp_path / "little", 30, format)
    much = peak_mb(tmp_path / "much", 90, format)
    assert much <= LIMIT_MB
    assert much <= 1.1 * little
