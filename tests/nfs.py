"""A real NFSv3 server for tests: `rclone serve nfs` on a free loopback port."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import free_port

RCLONE = Path(sys.executable).parent / "rclone"


@dataclass
class NfsServer:
    """Serves `data` below the folder; port and handles stay the same over restarts."""

    folder: Path
    port: int = field(default_factory=free_port)
    writable: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"nfs://{self.host}"

    def start(self, within: float = 15.0) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        options = [
            f"--addr={self.host}", "--config=", "--dir-cache-time=100ms",
            "--nfs-cache-type=disk", f"--cache-dir={self.folder / 'cache'}",
        ]  # fmt: skip
        if self.writable:  # reading is ten times slower through this cache
            options.append("--vfs-cache-mode=full")
        with (self.folder / "rclone.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(RCLONE), "serve", "nfs", str(self.data), *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + within
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                log_text = (self.folder / "rclone.log").read_text()
                raise RuntimeError(f"rclone didn't start:\n{log_text[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Connections stay open, nothing answers."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def put(self, name: str, content: bytes) -> Path:
        """A file on the server's own disk."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(10)
        self.process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@contextmanager
def nfs_server(folder: Path, *, writable: bool = False) -> Iterator[NfsServer]:
    """A running server of the folder's `data`; what changes there shows within 100 ms."""
    folder.mkdir(parents=True, exist_ok=True)
    server = NfsServer(folder, writable=writable)
    try:
        server.start()
        yield server
    finally:
        server.thaw()
        server.kill()
