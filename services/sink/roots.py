"""Where a local destination may lie: below the operator's roots, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from libs.common.errors import PermanentError
from services.sink.destinations import Access

OURS = ".oneblock-"  # beginning of every name that we make beside a destination


def locate(url: str, access: Access, where: str) -> Path:
    """The folder that `url` (file:///dir or /dir) names, its parent free of symlinks.

    The folder itself may be a symlink of ours (see `switch`). Raises PermanentError
    `invalid_destination`, or `path_outside_root` for what lies elsewhere or leads there.
    """
    asked = Path(_plain(url, where))
    folder = Path(os.path.realpath(asked.parent)) / asked.name
    if folder.is_symlink() and not _is_ours(folder):
        folder = Path(os.path.realpath(folder))
    if not access.roots:
        _refuse(
            f"{asked}: no folder is open for deliveries; "
            "an operator names some in ONEBLOCK_SINK_ROOTS",
            where,
        )
    if not any(_below(folder, root) for root in access.roots):
        allowed = ", ".join(str(root) for root in access.roots)
        _refuse(f"{asked} is not below {allowed}; choose a folder below (not itself)", where)
    for closed in access.closed:
        real = Path(os.path.realpath(closed))
        if folder == real or folder.is_relative_to(real):
            _refuse(f"{asked} lies in {closed}, which is the platform's own", where)
    return folder


def _plain(url: str, where: str) -> str:
    path = url
    if not url.startswith("/"):
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            _invalid(f"{url!r}: give file:///folder or an absolute path", where)
        if parts.query or parts.fragment:
            _invalid(f"{url!r}: '?' and '#' in a folder's name are written %3F and %23", where)
        path = unquote(parts.path, errors="strict") if _utf8(parts.path) else "\0"
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not path.startswith("/") or not names:
        _invalid(f"{url!r}: give file:///folder or an absolute path", where)
    for name in names:
        _check_name(name, url, where)
    return "/" + "/".join(names)


def _check_name(name: str, url: str, where: str) -> None:
    if name == "..":
        _invalid(f"{url!r}: '..' is not allowed; give the folder's own path", where)
    if any(ord(letter) < 32 or letter in "\\\x7f" for letter in name):
        _invalid(f"{url!r}: control characters and '\\' are not allowed in a folder's name", where)
    if len(os.fsencode(name)) > 255:
        _invalid(f"a folder's name has at most 255 bytes; {name[:20]!r}… is longer", where)
    if name.startswith(OURS):
        _invalid(f"{url!r}: names that begin with {OURS} are the platform's own", where)


def _utf8(quoted: str) -> bool:
    try:
        unquote(quoted, errors="strict").encode()
    except UnicodeError:
        return False
    return True


def _is_ours(link: Path) -> bool:
    """Whether the symlink was made by us: to a real folder of ours right beside it."""
    goal = link.readlink()
    beside = len(goal.parts) == 1 and goal.name.startswith(OURS)
    return beside and not (link.parent / goal).is_symlink()


def _below(folder: Path, root: Path) -> bool:
    real = Path(os.path.realpath(root))
    return folder != real and folder.is_relative_to(real)


def _invalid(detail: str, where: str) -> NoReturn:
    raise PermanentError(detail, code="invalid_destination", path=f"{where}.url")


def _refuse(detail: str, where: str) -> NoReturn:
    raise PermanentError(detail, code="path_outside_root", path=f"{where}.url")
