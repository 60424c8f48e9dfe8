"""Puts a finished folder in another's place in one step of the file system."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from libs.common.errors import TransientError

LOCK_SECONDS = 30.0  # a switch takes milliseconds; a holder that was stopped is waited for so long
_AT_FDCWD = -100
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class CantExchangeError(Exception):
    """This system or file system can't exchange two folders in one step."""


def put_in_place(staging: Path, target: Path) -> Path | None:
    """Makes `target` the finished folder; returns where the replaced one lies now, if any.

    Linux exchanges two folders in one step (renameat2 with RENAME_EXCHANGE), macOS too
    (renamex_np with RENAME_SWAP). On a file system that can't, `target` is a symlink to the
    finished folder beside it, and the symlink is replaced in one step.
    """
    if target.is_symlink() or (not target.exists() and not _can_exchange(staging)):
        return _relink(staging, target)
    if not target.exists():
        staging.rename(target)
        return None
    try:
        exchange(staging, target)
    except CantExchangeError:  # moved here from a file system that could: one gap, once
        aside = staging.with_name(f"{staging.name}-old")
        target.rename(aside)
        _relink(staging, target)
        return aside
    return staging


def exchange(one: Path, other: Path) -> None:
    """Exchanges two folders' names; raises CantExchangeError, or OSError for anything else."""
    call = _exchange_call()
    if call is None:
        raise CantExchangeError
    ctypes.set_errno(0)
    if call(os.fsencode(one), os.fsencode(other)) != 0:
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            raise CantExchangeError
        raise OSError(code, os.strerror(code), str(one), None, str(other))


@cache
def _exchange_call() -> Callable[[bytes, bytes], int] | None:
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        return lambda one, other: int(libc.renamex_np(one, other, 2))
    if hasattr(libc, "renameat2"):
        return lambda one, other: int(libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, 2))
    return None


def _can_exchange(staging: Path) -> bool:
    probe = staging.with_name(f"{staging.name}-probe")
    probe.mkdir()
    try:
        exchange(staging, probe)
        exchange(staging, probe)
    except CantExchangeError:
        return False
    finally:
        probe.rmdir()
    return True


def _relink(staging: Path, target: Path) -> Path | None:
    old = living(target)
    link = staging.with_name(f"{staging.name}-link")
    link.symlink_to(staging.name)
    link.replace(target)
    return old if old is not None and old.is_dir() else None


def living(target: Path) -> Path | None:
    """The folder that a symlink of ours points to."""
    return target.parent / target.readlink() if target.is_symlink() else None


def flush(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_file(path: Path) -> None:
    """Makes a file's content durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds `folder`'s lock, which dies with the process; raises TransientError when it is busy.

    Two sinks look at a destination and switch it one after the other, so that one which was
    stopped between the two can't undo what the other did meanwhile.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        with held(folder) as ours:
            if ours:
                yield
                return
        if time.monotonic() > deadline:
            raise TransientError(f"{folder} is locked by another process", code="destination_busy")
        time.sleep(0.02)


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Takes `folder`'s lock if it is free, and says whether: somebody alive may have it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
