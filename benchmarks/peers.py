"""What people would write by hand with Ray Data; runs in a worker of the same warm cluster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import pyarrow as pa

Tuning = Literal["idiomatic", "tuned"]


def ray_data_filter(
    paths: list[str], kind: str, out: str, tuning: Tuning, blocks: int | None = None
) -> float:
    """Seconds of read → map_batches(filter) → write_parquet. To be run as a Ray task or actor."""
    import pyarrow.compute as pc
    import ray

    def keep(batch: pa.Table) -> pa.Table:
        return batch.filter(pc.greater(batch["price"], 10))

    read = ray.data.read_csv if kind == "csv" else ray.data.read_parquet
    begun = time.perf_counter()
    dataset = read(paths, override_num_blocks=blocks) if tuning == "tuned" else read(paths)
    dataset.map_batches(keep, batch_format="pyarrow", batch_size=None).write_parquet(out)
    return time.perf_counter() - begun


def cold_ray_data(path: Path, out: Path) -> None:
    """A whole plain script: start Ray, read a CSV, write parquet. Run in a process of its own."""
    import ray

    ray.init(include_dashboard=False, log_to_driver=False)
    ray.data.read_csv(str(path)).write_parquet(str(out))
