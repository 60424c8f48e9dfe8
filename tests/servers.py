"""Real servers for tests: started on a free loopback port, killed and restarted at will."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NATS_BINARY = Path(sys.executable).parent / "nats-server"

_NATS_CONFIG = """
listen: "127.0.0.1:{port}"
server_name: "test-{port}"
jetstream {{
  store_dir: "{store}"
  sync_interval: always
  max_file_store: 2GB
  max_memory_store: 64MB
}}
{extra}
"""


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One nats-server with JetStream; port and store stay the same over restarts."""

    def __init__(self, folder: Path, *, token: str | None = None, port: int | None = None) -> None:
        self.port = port or free_port()
        self.token = token
        self.log = folder / f"nats-{self.port}.log"
        self._config = folder / f"nats-{self.port}.conf"
        self._store = folder / f"nats-{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server isn't running"
        return self._process.pid

    def start(self, timeout: float = 10.0) -> None:
        """Start it, and wait until it speaks."""
        extra = f'authorization {{ token: "{self.token}" }}' if self.token else ""
        self._config.write_text(_NATS_CONFIG.format(port=self.port, store=self._store, extra=extra))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(NATS_BINARY), "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + timeout
        while not self._speaks():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"nats-server didn't start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut of the process: SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Gracefully."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it and start it again on the same store and port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Let it hang: connections stay open, nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def _speaks(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False


@contextmanager
def nats_server(folder: Path, *, token: str | None = None) -> Iterator[NatsServer]:
    """A running nats-server with JetStream in `folder`; another port when one was taken."""
    for attempt in range(3):
        server = NatsServer(folder, token=token)
        try:
            server.start()
            break
        except RuntimeError:
            if attempt == 2:
                raise
    try:
        yield server
    finally:
        server.thaw()
        server.kill()
