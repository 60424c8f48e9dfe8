"""tar: members lie in it as they are, so that each is a window on it."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from libs.stores._archives import Careful, Limits, Member, checked_path, corrupt, unsafe

BLOCK = 512


def members(file: BinaryIO, name: str, limits: Limits) -> Iterator[Member]:
    """Its regular files; raises for links and devices, which nobody needs who reads."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    total = 0
    try:
        with tarfile.open(fileobj=cast(BinaryIO, Careful(file, name)), mode="r:") as archive:
            for count, entry in enumerate(_entries(archive), 1):
                limits.count(name, count)
                if entry.isdir():
                    continue
                path = checked_path(name, entry.name)
                if not entry.isreg() or entry.issparse():
                    raise unsafe(name, path, "is no plain file but a link or a device")
                if entry.offset_data + entry.size > size:
                    raise corrupt(name, f"it ends in the middle of {path!r}")
                total += entry.size
                limits.check(name, total, size)
                yield Member(path, entry.size, "tar", (entry.offset_data, entry.size))
            _check_end(archive, file, name)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise corrupt(name, f"no tar, or a broken one: {error}") from error


def _entries(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One after the other, none of them kept."""
    while (entry := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield entry


def _check_end(archive: tarfile.TarFile, file: BinaryIO, name: str) -> None:
    """tarfile takes a broken header behind the first one for the end."""
    file.seek(archive.offset)
    if file.read(BLOCK) != bytes(BLOCK):
        raise corrupt(name, "it has no end: cut off, or broken in the middle")
