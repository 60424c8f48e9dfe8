"""upload://<sha256>/<filename>: what was sent to ingest over HTTP, kept by its content.

The bytes lie at `<uploads>/<first two>/<sha256>`; the name is only told, never a path here.
`upload://<sha256>/<name>/` is a folder: that content is a list of uploads, a line of JSON each,
`{"path": "cats/1.jpg", "size": 48213, "sha256": "…"}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import quote, unquote

from pydantic import BaseModel, ValidationError

from libs.common.errors import PermanentError
from libs.stores import Access, NoOptions, Pin, Reach, SourceInfo, StoreOptions
from libs.stores._globs import accepts
from libs.stores._paths import to_uri
from libs.stores.file import open_file

MAX_LINE = 16_384  # bytes of a line of a folder's list
SHA256 = re.compile(r"[0-9a-f]{64}")


def upload_url(sha256: str, name: str) -> str:
    """The URL by which a manifest names an upload."""
    return f"upload://{sha256}/{quote(name)}"


def upload_path(uploads: Path, sha256: str) -> Path:
    """Where the bytes with this checksum lie."""
    return uploads / sha256[:2] / sha256


class Entry(BaseModel):
    """A line of a folder's list."""

    path: str
    sha256: str
    size: int


class UploadStore:
    """Finds uploads again."""

    Options: ClassVar[type[StoreOptions]] = NoOptions

    def __init__(self, access: Access, _reach: Reach | None = None) -> None:
        self._uploads = access.uploads

    def check(self, url: str) -> None:
        self.stat(url)

    def list(self, url: str, filter: str | None) -> Iterator[SourceInfo]:
        count = 0
        for found in self._folder(url) if url.endswith("/") else (self.stat(url),):
            if accepts(found.path, filter):
                count += 1
                yield found
        if not count:
            raise PermanentError(
                f"{url}: no file in it matches the filter {filter!r}", code="no_matching_files"
            )

    def stat(self, url: str) -> SourceInfo:
        sha256, name = _parse(url)
        path = upload_path(self._uploads, sha256) if self._uploads else None
        if path is None or not path.is_file():
            raise PermanentError(
                f"{url}: no such upload; send the file with PUT /v1/uploads/{quote(name)} first",
                code="source_not_found",
            )
        found = path.stat()
        return SourceInfo(
            uri=to_uri(path.resolve()),
            path=name,
            size=found.st_size,
            etag="",  # its name is its content: there is no other state to tell apart
            mtime=found.st_mtime,
            sha256=sha256,
        )

    def _folder(self, url: str) -> Iterator[SourceInfo]:
        with open_file(self.stat(url).uri) as listing:
            while line := listing.readline(MAX_LINE):
                try:
                    entry = Entry.model_validate_json(line)
                except ValidationError as error:
                    raise PermanentError(
                        f"{url}: not the list of a folder; send folders with `oneblock upload DIR`",
                        code="invalid_url",
                    ) from error
                yield self.stat(upload_url(entry.sha256, entry.path))

    def open(self, url: str, _pin: Pin | None = None) -> BinaryIO:
        return open_file(self.stat(url).uri)


def _parse(url: str) -> tuple[str, str]:
    sha256, _, name = url.partition("://")[2].partition("/")
    name = unquote(name).removesuffix("/")
    parts = name.split("/")
    if not SHA256.fullmatch(sha256) or {"", ".", ".."} & {*parts} or "\0" in name:
        raise PermanentError(
            f"{url!r}: write upload://<sha256>/<filename>, as the upload answered",
            code="invalid_url",
        )
    return sha256, name


PLUGIN = UploadStore
