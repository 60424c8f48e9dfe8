"""A manifest's sources read for real: listed into an inventory, planned, read by an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from libs.common.manifest import parse
from libs.stores import Access
from libs.warehouse import Commit, Warehouse
from services.ingest import inventory
from services.transform.build import pinned
from services.transform.engines import Engine
from services.transform.plan import Plan, Sizes, make_plan
from services.transform.tasks import load_schema
from tests.plans import run

SIZES = Sizes(split=200_000, smallest=50_000, head=20_000)  # so that a little is several tasks


@dataclass
class Reading:
    """One dataset in a warehouse below the folder."""

    folder: Path
    name: str = "x"

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse((self.folder / "warehouse").as_uri())

    @property
    def run_dir(self) -> str:
        return self.warehouse.run_dir(f"default/{self.name}", "run-1")

    def manifest(self, source: Mapping[str, object]) -> dict[str, object]:
        return {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": self.name},
            "spec": {"source": dict(source)},
        }

    def plan(self, source: Mapping[str, object], access: Access | None = None) -> Plan:
        """Lists the sources; what workers are then told."""
        form, house = self.manifest(source), self.warehouse
        reached = access or Access(uploads=house.path("uploads"))
        inventory.prepare(form, reached, house, self.run_dir)
        return make_plan(
            parse(house.read_manifest(self.run_dir)),
            map(pinned, house.inventory(self.run_dir)),
            run="run-1",
            attempt=1,
            target=house.dataset_uri(f"default/{self.name}"),
            stage=str(house.path(self.run_dir) / "stage-1"),
            sizes=SIZES,
            workers={"local": 2, "ray": 2},
        )

    def rows(
        self, source: Mapping[str, object], engine: Engine, access: Access | None = None
    ) -> pa.Table:
        """The version that the source becomes, user columns in stored order."""
        output = run(engine, self.plan(source, access))
        house, dataset = self.warehouse, f"default/{self.name}"
        commit = Commit(
            run="run-1", run_dir=self.run_dir, attempt=1, plan_digest="", inventory_digest="",
            engine="", rows=output.rows, bytes=output.bytes,
        )  # fmt: skip
        house.begin(dataset)
        house.commit(dataset, output.fragments, load_schema(output.schema_), commit)
        reader = house.open(dataset)
        return pa.Table.from_batches(list(reader.batches()), reader.user_schema)
