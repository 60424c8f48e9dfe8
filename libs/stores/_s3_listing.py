"""What lies in a bucket, page by page: keys in the order of their bytes, none held in memory."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote_plus

from libs.common.errors import PermanentError, TransientError
from libs.stores._ranged import threads
from libs.stores._s3_client import S3Client, quoted

PAGE = "1000"  # keys, the most that S3 gives
Marks = Callable[[ElementTree.Element], dict[str, str]]  # a page → where the next one begins


class Found(NamedTuple):
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
        """The next page is asked for while this one is worked on."""
        marked: dict[str, str] = {}
        coming = threads().submit(self._page, query, what)
        while True:
            page = coming.result()
            more = _text(page, "IsTruncated") == "true"
            if more:
                before, marked = marked, marks(page)
                if marked == before or not marked:
                    detail = f"{what}: the listing doesn't go on"
                    raise TransientError(detail, code="source_unavailable")
                coming = threads().submit(self._page, query | marked, what)
            yield from _objects(page, tag)
            if not more:
                return

    def _page(self, query: dict[str, str], what: str) -> ElementTree.Element:
        return _parsed(self._client.ask(query, what), what)


def _objects(page: ElementTree.Element, tag: str) -> Iterator[Found]:
    """Read by position, since millions are: where fields stand is looked up when it changes."""
    decode = _text(page, "EncodingType") == "url"
    space = page.tag.partition("}")[0] + "}" if page.tag.startswith("{") else ""
    tags: list[str] = []
    for element in page.iterfind(f"{space}{tag}"):
        found = [part.tag for part in element]
        if found != tags:
            tags, at = found, {name.removeprefix(space): i for i, name in enumerate(found)}
            key, size, modified = at["Key"], at["Size"], at["LastModified"]
            etag, version, latest = (at.get(n) for n in ("ETag", "VersionId", "IsLatest"))
        texts = [part.text or "" for part in element]
        if latest is None or texts[latest] == "true":
            yield Found(
                unquote_plus(texts[key]) if decode else texts[key],
                int(texts[size]),
                quoted(texts[etag]) if etag is not None else "",
                datetime.fromisoformat(texts[modified]).timestamp(),
                texts[version] if version is not None else "",
            )


def _marks(page: ElementTree.Element) -> dict[str, str]:
    token = _text(page, "NextContinuationToken")
    return {"continuation-token": token} if token else {}


def _version_marks(page: ElementTree.Element) -> dict[str, str]:
    decode = unquote_plus if _text(page, "EncodingType") == "url" else str
    key, version = _text(page, "NextKeyMarker"), _text(page, "NextVersionIdMarker")
    marks = {"key-marker": decode(key)} if key else {}
    return marks | ({"version-id-marker": version} if version else {})


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
