"""The files of runs in the warehouse: manifest, inventory, log. Without Lance, for ingest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import orjson

from libs.common.errors import PermanentError
from libs.warehouse.files import write_atomically
from libs.warehouse.inventory import (
    InventoryFile,
    InventoryWriter,
    Summary,
    read_inventory,
    read_summary,
)
from libs.warehouse.runlog import RunLog


class RunDirs:
    """What belongs to runs. Everything blocks: call it off the event loop."""

    def __init__(self, url: str) -> None:
        """`url`: file:///absolute/folder. Raises PermanentError for what can't be a warehouse."""
        parts = urlsplit(url)
        if parts.scheme != "file" or not parts.path.startswith("/"):
            raise PermanentError(
                f"warehouse {url!r} is not supported; give file:///absolute/folder",
                code="invalid_warehouse",
                path="ONEBLOCK_WAREHOUSE",
            )
        self.url = url
        self.root = Path(unquote(parts.path))

    def run_dir(self, dataset: str, run: str) -> str:
        """Folder of a run's files, relative to the warehouse, as facts carry it."""
        return f"{dataset}.runs/{run}"

    def path(self, relative: str) -> Path:
        """Local path of something in the warehouse; refuses to leave it."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise PermanentError(f"{relative!r} is outside the warehouse", code="path_outside_root")
        return path

    def write_manifest(self, run_dir: str, manifest: Mapping[str, object]) -> None:
        write_atomically(self.path(run_dir) / "manifest.json", orjson.dumps(manifest))

    def read_manifest(self, run_dir: str) -> dict[str, object]:
        """The manifest that a run follows; raises PermanentError `not_found`."""
        path = self.path(run_dir) / "manifest.json"
        if not path.is_file():
            raise PermanentError(f"no manifest in {run_dir}", code="not_found")
        manifest: dict[str, object] = orjson.loads(path.read_bytes())
        return manifest

    def inventory_writer(self, run_dir: str) -> InventoryWriter:
        return InventoryWriter(self.path(run_dir) / "inventory.parquet")

    def inventory(self, run_dir: str) -> Iterator[InventoryFile]:
        return read_inventory(self.path(run_dir) / "inventory.parquet")

    def inventory_summary(self, run_dir: str) -> Summary:
        return read_summary(self.path(run_dir) / "inventory.parquet")

    def log(self, run_dir: str) -> RunLog:
        return RunLog(self.path(run_dir) / "log", run_dir.rpartition("/")[2])
