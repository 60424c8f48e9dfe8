"""The data folder of a local stack, and how a running one is found by it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT = "~/.oneblock"


def home_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """`given`, else ONEBLOCK_HOME, else `~/.oneblock`."""
    return Path(given or os.environ.get("ONEBLOCK_HOME") or DEFAULT).expanduser().absolute()


def read_state(home: Path) -> Mapping[str, Any]:
    """`state.json` as the supervisor last wrote it; state `down` when nobody runs there."""
    try:
        state: dict[str, Any] = json.loads((home / "state.json").read_bytes())
    except (OSError, ValueError):
        state = {}
    if is_running(home):
        own = state.get("pid") == _holder(home)
        return state if own else {"state": "starting", "endpoints": {}, "services": {}}
    services = {name: {**s, "state": "stopped", "pid": None} for name, s in _services(state)}
    return {**state, "state": "down", "endpoints": {}, "services": services}


def is_running(home: Path) -> bool:
    """Whether a supervisor holds the folder's lock; a lock can't outlive its process."""
    import fcntl

    try:
        with (home / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _holder(home: Path) -> int | None:
    """The process that holds the lock; what it found there may be an earlier stack's state."""
    try:
        return int((home / "lock").read_bytes())
    except (OSError, ValueError):
        return None


def _services(state: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = state.get("services")
    return list(found.items()) if isinstance(found, dict) else []
