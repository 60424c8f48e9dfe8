"""A real Ray head for tests: random free ports, token, as the embedded stack starts it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.ray_head import Head, free_ports, stop

TOKEN = "a-token-for-tests-0123456789abcdef0123456789abcdef"


@contextmanager
def ray_head(cpus: int = 2) -> Iterator[Head]:
    """Starts a head and waits until it serves clients."""
    folder = Path(tempfile.mkdtemp(prefix="ob-ray-"))
    head = Head(port=free_ports(1)[0], token=TOKEN, folder=folder, cpus=cpus)
    process = head.start()
    try:
        deadline = time.monotonic() + 90
        while not head.ready():
            assert process.poll() is None, f"ray start ended with {process.poll()}"
            assert time.monotonic() < deadline, "no Ray head within 90 s"
            time.sleep(0.1)
        yield head
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)
