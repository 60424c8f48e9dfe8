"""Which names an upload may have: told to people and in manifests, never used as a path."""

from __future__ import annotations

import re
import unicodedata

from libs.common.errors import PermanentError

MAX_BYTES = 255
MAX_PATH = 4096
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
DRIVE = re.compile(r"[A-Za-z]:")
REPLACED = "\ufffd"  # what the server's URL decoding makes of bytes that are no UTF-8
# Control characters, half surrogates, line separators; the marks that reverse text are named apart.
REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp", "Cn"})
REVERSING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def checked(name: str) -> str:
    """`name`, or PermanentError `invalid_name` with the reason."""
    if reason := _wrong(name):
        raise PermanentError(
            f"the file name {name[:80]!r} can't be used: {reason}",
            code="invalid_name",
            path="filename",
        )
    return name


def checked_path(path: str) -> str:
    """A name, or a relative path of names below an uploaded folder: each part is checked."""
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH:
        return checked(path[: MAX_BYTES + 1])
    for part in path.split("/"):
        checked(part)
    return path


def _wrong(name: str) -> str | None:
    """Why not; None for a good name."""
    if not name.strip() or name in (".", ".."):
        return "a name is needed"
    if "/" in name or "\\" in name or DRIVE.match(name):
        return "a name, not a path, is needed: '/', '\\' and drive letters are not allowed"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"it has more than {MAX_BYTES} bytes"
    if REPLACED in name:
        return "it is not UTF-8"
    if any(c in REVERSING or unicodedata.category(c) in REFUSED for c in name):
        return "it has control characters"
    if name != name.strip():
        return "it begins or ends with a space"
    return "it is the name of a device on Windows" if DEVICES.match(name) else None
