"""Named places where a test can kill the process.

`CRASHPOINT=name:k` kills the process at its k-th pass (k is 1 where it isn't given), each time it
is started. `CRASHPOINT_FILE=path` does what the file at `path` says, once: who kills itself
removes the file, so that what is started again gets through and one point can follow another.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

_passes: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Ends the process as by kill -9 when the environment asks for it; else costs two look-ups."""
    if asked := os.environ.get("CRASHPOINT"):
        _pass(name, asked, None)
    if path := os.environ.get("CRASHPOINT_FILE"):
        _pass(name, _read(Path(path)), Path(path))


def _pass(name: str, asked: str, file: Path | None) -> None:
    wanted, _, count = asked.partition(":")
    if wanted != name:
        return
    _passes[asked] += 1
    if _passes[asked] == int(count or 1) and (file is None or _claimed(file)):
        os.kill(os.getpid(), signal.SIGKILL)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def _claimed(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
