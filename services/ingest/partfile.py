"""A file that is being received: appended, hashed, then moved to its place by its content.

It is locked while its process has it open, so what a killed one left is told from what is being
received.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path

from libs.stores.upload import upload_path

BEGIN_EVERY = 16 << 20  # bytes after which the disk is set to work, so that `sync` is short
BUFFER = 4 << 20  # bytes handed to the disk at a time
INCOMING = ".incoming"  # the folder, below the uploads, of what comes in one go
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Hashed = tuple["hashlib._Hash", int]  # a hash, and the bytes that went into it


class PartFile:
    """Blocks. `put` and `hash` may work on the same data side by side, in two threads."""

    def __init__(self, path: Path, *, resume: bool = False, hashed: Hashed | None = None) -> None:
        """A new file, or with `resume` the one that is there, of which so much was `hashed`."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if resume else "xb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self._file.close()
            raise
        self.size = self._file.seek(0, os.SEEK_END)
        self._begun = self.size  # up to where the disk has been set to work
        self._hash, self.hashed = hashed or (hashlib.sha256(), 0)

    @property
    def hash_so_far(self) -> Hashed:
        """What to go on with when the file is opened again."""
        return self._hash, self.hashed

    @property
    def sha256(self) -> str:
        """Of the bytes hashed so far."""
        return self._hash.hexdigest()

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Appends."""
        self._file.write(data)
        self.size += len(data)
        if self.size - self._begun >= BEGIN_EVERY and hasattr(os, "posix_fadvise"):
            self._file.flush()
            said = (self._begun, self.size - self._begun, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(self._file.fileno(), *said)  # Linux begins to write, without waiting
            self._begun = self.size

    def hash(self, data: bytes | bytearray | memoryview) -> None:
        """What was appended; in the same order."""
        self._hash.update(data)
        self.hashed += len(data)

    def catch_up(self) -> None:
        """Hashes what lies in the file and isn't hashed yet."""
        self._file.flush()
        with self.path.open("rb") as file:
            file.seek(self.hashed)
            while self.hashed < self.size and (block := file.read(BUFFER)):
                self.hash(block)

    def truncate(self, size: int) -> None:
        """Back to so many bytes."""
        self._file.flush()
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size
        self._begun = min(self._begun, size)
        if self.hashed > size:
            self._hash, self.hashed = hashlib.sha256(), 0

    def flush(self) -> None:
        """Handed to the system: a killed process loses nothing of it."""
        self._file.flush()

    def sync(self) -> None:
        """On the disk, not just handed to the system."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def keep(self, root: Path) -> str:
        """Moves it to its place below `root`, durably; returns its SHA-256. `sync` first."""
        final = upload_path(root, self.sha256)
        final.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(final)
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return self.sha256

    def close(self) -> None:
        """Closes; what is there stays. Raises OSError when a full disk keeps the rest out."""
        self._file.close()

    def remove(self) -> None:
        """Closes, and removes it unless it was moved to its place."""
        try:
            self._file.close()
        except OSError:  # what a full disk kept in the buffer
            pass
        finally:
            self.path.unlink(missing_ok=True)


def abandoned(path: Path) -> bool:
    """Whether no living process has the part file open."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
