"""Archives and compressed files: what they are by name, their members, and a member's address.

A member is named `<uri>!/<member>#<where>`, where `<where>` says how it lies in the file that
`<uri>` names, so that whoever opens it need not look through the archive again. `<uri>` may be a
member itself: a tar that is compressed is a member of its compressed file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from libs.common.errors import PermanentError
from libs.stores._settings import Outside

COMPRESSIONS = {"gz": "gz", "bz2": "bz2", "xz": "xz", "zst": "zst", "zstd": "zst"}
SHORT = {"tgz": "gz", "tbz": "bz2", "tbz2": "bz2", "txz": "xz", "tzst": "zst"}
ADDRESS = re.compile(r"(?P<outer>.+)!/[^#!]*#(?P<how>[a-z0-9]+):(?P<numbers>[0-9:]+)", re.DOTALL)
FREE = 64 << 20  # bytes that may come of however little
MAX_NAME, MAX_PATH = 255, 4096  # bytes
HIDDEN = (".", "_")


@dataclass(frozen=True)
class Kind:
    """What a name says of a file; either may be empty."""

    compression: str  # gz, bz2, xz, zst
    container: str  # tar, zip

    @classmethod
    def of(cls, name: str) -> Kind | None:
        """None for what is neither compressed nor an archive."""
        stem, _, ending = name.lower().rpartition(".")
        if not stem:
            return None
        if ending in ("zip", "tar"):
            return cls("", ending)
        if ending in SHORT:
            return cls(SHORT[ending], "tar")
        if ending not in COMPRESSIONS:
            return None
        return cls(COMPRESSIONS[ending], "tar" if stem.endswith(".tar") else "")

    def inner(self, name: str) -> str:
        """The name of a compressed file without the compression."""
        stem, _, ending = name.rpartition(".")
        return f"{stem}.tar" if ending.lower() in SHORT else stem


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    path: str
    size: int  # bytes, expanded
    how: str  # tar, zip
    numbers: tuple[int, ...]  # what opening it needs

    def address(self, outer: str, outer_size: int) -> str:
        """Its URI; `outer` is the archive's, which has so many bytes."""
        numbers = ":".join(map(str, (outer_size, *self.numbers)))
        return f"{outer}!/{quote(self.path)}#{self.how}:{numbers}"


@dataclass(frozen=True)
class Address:
    """A member's URI, taken apart."""

    outer: str
    outer_size: int
    how: str
    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, uri: str) -> Address | None:
        """None for the URI of a file of its own."""
        found = ADDRESS.fullmatch(uri)
        if not found:
            return None
        size, *numbers = (int(number) for number in found["numbers"].split(":"))
        return cls(found["outer"], size, found["how"], tuple(numbers))


@dataclass(frozen=True)
class Limits:
    """What one archive may hold."""

    entries: int = 100_000
    size: int = 64 << 30  # bytes, expanded
    ratio: int = 100  # expanded to compressed, once more than 64 MiB came

    @classmethod
    def of(cls, outside: Outside) -> Limits:
        return cls(
            outside.archive_max_entries, outside.archive_max_bytes, outside.archive_max_ratio
        )

    def check(self, name: str, expanded: int, compressed: int) -> None:
        """Raises PermanentError `decompression_limit`."""
        if expanded > self.size:
            why = f"more than {self.size:,} bytes (ONEBLOCK_ARCHIVE_MAX_BYTES)"
        elif expanded > FREE and expanded > self.ratio * compressed:
            why = f"more than {self.ratio} times its size (ONEBLOCK_ARCHIVE_MAX_RATIO)"
        else:
            return
        raise PermanentError(f"{name} expands to {why}", code="decompression_limit")

    def count(self, name: str, entries: int) -> None:
        """Raises PermanentError `decompression_limit`."""
        if entries > self.entries:
            raise PermanentError(
                f"{name} has more than {self.entries:,} entries (ONEBLOCK_ARCHIVE_MAX_ENTRIES)",
                code="decompression_limit",
            )


def members(file: BinaryIO, container: str, name: str, limits: Limits) -> Iterator[Member]:
    """The files in an archive, in its order; folders and hidden names are left out.

    `name` is the archive's, for errors. Raises PermanentError `corrupt_file`, `unsafe_archive`,
    `decompression_limit`, `encrypted_file`, `unsupported_compression`.
    """
    from libs.stores import _tar, _zip

    of = {"tar": _tar.members, "zip": _zip.members}[container]
    seen: set[str] = set()
    for member in of(file, name, limits):
        if member.path in seen:
            raise unsafe(name, member.path, "is there twice")
        seen.add(member.path)
        if not any(part.startswith(HIDDEN) for part in member.path.split("/")):
            yield member


def checked_path(archive: str, path: str) -> str:
    """A member's path; raises PermanentError `unsafe_archive` for what leads out or misleads."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or "\\" in path or ".." in parts or re.match("[A-Za-z]:", path):
        raise unsafe(archive, path, "leads out of it")
    if not parts or any(unicodedata.category(c) in ("Cc", "Cs") for c in path):
        raise unsafe(archive, path, "is no name")
    if len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts):
        raise unsafe(archive, path, "is too long a name")
    return "/".join(parts)


def unsafe(archive: str, path: str, why: str) -> PermanentError:
    shown = path.encode("utf-8", "backslashreplace").decode()[:80]
    return PermanentError(f"{archive}: the entry {shown!r} {why}", code="unsafe_archive")


def corrupt(name: str, why: object) -> PermanentError:
    return PermanentError(f"{name}: {why}", code="corrupt_file")


class Careful:
    """A file as archive readers see it: a hostile header can't make them read it all at once."""

    LONGEST = 64 << 20

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > self.LONGEST:
            raise corrupt(self._name, f"a header that claims {size:,} bytes")
        return self._file.read(size if size >= 0 else self.LONGEST)

    def seekable(self) -> bool:
        return True
