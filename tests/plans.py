"""Plans over small real files, run on real engines into a real warehouse."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from libs.common.manifest import parse
from libs.formats import SourceFile
from libs.warehouse import Commit, Warehouse
from services.transform.driver import Done, Output
from services.transform.engines import Engine, Stop
from services.transform.plan import Plan, Sizes, make_plan
from services.transform.tasks import load_schema

Row = Mapping[str, object]
SMALL = Sizes(split=2_000, smallest=2_000, head=1_000)  # so that little data is many tasks


@dataclass
class Bench:
    """A folder with source files and a warehouse."""

    folder: Path
    run: str = "run-1"
    sizes: Sizes = SMALL
    files: list[Path] = field(default_factory=list)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse((self.folder / "warehouse").as_uri())

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / "sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.files.append(path)

    def write_csv(self, name: str, rows: Sequence[Row]) -> None:
        path = self.folder / "sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        self.files.append(path)

    def manifest(self, transform: Sequence[Mapping[str, object]] = (), **spec: object) -> Row:
        source = {"type": "csv", "url": (self.folder / "sources").as_uri()}
        return {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": "x"},
            "spec": {"source": source, "transform": list(transform), **spec},
        }

    def plan(
        self, transform: Sequence[Mapping[str, object]] = (), *, attempt: int = 1, **spec: object
    ) -> Plan:
        found = [SourceFile(p.as_uri(), p.name, p.stat().st_size) for p in self.files]
        return make_plan(
            parse(dict(self.manifest(transform, **spec))),
            found,
            run=self.run,
            attempt=attempt,
            target=self.warehouse.dataset_uri("default/x"),
            stage=str(self.stage(attempt)),
            quarantine=str(self.quarantine(attempt)),
            sizes=self.sizes,
            workers={"local": 2, "ray": 2},
        )

    def stage(self, attempt: int = 1) -> Path:
        return self.folder / "warehouse" / "default" / "x.runs" / self.run / f"stage-{attempt}"

    def quarantine(self, attempt: int = 1) -> Path:
        return self.stage(attempt).parent / f"quarantine-{attempt}.parquet"

    def commit(self, output: Output) -> pa.Table:
        """The version's rows, system columns included."""
        commit = Commit(
            run=self.run, run_dir="", attempt=1, plan_digest="", inventory_digest="",
            engine="", rows=output.rows, bytes=output.bytes,
        )  # fmt: skip
        self.warehouse.begin("default/x")
        self.warehouse.commit("default/x", output.fragments, load_schema(output.schema_), commit)
        reader = self.warehouse.open("default/x")
        batches = list(reader.batches(system=True))
        return pa.Table.from_batches(batches, reader.schema)


def ignore(done: Done) -> None:
    """A report that nobody reads."""


def run(engine: Engine, plan: Plan, stop: Stop | None = None) -> Output:
    return engine.run(plan, ignore, stop or Stop(plan.run))


def people(count: int) -> list[Row]:
    """Rows that repeat in ways that operations care about."""
    return [
        {"id": i, "name": f"n{i % 7}", "price": i * 0.25, "city": "" if i % 5 == 0 else f"c{i % 3}"}
        for i in range(count)
    ]
