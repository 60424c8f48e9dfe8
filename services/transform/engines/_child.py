"""A child process that answers lines with lines: no pickle, gone with us, safe to kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

ROOT = Path(__file__).parents[3]


class ChildDied(Exception):
    """The child is gone, or was killed; what it was asked has no answer."""


class Child:
    """One process running `python -m module`; used by one thread at a time, killed by any."""

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self.doomed = False  # killed, or found dead: not to be asked again
        path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {}), "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is ours alone; we tell it when to end
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, line: str) -> str:
        """Sends one line and waits for one. Raises ChildDied."""
        try:
            answer = self._exchange(line.encode() + b"\n")
        except (OSError, ValueError) as error:
            self.doomed = True
            raise ChildDied(f"process {self.pid}: {error}") from error
        if not answer.endswith(b"\n"):
            self.doomed = True
            raise ChildDied(f"process {self.pid} ended in the middle of its work")
        return answer.decode()

    def _exchange(self, line: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def kill(self) -> None:
        """Ends it at once; a thread that waits in `ask` gets ChildDied."""
        self.doomed = True
        self._process.kill()

    def close(self) -> None:
        """Ends it and takes it off the process table."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with_errors_ignored(pipe.close)


def with_errors_ignored(do: Callable[[], None]) -> None:
    """Closing a broken pipe flushes it, which fails again; there is nothing left to lose."""
    try:
        do()
    except OSError:
        return


def serve(answer: Callable[[str], str]) -> None:
    """A child's main loop. Ends the process the moment its parent closes the pipe or dies."""
    lines: SimpleQueue[bytes] = SimpleQueue()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    Thread(target=_listen, args=(lines,), daemon=True).start()
    while True:
        out.write(answer(lines.get().decode()).encode() + b"\n")
        out.flush()


def _listen(lines: SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)  # also in the middle of a task: nobody waits for it any more
