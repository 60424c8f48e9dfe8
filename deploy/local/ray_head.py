"""A Ray head on this machine: client server, token, loopback; `python -m deploy.local.ray_head`.

The environment says where: ONEBLOCK_RAY_ADDRESS (ray://127.0.0.1:port), ONEBLOCK_RAY_TOKEN_FILE
(made when it is absent), ONEBLOCK_HOME (Ray's sessions go below `ray/`), ONEBLOCK_READY_FILE
(written when clients are answered), ONEBLOCK_RAY_CPUS, ONEBLOCK_RAY_STORE_BYTES.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
MB = 1024 * 1024
LONGEST = 45  # of a session folder: sockets below it have to fit into 107 characters
PR_SET_PDEATHSIG = 1
# Each client gets a server process, forked beside gRPC's threads: without this some die at birth
# (ray#63202), and the client is told after half a minute.
CLIENTS_START = {
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "15",
}
STARTED = "ray_current_cluster"  # `ray start` writes it below the folder when the node is up
UNUSED = ("object-manager-port", "node-manager-port", "runtime-env-agent-port",
          "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
          "metrics-export-port")  # fmt: skip


@dataclass(frozen=True)
class Head:
    """What a head needs; ports but the client's are free ones."""

    port: int  # of the client server
    token: str
    folder: Path  # of sessions and logs; short
    cpus: int
    store: int = 512 * MB  # bytes of the object store: rows don't go through it

    @property
    def address(self) -> str:
        return f"ray://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Explicit ports for the agents: without them the client server is left unusable."""
        gcs, *others = free_ports(1 + len(UNUSED))
        ports = [f"--{name}={port}" for name, port in zip(UNUSED, others, strict=True)]
        return [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
            "--node-ip-address=127.0.0.1", f"--port={gcs}",
            f"--ray-client-server-port={self.port}", *ports,
            # Any free ones: the default range refuses heads beside each other, and our own port.
            "--min-worker-port=0", "--max-worker-port=0",
            "--include-dashboard=false", "--include-log-monitor=false", "--disable-usage-stats",
            f"--num-cpus={self.cpus}", f"--object-store-memory={self.store}",
            f"--temp-dir={self.folder}",
        ]  # fmt: skip

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Authentication is off in Ray unless the mode is set, here and for clients."""
        path = os.pathsep.join(p for p in (str(ROOT), base.get("PYTHONPATH")) if p)
        return {**base, **client_environment(self.token), **CLIENTS_START, "PYTHONPATH": path}

    def ready(self) -> bool:
        """Whether clients are served.

        The port alone says nothing: who connects before the node is up is told so 40 s later.
        """
        if not (self.folder / STARTED).exists():
            return False
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def start(self) -> subprocess.Popen[bytes]:
        """The head's process; when it ends, however it ends, so do all of Ray's."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return subprocess.Popen(
            self.command(),
            env=self.environment(os.environ),
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent(),
        )


def client_environment(token: str) -> dict[str, str]:
    """What a client of a head with this token has to have in its environment."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last is found, so they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for probe in held:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in held]
    finally:
        for probe in held:
            probe.close()


def die_with_parent() -> Callable[[], None] | None:
    """For the child, before its program: it gets SIGTERM when we go (Linux)."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def kept_token(file: Path) -> str:
    """The token in the file; made, readable for its owner alone, where there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(
            os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
        ) as f:
            f.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    return file.read_text().strip()


def session_folder(home: Path) -> Path:
    """Empty, and short enough for sockets: below home, else in a temporary folder that is."""
    folder = home / "ray" / "s"
    if len(str(folder)) > LONGEST:
        short = len(tempfile.gettempdir()) + len("/ob-ray-12345678") <= LONGEST
        return Path(tempfile.mkdtemp(prefix="ob-ray-", dir=None if short else "/tmp"))
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def main() -> int:
    """Starts the head, says when it is ready, and stays until it or we are ended."""
    env = os.environ
    home = Path(env.get("ONEBLOCK_HOME", str(Path.home() / ".oneblock")))
    port = urlsplit(env.get("ONEBLOCK_RAY_ADDRESS", "ray://127.0.0.1:10001")).port or 10001
    head = Head(
        port=port,
        token=kept_token(Path(env.get("ONEBLOCK_RAY_TOKEN_FILE", str(home / "ray" / "token")))),
        folder=session_folder(home),
        cpus=int(env.get("ONEBLOCK_RAY_CPUS", os.cpu_count() or 1)),
        store=int(env.get("ONEBLOCK_RAY_STORE_BYTES", 512 * MB)),
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    process = head.start()
    try:
        ready = env.get("ONEBLOCK_READY_FILE")
        return _stay(head, process, Path(ready) if ready else None)
    except KeyboardInterrupt:
        return 0
    finally:
        stop(process)
        shutil.rmtree(head.folder, ignore_errors=True)


def _stay(head: Head, process: subprocess.Popen[bytes], ready: Path | None) -> int:
    """Until the head ends, or whoever started us does."""
    parent = os.getppid()
    while (code := process.poll()) is None and os.getppid() == parent:
        if ready is not None and head.ready():
            ready.write_text(head.address)
            ready = None
        time.sleep(0.1 if ready else 1.0)
    return 0 if code is None else code


def stop(process: subprocess.Popen[bytes], patience: float = 8.0) -> None:
    """Ends a head: politely, then not."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
