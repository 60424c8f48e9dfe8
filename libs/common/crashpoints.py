"""Named places where a test can kill the process.

`CRASHPOINT=name:k` kills at the k-th pass; with `CRASHPOINT_MARK=path` only once ever, so that the
restarted process gets through: the file at `path` says that it happened.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

_passes: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Ends the process as by kill -9 when the environment asks for it; else costs a look-up."""
    asked = os.environ.get("CRASHPOINT")
    if asked is None:
        return
    wanted, _, count = asked.partition(":")
    _passes[name] += 1
    if wanted == name and _passes[name] == int(count or 1) and _first_time():
        os.kill(os.getpid(), signal.SIGKILL)


def _first_time() -> bool:
    mark = os.environ.get("CRASHPOINT_MARK")
    if mark is None:
        return True
    try:
        Path(mark).open("x").close()
    except FileExistsError:
        return False
    return True
