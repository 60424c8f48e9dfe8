"""file://: files, folders and globs on this machine, below the roots an operator allows.

A folder means every file below it; names that begin with `.` or `_` are left out unless a URL
names them. Symlinks are followed while they stay inside the roots.
"""

# Paths of any bytes, by the million: strings.
# ruff: noqa: PTH112, PTH116, PTH119
from __future__ import annotations

import os
import stat as kinds
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from libs.common.errors import PermanentError
from libs.stores import Access, NoOptions, Pin, Reach, SourceInfo, StoreOptions
from libs.stores._globs import HIDDEN, accepts, fits, has_magic, parse
from libs.stores._paths import inside, shown, to_path, to_uri


class FileStore:
    """Lists and opens local files."""

    Options: ClassVar[type[StoreOptions]] = NoOptions

    def __init__(self, access: Access, _reach: Reach | None = None) -> None:
        self._access = access

    def check(self, url: str) -> None:
        base, pattern = _split(to_path(url))
        inside(base, self._access)
        parse("/".join(pattern))

    def list(self, url: str, filter: str | None) -> Iterator[SourceInfo]:
        base, pattern = _split(to_path(url))
        real = inside(base, self._access)
        if not os.path.lexists(real):
            raise _absent(base)
        count = 0
        for found in self._found(base, real, pattern):
            if accepts(found.path, filter):
                count += 1
                yield found
        if not count:
            raise _nothing(base, pattern, filter)

    def stat(self, url: str) -> SourceInfo:
        path = to_path(url)
        return _info(inside(path, self._access), os.path.basename(path))

    def open(self, url: str, pin: Pin | None = None) -> BinaryIO:
        return open_file(to_uri(inside(to_path(url), self._access)), pin.etag if pin else None)

    def _found(self, base: str, real: str, pattern: tuple[str, ...]) -> Iterator[SourceInfo]:
        if not os.path.isdir(real):
            if not pattern:
                yield _info(real, os.path.basename(base))
            return
        hidden = any(s.startswith(HIDDEN) for s in pattern)
        deep = None if not pattern or "**" in pattern else len(pattern)
        for path, names in self._walk(real, (), _Depth(deep, hidden), frozenset()):
            if not pattern or fits(names, pattern):
                yield _info(path, shown("/".join(names)))

    def _walk(
        self, folder: str, names: tuple[str, ...], depth: _Depth, above: frozenset[tuple[int, int]]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Real paths below a real folder, sorted; a symlink to a folder above ends there."""
        here = _identity(folder)
        if here in above:
            return
        names_here, folders, links = _entries(folder)
        for name in names_here:
            if name.startswith(HIDDEN) and not depth.hidden:
                continue
            path, below = f"{folder.rstrip('/')}/{name}", (*names, name)
            last = len(below) == depth.limit
            if name in links:
                path = inside(path, self._access)
            if name not in folders:
                if last or depth.limit is None:
                    yield path, below
            elif not last:
                yield from self._walk(inside(path, self._access), below, depth, above | {here})


@dataclass(frozen=True)
class _Depth:
    """How far to go: to the level that a glob has (None: all), and whether into hidden names."""

    limit: int | None
    hidden: bool


def open_file(uri: str, etag: str | None = None) -> BinaryIO:
    """Opens the regular file that a listing named; never a symlink put in its place since."""
    path = to_path(uri)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _translated(path, error) from error
    found = os.fstat(handle)
    if not kinds.S_ISREG(found.st_mode):
        os.close(handle)
        raise _no_file(path)
    if etag is not None and _etag(found) != etag:
        os.close(handle)
        raise PermanentError(
            f"{shown(path)} changed after it was listed; run again", code="source_changed"
        )
    return os.fdopen(handle, "rb")


def _split(path: str) -> tuple[str, tuple[str, ...]]:
    """Folder and glob of a path; no glob when there is none, or a file of that very name."""
    if not has_magic(path) or os.path.lexists(path):
        return path, ()
    names = path.split("/")
    first = next(i for i, name in enumerate(names) if has_magic(name))
    return "/".join(names[:first]) or "/", parse("/".join(names[first:]))


def _info(real: str, path: str) -> SourceInfo:
    try:
        found = os.stat(real)
    except OSError as error:
        raise _translated(real, error) from error
    if not kinds.S_ISREG(found.st_mode):
        raise _no_file(real)
    return SourceInfo(
        uri=to_uri(real),
        path=shown(path),
        size=found.st_size,
        etag=_etag(found),
        mtime=found.st_mtime,
    )


def _etag(found: os.stat_result) -> str:
    return f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"


def _identity(folder: str) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _entries(folder: str) -> tuple[list[str], set[str], set[str]]:
    """All names, sorted; which of them are folders, and which symlinks."""
    names: list[str] = []
    folders: set[str] = set()
    links: set[str] = set()
    try:
        with os.scandir(folder) as found:
            for entry in found:
                names.append(entry.name)
                if entry.is_dir():
                    folders.add(entry.name)
                if entry.is_symlink():
                    links.add(entry.name)
        names.sort()
        return names, folders, links
    except OSError as error:
        raise _translated(folder, error) from error


def _absent(path: str) -> PermanentError:
    return PermanentError(f"{shown(path)}: no such file or folder", code="source_not_found")


def _no_file(path: str) -> PermanentError:
    return PermanentError(
        f"{shown(path)} is no regular file (a device, pipe or socket)", code="not_a_file"
    )


def _nothing(base: str, pattern: tuple[str, ...], filter: str | None) -> PermanentError:
    what = " and ".join(
        ([f"the glob {'/'.join(pattern)!r}"] if pattern else [])
        + ([f"the filter {filter!r}"] if filter else [])
    )
    said = f"holds no file that matches {what}" if what else "holds no files"
    return PermanentError(f"{shown(base)} {said}", code="no_matching_files")


def _translated(path: str, error: OSError) -> PermanentError:
    if isinstance(error, FileNotFoundError):
        return _absent(path)
    if isinstance(error, PermissionError):
        return PermanentError(
            f"{shown(path)} may not be read by this service", code="source_forbidden"
        )
    return PermanentError(f"{shown(path)}: {error.strerror}", code="source_unreadable")


PLUGIN = FileStore
