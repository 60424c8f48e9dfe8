"""How fast the formats read into Arrow with row keys, on one core, beside plain pyarrow."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from libs.formats import FORMATS, ReadOptions, SourceFile


def table(rows: int, *, text: bool) -> pa.Table:
    """Numbers with short names; with `text`, also cells that need quotes."""
    rng = np.random.default_rng(0)
    columns = {
        "id": np.arange(rows),
        "price": np.round(rng.random(rows) * 1000, 2),
        "name": [f"name-{i % 5000}" for i in range(rows)],
        "quantity": rng.integers(0, 1000, rows),
        "code": rng.integers(0, 10**12, rows),
    }
    if text:
        columns["note"] = [f'said "{i}", then left' if i % 3 else f"plain {i}" for i in range(rows)]
    return pa.table(columns)


def files(folder: Path, rows: int) -> Iterator[tuple[str, Path, pa.Table]]:
    """Name, file and content of each case."""
    plain, text = table(rows, text=False), table(rows, text=True)
    style = pacsv.WriteOptions(quoting_style="none")
    pacsv.write_csv(plain, folder / "plain.csv", style)
    yield "csv", folder / "plain.csv", plain
    pacsv.write_csv(text, folder / "quoted.csv")
    yield "csv, quoted", folder / "quoted.csv", text
    pq.write_table(plain, folder / "plain.parquet", compression="zstd")
    yield "parquet", folder / "plain.parquet", plain
    pq.write_table(text, folder / "text.parquet", compression="zstd")
    yield "parquet, text", folder / "text.parquet", text
    with (folder / "plain.jsonl").open("wb") as out:
        out.writelines(orjson.dumps(row) + b"\n" for row in plain.to_pylist())
    yield "jsonl", folder / "plain.jsonl", plain


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of the best of some runs: a busy machine changes them little."""
    best = float("inf")
    for _ in range(times):
        begin = time.process_time()
        work()
        best = min(best, time.process_time() - begin)
    return best


def read_ours(path: Path, schema: pa.Schema, key: tuple[str, ...]) -> int:
    """Splits, reads, keys; the batches are dropped."""
    plugin = FORMATS.get({".csv": "csv", ".jsonl": "jsonl"}.get(path.suffix, "parquet"))
    options = plugin.Options()
    file = SourceFile(str(path), path.name, path.stat().st_size)
    rows = 0
    for split in plugin.splits(file, 64 << 20, open_path, options):
        for batch in plugin.read(split, open_path, ReadOptions(schema, options, key)):
            rows += batch.num_rows
    return rows


def open_path(uri: str) -> BinaryIO:
    """Opens a path."""
    return Path(uri).open("rb")


def read_pyarrow(path: Path) -> None:
    """The peer: plain pyarrow on one thread."""
    if path.suffix == ".csv":
        multiline = pacsv.ParseOptions(newlines_in_values=path.stem == "quoted")
        pacsv.read_csv(path, pacsv.ReadOptions(use_threads=False), multiline)
    elif path.suffix == ".jsonl":
        pajson.read_json(path, pajson.ReadOptions(use_threads=False))
    else:
        for _ in pq.ParquetFile(path).iter_batches(1 << 16, use_threads=False):
            pass


def main() -> None:
    """Prints a line per case."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=500_000)
    rows = arguments.parse_args().rows
    pa.set_cpu_count(1)
    print(f"{'MB/s':14} {'MB':>6} {'pyarrow':>9} {'with keys':>9} {'ratio':>6} {'key: id':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, path, content in files(Path(folder), rows):
            megabytes = path.stat().st_size / 1e6
            peer = seconds(partial(read_pyarrow, path))
            ours = seconds(partial(read_ours, path, content.schema, ()))
            keyed = seconds(partial(read_ours, path, content.schema, ("id",)))
            print(
                f"{name:14} {megabytes:6.0f} {megabytes / peer:9.0f} {megabytes / ours:9.0f} "
                f"{peer / ours:6.2f} {megabytes / keyed:9.0f}"
            )


if __name__ == "__main__":
    main()
