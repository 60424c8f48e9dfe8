"""Archives for tests: good ones, and every kind of bad one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping

import pyarrow as pa

FILES = {"a.csv": b"x,y\n1,2\n", "deep/b.csv": b"x,y\n3,4\n" * 50, "empty.csv": b""}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar with these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def tar_with(entry: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """A tar with one entry as it is."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A link, or a device."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    return entry


def zip_of(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}
