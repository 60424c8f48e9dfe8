"""A real S3 for tests: SeaweedFS (`weed mini`) on free loopback ports, killed and restarted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import free_port

WEED = Path(sys.executable).parent / "weed"
ADMIN = ("admin-key", "admin-secret-of-tests")
READER = ("reader-key", "reader-secret-of-tests")  # may read and list `open` alone
BUCKET, OPEN = "data", "open"

_OFF = ("webdav", "admin.ui", "master.telemetry")
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")


@dataclass
class ObjectStore:
    """One SeaweedFS; ports and data stay the same over restarts."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    more: tuple[str, ...] = ()  # further options of `weed mini`
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.ports["s3.port"]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, within: float = 30.0) -> None:
        """Starts it, and waits until S3 answers and the buckets are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "s3.json"
        config.write_text(json.dumps(_identities()))
        for name in _PORTS:
            self.ports.setdefault(name, free_port())
            self.ports.setdefault(f"{name}.grpc", free_port())
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(WEED), "mini", *self._options(config)],
                cwd=self.folder,
                env={k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "S3_"))},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait(within)

    def _options(self, config: Path) -> list[str]:
        ports = [f"-{name}={port}" for name, port in self.ports.items()]
        off = [f"-{name}=false" for name in _OFF]
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        fixed = [
            f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}",
            f"-bucket={BUCKET},{OPEN}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.localSocket={self.folder}/s3.sock", f"-filer.localSocket={self.folder}/f.sock",
            "-s3.domainName=localhost",
        ]  # fmt: skip
        return [*ports, *off, *fixed, *self.more]

    def _wait(self, within: float) -> None:
        deadline = time.monotonic() + within
        while not self._answers():
            if time.monotonic() > deadline or (self.process and self.process.poll() is not None):
                self.kill()
                log = (self.folder / "weed.log").read_text(errors="replace")
                raise RuntimeError(f"weed didn't start:\n{log[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            found = {b["Name"] for b in self.client().list_buckets()["Buckets"]}
        except Exception:  # whatever a server says that isn't up yet
            return False
        return {BUCKET, OPEN} <= found

    def kill(self) -> None:
        """SIGKILL, with everything it started."""
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def client(self, key: tuple[str, str] = ADMIN) -> Any:
        """A plain boto3 client, to put things in and to look from outside."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def put(self, key: str, body: bytes, bucket: str = BUCKET) -> str:
        """Stores an object; its etag."""
        etag: str = self.client().put_object(Bucket=bucket, Key=key, Body=body)["ETag"]
        return etag


def _identities() -> dict[str, object]:
    def identity(name: str, key: tuple[str, str], *actions: str) -> dict[str, object]:
        credentials = [{"accessKey": key[0], "secretKey": key[1]}]
        return {"name": name, "credentials": credentials, "actions": list(actions)}

    return {
        "identities": [
            identity("admin", ADMIN, "Admin", "Read", "Write", "List", "Tagging"),
            identity("reader", READER, f"Read:{OPEN}", f"List:{OPEN}"),
        ]
    }


@contextmanager
def object_store(folder: Path, *more: str) -> Iterator[ObjectStore]:
    """A running SeaweedFS with the buckets `data` and `open`."""
    store = ObjectStore(folder, more=more)
    try:
        store.start()
        yield store
    finally:
        store.kill()
