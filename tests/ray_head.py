"""A real Ray head for tests: random free ports, token, started as the embedded stack starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ray_head import free_ports, stop

TOKEN = "a-token-for-tests-0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Running:
    """A head that serves clients."""

    address: str
    token: str
    process: subprocess.Popen[bytes]


@contextmanager
def ray_head(cpus: int = 2, port: int | None = None) -> Iterator[Running]:
    """Starts a head and waits until it serves clients."""
    address = f"ray://127.0.0.1:{port or free_ports(1)[0]}"
    with tempfile.TemporaryDirectory(prefix="ob-") as home:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.ray_head"],
            env={**os.environ, **_environment(Path(home), address, cpus)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait(process, Path(home) / "ready")
            yield Running(address, TOKEN, process)
        finally:
            stop(process, patience=20)  # longer than it gives Ray itself


def _environment(home: Path, address: str, cpus: int) -> dict[str, str]:
    (home / "token").write_text(TOKEN)
    return {
        "ONEBLOCK_HOME": str(home),
        "ONEBLOCK_RAY_ADDRESS": address,
        "ONEBLOCK_RAY_TOKEN_FILE": str(home / "token"),
        "ONEBLOCK_READY_FILE": str(home / "ready"),
        "ONEBLOCK_RAY_CPUS": str(cpus),
    }


def _wait(process: subprocess.Popen[bytes], ready: Path) -> None:
    deadline = time.monotonic() + 90
    while not ready.exists():
        assert process.poll() is None, f"the head ended with {process.poll()}"
        assert time.monotonic() < deadline, "no Ray head within 90 s"
        time.sleep(0.1)
