"""Input for benchmarks: cheap to make, awkward enough to be honest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

ROWS = 500_000  # per file: about 31 MB of CSV


def table(rows: int, seed: int) -> pa.Table:
    """A trip table: an id, two numbers, a category, a text, a time (about 62 bytes as CSV)."""
    random = np.random.default_rng(seed)
    cities = np.array(["Berlin", "Wien", "Zürich", "Hamburg", "Graz", "Genève"])
    return pa.table(
        {
            "id": np.arange(seed * ROWS, seed * ROWS + rows),
            "price": np.round(random.gamma(2.0, 12.0, rows), 2),
            "count": random.integers(1, 9, rows),
            "city": cities[random.integers(0, len(cities), rows)],
            "note": np.char.add("ride ", random.integers(0, 1 << 40, rows).astype(str)),
            "at": np.datetime64("2026-01-01T00:00:00") + random.integers(0, 3 * 10**7, rows),
        }
    )


def csv_files(folder: Path, total: int) -> list[Path]:
    """CSV files of together about `total` bytes."""
    return _files(folder, total, "csv")


def parquet_files(folder: Path, total: int) -> list[Path]:
    """Parquet files whose rows would be about `total` bytes as CSV."""
    return _files(folder, total, "parquet")


def one_csv(path: Path, parts: list[Path]) -> Path:
    """The CSV parts as one file with one header."""
    with path.open("wb") as whole:
        for number, part in enumerate(parts):
            with part.open("rb") as file:
                if number:
                    file.readline()
                while block := file.read(1 << 24):
                    whole.write(block)
    return path


def _files(folder: Path, total: int, kind: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    size = 0
    while size < total:
        path = folder / f"part-{len(paths):04}.{kind}"
        rows = table(ROWS, len(paths))
        if kind == "csv":
            plain = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")
            pyarrow.csv.write_csv(rows, path, plain)
            size += path.stat().st_size
        else:
            pq.write_table(rows, path, row_group_size=ROWS // 4)
            size += ROWS * 62
        paths.append(path)
    return paths
