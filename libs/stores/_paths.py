"""file:// URLs ↔ paths, and holding paths inside the allowed roots."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from libs.common.errors import PermanentError
from libs.stores import Access


def to_path(url: str) -> str:
    """The absolute path that a file:// URL names, normal, without `..`; may hold a glob.

    `?` belongs to the path (a glob's), as no file has a query; raises `invalid_url`.
    """
    rest = url.partition(":")[2]
    host, slash, tail = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not slash or host not in ("", "localhost"):
        raise _bad(url, "write file:///absolute/path")
    path = os.fsdecode(unquote_to_bytes("/" + tail))
    if "\0" in path:
        raise _bad(url, "a NUL byte is not allowed in a path")
    if ".." in path.split("/"):
        raise PermanentError(f"{url!r}: '..' is not allowed in a path", code="path_outside_root")
    raw = os.fsencode(path)
    if len(raw) > 255 and any(len(name) > 255 for name in raw.split(b"/")):
        raise _bad(url, "a name is longer than 255 bytes")
    return os.path.normpath(path)


def to_uri(path: str | Path) -> str:
    """file:///… of an absolute path, any bytes."""
    return "file://" + quote(os.fsencode(path))


def shown(path: str) -> str:
    """A path as Unicode text, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def inside(path: str, access: Access) -> str:
    """The real path, symlinks followed; raises `path_outside_root` when that isn't allowed."""
    real = os.path.realpath(path)
    if any(_below(real, os.path.realpath(p)) for p in access.private):
        raise PermanentError(
            f"{shown(path)} is in the warehouse, whose files can't be a source",
            code="path_outside_root",
        )
    if any(_below(real, os.path.realpath(root)) for root in access.roots):
        return real
    allowed = ", ".join(str(root) for root in access.roots) or "none (set ONEBLOCK_FILE_ROOTS)"
    leads = f" leads to {shown(real)}, which" if real != path else ""
    raise PermanentError(
        f"{shown(path)}{leads} is outside the allowed file roots: {allowed}",
        code="path_outside_root",
    )


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _bad(url: str, why: str) -> PermanentError:
    return PermanentError(f"{url!r}: {why}", code="invalid_url")
