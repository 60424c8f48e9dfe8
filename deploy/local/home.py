"""The data folder of a stack: where things lie, who holds it, what it says of itself."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from oneblock.errors import OneBlockError


class HomeTaken(OneBlockError):
    """Another stack runs in this folder."""

    code = "home_taken"


@dataclass(frozen=True)
class Home:
    """Paths below the folder."""

    path: Path

    @property
    def nats(self) -> Path:
        return self.path / "nats"

    @property
    def ray(self) -> Path:
        return self.path / "ray"

    @property
    def warehouse(self) -> Path:
        return self.path / "warehouse"

    @property
    def catalog(self) -> Path:
        return self.path / "catalog.db"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def prepare(self) -> None:
        """Makes the folders, for their owner alone."""
        try:
            for folder in (self.path, self.nats, self.ray, self.warehouse, self.path / "logs"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OneBlockError(
                f"the data folder {self.path} can't be used: {error.strerror}",
                hint="give another one with --home DIR or ONEBLOCK_HOME",
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder's lock; the system frees it when the process ends, however it ends."""
        with (self.path / "lock").open("ab") as lock:
            if not _lock(lock.fileno()):
                raise HomeTaken(
                    f"a stack already runs in {self.path}",
                    hint="see it with `oneblock status`, stop it with `oneblock down`, "
                    "or give another folder with --home DIR",
                )
            # Tells readers which state.json is this stack's own, and not an earlier one's.
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
            lock.flush()
            yield

    def write_state(self, state: Mapping[str, object]) -> None:
        """Replaces `state.json` whole, so that no reader sees half of it."""
        beside = self.state.with_name(".state.json.new")
        beside.write_text(json.dumps(state, indent=2))
        beside.replace(self.state)


def _lock(descriptor: int) -> bool:
    """Takes the lock; who only looks whether it is held does so for a moment."""
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


def stack_id(pid: int | None = None) -> str:
    """A name that no other stack has or had; every process of a stack carries it."""
    return f"{pid or os.getpid()}-{time.time_ns():x}"
