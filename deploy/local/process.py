"""Starting processes so that they die with us, ending them, and finding what was left behind."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

# Marks in the environment of every process of a stack; whatever those start has them too.
STACK, CHILD = "ONEBLOCK_STACK", "ONEBLOCK_CHILD"
PR_SET_PDEATHSIG = 1
LOG_LIMIT = 20_000_000  # bytes until a log begins anew; one old one is kept


async def start(
    command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path, niceness: int = 0
) -> asyncio.subprocess.Process:
    """Starts a program in a session of its own, its output appended to `log`.

    Must be called in the main thread: Linux takes the end of the starting thread for ours.
    """
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_Prepare(niceness),
        )


class _Prepare:
    """Runs in the child before the program: it dies when we do, even when we are killed."""

    def __init__(self, niceness: int) -> None:
        # Loaded here, because between fork and exec there is no loading.
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._parent = os.getpid()
        self._niceness = niceness

    def __call__(self) -> None:
        if self._libc is not None:
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._parent:  # we died before the line above
                os._exit(1)
        if self._niceness:
            os.nice(self._niceness)


async def end(process: asyncio.subprocess.Process, patience: float) -> bool:
    """Asks a process to end, after `patience` seconds makes it; True when it went by itself."""
    if process.returncode is not None:
        return True
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience)
        return True
    except TimeoutError:
        process.kill()
        await process.wait()
        return False


def members(stack: str, child: str | None = None) -> list[psutil.Process]:
    """Living processes of that very stack (and child) but this one, by their marks.

    The marks are inherited and no other stack ever has them, so nobody else's process is found.
    """
    return [
        p
        for p in psutil.process_iter()
        if p.pid != os.getpid() and _marked(p, stack, child) and _alive(p)
    ]


def clear(stack: str, child: str | None = None, patience: float = 3.0) -> int:
    """Ends what is left of a stack or child that is gone; returns how many processes that were."""
    left = members(stack, child) if stack else []
    for process in left:
        _signal(process, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(left, timeout=patience)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=patience)
    return len(left)


def rotate(log: Path) -> None:
    """Keeps a log from growing for ever. Writers append, so they go on at the new beginning."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = [s for s in file.read().decode("utf-8", "replace").splitlines() if s.strip()]
    except FileNotFoundError:
        return ""
    return lines[-1].strip()[:300] if lines else ""


def how_it_ended(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _marked(process: psutil.Process, stack: str, child: str | None) -> bool:
    try:
        marks = process.environ()
    except psutil.Error:
        return False
    return marks.get(STACK) == stack and child in (None, marks.get(CHILD))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)  # psutil checks that the pid is still the same process
