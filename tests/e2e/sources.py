"""Every kind of file in every place it may lie, on real servers, and a stack that reads it."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nats
from oneblock import Run

from libs.warehouse import Warehouse
from tests.e2e.stack import EmbeddedStack, embedded_stack
from tests.files import put
from tests.kinds import KINDS, Row
from tests.nfs import NfsServer, nfs_server
from tests.objectstore import ADMIN, BUCKET, ObjectStore, object_store
from tests.webs import File, Web, web_server

# A place, and how its manifests are handed in.
SOURCES = {"upload": "cli", "http": "http", "nfs": "nats", "s3": "http", "file": "cli"}
ENGINES = ("local", "ray")
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One kind of file from one kind of place on one engine."""

    source: str
    kind: str
    engine: str

    @property
    def name(self) -> str:
        return f"{self.source}-{self.kind}-{self.engine}"


CELLS = [Cell(s, k, e) for e in ENGINES for s in SOURCES for k in KINDS]


def manifest(name: str, engine: str = "local", **source: object) -> Manifest:
    return {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": name},
        "spec": {"source": source, "engine": engine},
    }


class Places:
    """The servers with every kind's files, and the stack."""

    def __init__(self, folder: Path, s3: ObjectStore, nfs: NfsServer, web: Web) -> None:
        self.folder, self.s3, self.nfs, self.web = folder, s3, nfs, web
        self.stack: EmbeddedStack
        self._urls: dict[tuple[str, str], str | list[str]] = {}

    @property
    def outside(self) -> Path:
        """The temporary folder of the stack's processes, below which `file://` may point."""
        return self.folder / "tmp"

    def fill(self) -> None:
        """Puts everything where it is fetched from, but uploads."""
        for kind, found in KINDS.items():
            data = put(self.outside / "data" / kind, found.files)
            put(self.nfs.data / "export" / kind, found.files)
            pages = []
            for path, content in found.files.items():
                self.s3.put(f"{kind}/{path}", content)
                pages.append(self.web.at(quote(f"/{kind}/{path}"), File(content)))
            self._urls["file", kind] = data.as_uri()
            self._urls["nfs", kind] = f"{self.nfs.url}/export/{kind}"
            self._urls["s3", kind] = f"s3://{BUCKET}/{kind}/"
            self._urls["http", kind] = pages

    def upload(self) -> None:
        """Every folder, by one command."""
        folders = [str(self.outside / "data" / kind) for kind in KINDS]
        found = json.loads(self.stack.cli("upload", *folders, "-o", "json").stdout)["items"]
        self._urls |= {("upload", k): u["url"] for k, u in zip(KINDS, found, strict=True)}

    def manifest(self, cell: Cell) -> Manifest:
        source: dict[str, object] = {
            "type": KINDS[cell.kind].type,
            "url": self._urls[cell.source, cell.kind],
        }
        if cell.source == "s3":
            source |= self.bucket("lake")
        return manifest(cell.name, cell.engine, **source)

    def bucket(self, secret: str) -> dict[str, object]:
        """What a source in the bucket needs to be told beside its URL."""
        return {"secretRef": {"name": secret}, "options": {"endpoint": self.s3.endpoint}}

    def begin(self) -> None:
        """Asks for every cell, without waiting for any."""
        self.upload()
        for engine in ENGINES:  # what runs locally doesn't wait for Ray to start
            self._begin([cell for cell in CELLS if cell.engine == engine])

    def _begin(self, cells: list[Cell]) -> None:
        wanted = [(SOURCES[cell.source], self.manifest(cell)) for cell in cells]
        asyncio.run(self._publish([m for way, m in wanted if way == "nats"]))
        with self.stack.client() as client:
            for way, found in wanted:
                if way == "http":
                    client.apply(found)
        self._command([m for way, m in wanted if way == "cli"])

    async def _publish(self, manifests: list[Manifest]) -> None:
        """Bare manifests, as anybody can send them."""
        client = await nats.connect(self.stack.endpoint("nats"))
        for found in manifests:
            body = json.dumps(found).encode()
            await client.jetstream().publish("oneblock.ingest.requested", body)
        await client.close()

    def _command(self, manifests: list[Manifest]) -> None:
        folder = self.folder / "manifests"
        folder.mkdir(exist_ok=True)
        for found in manifests:
            (folder / f"{found['metadata']['name']}.yaml").write_text(json.dumps(found))
        names = [part for m in manifests for part in ("-f", f"{m['metadata']['name']}.yaml")]
        self.stack.cli("apply", *names, cwd=folder)

    def ended(self, name: str, within: float = 300.0) -> Run:
        """The one run of a dataset, when it has ended."""
        deadline = time.monotonic() + within
        with self.stack.client() as client:
            while True:
                runs = client.runs(name)
                if runs and runs[0].ended:
                    assert len(runs) == 1
                    return runs[0]
                assert time.monotonic() < deadline, f"{name} goes on: {runs}"
                time.sleep(0.1)

    def rows(self, name: str) -> list[Row]:
        """Every value of the newest version, typed."""
        house = Warehouse((self.stack.home / "warehouse").as_uri())
        return [row for b in house.open(f"default/{name}").batches() for row in b.to_pylist()]


@contextmanager
def open_places(env: Mapping[str, str]) -> Iterator[Places]:
    """Servers, files, a stack with Ray; the folder is short, so that Ray's sessions are in it."""
    folder = Path(tempfile.mkdtemp(prefix="ob-", dir="/tmp"))
    try:
        with ExitStack() as using:
            s3 = using.enter_context(object_store(folder / "weed"))
            nfs = using.enter_context(nfs_server(folder / "nfs"))
            places = Places(folder, s3, nfs, using.enter_context(web_server()))
            places.fill()
            known = {
                "TMPDIR": str(places.outside),
                "ONEBLOCK_HTTP_PORTS": "*",
                "ONEBLOCK_PRIVATE_NETWORKS": "loopback",
                "ONEBLOCK_NFS_SERVERS": nfs.host,
                "ONEBLOCK_SECRET_LAKE__ACCESS_KEY_ID": ADMIN[0],
                "ONEBLOCK_SECRET_LAKE__SECRET_ACCESS_KEY": ADMIN[1],
                **env,
            }
            running = embedded_stack(folder / "home", ray=True, until="accepting", env=known)
            places.stack = using.enter_context(running)
            yield places
    finally:
        shutil.rmtree(folder, ignore_errors=True)
