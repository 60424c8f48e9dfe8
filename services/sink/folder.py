"""A delivered folder: whose it is, whether it is whole, and what may be cleared away."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from libs.common.errors import PermanentError
from libs.common.ids import digest
from services.sink.contents import MAX_BYTES, NAME, Contents
from services.sink.roots import OURS
from services.sink.switch import held, living


def read(folder: Path) -> Contents | None:
    """What the folder says about itself; None where nothing of ours does."""
    path = folder / NAME
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return None
    return Contents.decode(path.read_text("utf-8", errors="replace"))


def claim(target: Path, dataset: str, where: str) -> Contents | None:
    """What lies at `target` when this dataset may replace it: its own earlier delivery, or None
    for nothing. Raises PermanentError `destination_not_ours`."""
    _check_around(target, where)
    if not target.exists():
        return None
    if not target.is_dir():
        raise not_ours(f"{target} is a file", where)
    if os.path.ismount(target):
        raise not_ours(f"{target} is a mount point and can't be replaced", where)
    contents = read(target)
    if contents is None and any(target.iterdir()):
        raise not_ours(f"{target} holds files that OneBlock Data didn't deliver", where)
    if contents is not None and contents.dataset != dataset:
        raise not_ours(f"{target} holds a delivery of the dataset {contents.dataset}", where)
    return contents


def not_ours(what: str, where: str) -> PermanentError:
    """Nothing was touched, and what a person can do."""
    return PermanentError(
        f"{what}; nothing was changed. Choose a new or empty folder, or move that one away",
        code="destination_not_ours",
        path=f"{where}.url",
    )


def whole(folder: Path, contents: Contents) -> bool:
    """Whether every file is there as it was written: size, and not touched since the manifest."""
    sealed = (folder / NAME).stat().st_mtime_ns
    for file in contents.files:
        try:
            state = (folder / file.path).lstat()
        except FileNotFoundError:
            return False
        if state.st_size != file.bytes or state.st_mtime_ns > sealed:
            return False
    return True


def foreign(folder: Path, contents: Contents | None) -> list[str]:
    """Paths below the folder that we didn't write; a folder of others' alone is one of them."""
    ours = {NAME} | {file.path for file in contents.files} if contents else set()
    return sorted(_foreign(folder, "", ours, folders(ours)))


def _foreign(folder: Path, below: str, ours: set[str], ways: set[str]) -> Iterator[str]:
    with os.scandir(folder / below) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                if path not in ours:
                    yield path
            elif path in ways:
                yield from _foreign(folder, f"{path}/", ours, ways)
            else:
                yield path


def folders(files: set[str]) -> set[str]:
    """Every folder that files lie in, however deep."""
    parents = {path.rpartition("/")[0] for path in files} - {""}
    return parents | folders(parents) if parents else set()


def staging_of(target: Path, dataset: str, run: str, attempt: int) -> Path:
    """The hidden sibling in which one attempt of one run prepares the folder."""
    return target.with_name(f"{_prefix(target, dataset)}{run}-{attempt}")


def clear_leftovers(target: Path, dataset: str) -> None:
    """Removes what dead attempts left beside `target`."""
    for entry in _siblings(target.parent, _prefix(target, dataset)):
        if entry == living(target):
            continue
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink()
            continue
        with held(entry) as dead:  # a living attempt holds its staging
            if dead:
                remove(entry, target)


def remove(leftover: Path, target: Path) -> list[str]:
    """Removes a folder of ours; others' files in it move to `target`.

    Returns names that had to stay because `target` has something else of that name. Without a
    manifest it is staging that never was complete, and wholly ours; so the manifest goes last.
    """
    contents = read(leftover)
    if contents is None:
        shutil.rmtree(leftover)
        return []
    names = foreign(leftover, contents)
    kept = [name for name in names if not _move(leftover / name, target / name)]
    for file in contents.files:
        if not kept or not folders({file.path}).intersection(
            kept
        ):  # a link put in a folder's place
            (leftover / file.path).unlink(missing_ok=True)
    for below in sorted(folders({file.path for file in contents.files}), reverse=True):
        with suppress(OSError):  # others' files may have to stay in it
            (leftover / below).rmdir()
    if not kept:
        (leftover / NAME).unlink()
        leftover.rmdir()
    return kept


def _move(source: Path, goal: Path) -> bool:
    if os.path.lexists(goal) or not goal.parent.is_dir():
        return False
    with suppress(OSError):  # a mount point, or a folder that we may not move
        source.rename(goal)
        return True
    return False


def _check_around(target: Path, where: str) -> None:
    """A folder inside another delivery would be moved about with it."""
    for parent in target.parents:
        contents = read(parent) if os.access(parent, os.R_OK | os.X_OK) else None
        if contents is not None:
            raise not_ours(f"{target} lies inside a delivery of {contents.dataset}", where)


def _siblings(parent: Path, prefix: str) -> Iterator[Path]:
    entries = sorted(parent.iterdir()) if parent.is_dir() else []
    return (entry for entry in entries if entry.name.startswith(prefix))


def _prefix(target: Path, dataset: str) -> str:
    return f"{OURS}{digest([target.name, dataset])[:8]}-"
