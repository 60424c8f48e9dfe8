"""What differs between the two worlds by more than a keyword; the only part written twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx

Http = httpx.Client
sleep = time.sleep


def chunks(path: Path, start: int = 0, size: int = 1 << 20) -> Iterator[bytes]:
    """The file's bytes from `start` on."""
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(size):
            yield block


def file_size(path: Path) -> int:
    """Bytes; one call to the file system, which no loop notices."""
    return path.stat().st_size
