"""Globs over paths: `*` and `?` within a name, `**` over folders; hidden names only when asked."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from libs.common.errors import PermanentError

MAGIC = re.compile(r"[*?\[]")
HIDDEN = (".", "_")  # dot files, and what jobs write beside data: _SUCCESS, _manifest.json
MAX_STARS = 4  # of `**`, each of which multiplies the work of a match


def has_magic(text: str) -> bool:
    return MAGIC.search(text) is not None


def parse(pattern: str) -> tuple[str, ...]:
    """The pattern's segments; raises `invalid_glob`."""
    segments: list[str] = []
    for segment in pattern.strip("/").split("/"):
        if segment != "**" or segments[-1:] != ["**"]:
            segments.append(segment)
    if segments.count("**") > MAX_STARS:
        raise PermanentError(f"{pattern!r} has more than {MAX_STARS} '**'", code="invalid_glob")
    return tuple(segments)


def fits(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path (its names) matches a pattern (its segments) as a whole."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        deeper = bool(names) and not names[0].startswith(HIDDEN) and fits(names[1:], pattern)
        return fits(names, pattern[1:]) or deeper
    return bool(names) and _fits_name(names[0], pattern[0]) and fits(names[1:], pattern[1:])


def accepts(path: str, filter: str | None) -> bool:
    """A source's `filter`: on the name, or on the path below the root when it has a `/`."""
    if filter is None:
        return True
    if "/" in filter:
        return fits(tuple(path.split("/")), parse(filter))
    return fnmatchcase(path.rpartition("/")[2], filter)


def _fits_name(name: str, segment: str) -> bool:
    if name.startswith(HIDDEN) and segment[:1] != name[:1]:
        return False
    return fnmatchcase(name, segment)
