"""A really served ingest: its process on a free port, a NATS server, folders to read from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from libs.common.bus import admin
from tests.servers import NatsServer, nats_server

ROOT = Path(__file__).parent.parent
ACK_WAIT = 2.0  # seconds until what a killed process held is given to another


def manifest(name: str, *urls: str, **spec: object) -> dict[str, object]:
    """A small manifest in JSON form."""
    source = {"type": "csv", "url": list(urls), **spec.pop("source", {})}  # type: ignore[dict-item]
    return {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": source, **spec},
    }


@dataclass
class Ingest:
    """One service process; it can be killed and started again on the same data."""

    nats: NatsServer
    home: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def data(self) -> Path:
        """The only file root."""
        return self.home / "data"

    @property
    def warehouse(self) -> Path:
        return self.home / "wh"

    @property
    def log(self) -> str:
        return (self.home / "ingest.log").read_text()

    def start(self, **env: str) -> None:
        ready = self.home / "ready.json"
        ready.unlink(missing_ok=True)
        with (self.home / "ingest.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.ingest"],
                env={**os.environ, **self.env, **env, "ONEBLOCK_READY_FILE": str(ready)},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(30)

    def wait_for_death(self, within: float = 20) -> int:
        assert self.process is not None
        return self.process.wait(within)

    def client(self, **more: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, **more)  # type: ignore[arg-type]

    def put(self, **files: str | bytes) -> None:
        """Files below the file root; `__` in a name is a `/`, and every name gets `.csv`."""
        for name, content in files.items():
            path = self.data / (name.replace("__", "/") + ".csv")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def ingest_on(home: Path, env: Mapping[str, str] | None = None) -> Iterator[Ingest]:
    """NATS set up, folders made, the service not started yet; all gone at the end."""
    import asyncio

    (home / "data").mkdir(parents=True)
    with nats_server(home) as nats:
        asyncio.run(admin.migrate(nats.url, ack_wait=ACK_WAIT))
        settings = {
            "ONEBLOCK_NATS_URL": nats.url,
            "ONEBLOCK_WAREHOUSE": (home / "wh").as_uri(),
            "ONEBLOCK_FILE_ROOTS": str(home / "data"),
            "ONEBLOCK_LOG_JSON": "true",
            "ONEBLOCK_STOP_TIMEOUT": "5",
        }
        service = Ingest(nats, home, {**settings, **(env or {})})
        try:
            yield service
        finally:
            if service.process is not None and service.process.poll() is None:
                service.end()
