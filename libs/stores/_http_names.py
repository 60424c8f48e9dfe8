"""What a download is called: told by the server or its URL, made safe; never a path."""

from __future__ import annotations

import unicodedata
from email.message import Message
from urllib.parse import unquote, urlsplit

MAX_BYTES = 255
NAMELESS = "download"


def file_name(asked: str, final: str, disposition: str | None) -> str:
    """From Content-Disposition (RFC 6266), else the URL asked for, else the one it led to."""
    told = safe(_disposed(disposition)) if disposition else ""
    if told:
        return told
    names = [safe(unquote(urlsplit(url).path).rpartition("/")[2]) for url in (asked, final)]
    with_ending = [name for name in names if "." in name]
    return next(iter([*with_ending, *filter(None, names)]), NAMELESS)


def safe(name: str) -> str:
    """The last part of a name without what could be a path or command a terminal; may be empty."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if unicodedata.category(c)[0] != "C" and c != "\ufffd")
    cut = kept.encode()[-MAX_BYTES:].decode(errors="ignore").strip().lstrip(".")
    return cut if cut not in (".", "..") else ""


def _disposed(disposition: str) -> str:
    message = Message()
    try:
        message["Content-Disposition"] = disposition.encode("latin-1").decode("utf-8")
    except UnicodeError:
        message["Content-Disposition"] = disposition
    try:
        return message.get_filename() or ""
    except (LookupError, ValueError):  # an unknown charset, for instance
        return ""
