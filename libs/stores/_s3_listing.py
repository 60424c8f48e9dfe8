"""What lies in a bucket, page by page: keys in the order of their bytes, none held in memory."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote_plus

from libs.common.errors import PermanentError, TransientError
from libs.stores._s3_client import S3Client, quoted

PAGE = "1000"  # keys, the most that S3 gives
Marks = Callable[[ElementTree.Element], dict[str, str]]  # a page → where the next one begins


@dataclass(frozen=True)
class Found:
    """One object."""

    key: str
    size: int
    etag: str
    modified: float  # seconds since the epoch
    version_id: str = ""


class Listing:
    """Of one bucket. Where it keeps versions, the newest of each object is named."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._versions: bool | None = None

    def below(self, prefix: str, *, deep: bool = True) -> Iterator[Found]:
        """Objects whose keys begin with the prefix; not `deep`: without a `/` after it."""
        query = {"prefix": prefix, "max-keys": PAGE, "encoding-type": "url"}
        if not deep:
            query["delimiter"] = "/"
        what = self._client.name(prefix)
        if self._versioned(what):
            yield from self._pages({"versions": "", **query}, what, "Version", _version_marks)
        else:
            yield from self._pages({"list-type": "2", **query}, what, "Contents", _marks)

    def _versioned(self, what: str) -> bool:
        """Whether the bucket keeps versions; who may not ask gets objects without them."""
        if self._versions is None:
            try:
                told = _parsed(self._client.ask({"versioning": ""}, what), what)
                self._versions = bool(_text(told, "Status"))
            except PermanentError:
                self._versions = False
        return self._versions

    def _pages(self, query: dict[str, str], what: str, tag: str, marks: Marks) -> Iterator[Found]:
        marked: dict[str, str] = {}
        while True:
            page = _parsed(self._client.ask(query | marked, what), what)
            decode = unquote_plus if _text(page, "EncodingType") == "url" else str
            space = page.tag.partition("}")[0] + "}" if page.tag.startswith("{") else ""
            for element in page.iterfind(f"{space}{tag}"):
                told = {part.tag.removeprefix(space): part.text or "" for part in element}
                if told.get("IsLatest", "true") == "true":
                    yield _found(told, decode(told["Key"]))
            if _text(page, "IsTruncated") != "true":
                return
            before, marked = marked, marks(page)
            if marked == before or not marked:
                raise TransientError(
                    f"{what}: the listing doesn't go on", code="source_unavailable"
                )


def _marks(page: ElementTree.Element) -> dict[str, str]:
    token = _text(page, "NextContinuationToken")
    return {"continuation-token": token} if token else {}


def _version_marks(page: ElementTree.Element) -> dict[str, str]:
    decode = unquote_plus if _text(page, "EncodingType") == "url" else str
    key, version = _text(page, "NextKeyMarker"), _text(page, "NextVersionIdMarker")
    marks = {"key-marker": decode(key)} if key else {}
    return marks | ({"version-id-marker": version} if version else {})


def _found(told: dict[str, str], key: str) -> Found:
    return Found(
        key=key,
        size=int(told["Size"]),
        etag=quoted(told.get("ETag", "")),
        modified=datetime.fromisoformat(told["LastModified"]).timestamp(),
        version_id=told.get("VersionId", ""),
    )


def _parsed(body: bytes, what: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise PermanentError(
            f"{what}: the server doesn't answer as S3 does (is the endpoint right?)",
            code="source_unreadable",
        ) from error


def _text(page: ElementTree.Element, name: str) -> str:
    """Of a direct child, whatever its namespace."""
    return page.findtext(f"{{*}}{name}") or page.findtext(name) or ""
