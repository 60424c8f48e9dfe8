"""s3://bucket/key: objects, prefixes (folders) and globs in any S3-compatible store.

A key stands in a URL as it is, without percent-encoding. `source.options` may say `endpoint`,
`region`, `addressing`, `anonymous` and `requester_pays`; credentials come by `source.secretRef`, or
else from where the process runs.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import BinaryIO, ClassVar, cast
from urllib.parse import urlsplit

from libs.common.errors import PermanentError, TransientError
from libs.stores import Access, Outside, Pin, Reach, SourceInfo, StoreOptions
from libs.stores._addresses import resolve
from libs.stores._globs import HIDDEN, MAGIC, accepts, fits, parse
from libs.stores._ranged import RangedFile
from libs.stores._s3_client import Head, S3Client
from libs.stores._s3_listing import Found, Listing
from libs.stores._s3_options import BUCKET, S3Options, account

FRESH = 60.0  # seconds that a client is used; then its secret is looked up again


class S3Store:
    """One source's view of S3."""

    Options: ClassVar[type[StoreOptions]] = S3Options

    def __init__(self, access: Access, reach: Reach | None = None) -> None:
        self._outside, self._reach = access.outside, reach or Reach()

    def check(self, url: str) -> None:
        place = Place.of(url)
        parse("/".join(place.pattern))
        found = account(self._reach)
        if not found.trusted:
            host = urlsplit(found.base(place.bucket)[0])
            self._check_address(host.hostname or "", host.port or 443)

    def list(self, url: str, filter: str | None) -> Iterator[SourceInfo]:
        place, count = Place.of(url), 0
        for found, path in self._found(place):
            if accepts(path, filter):
                count += 1
                yield _info(place.bucket, found, path)
        if not count:
            raise _nothing(url, place, filter)

    def stat(self, url: str) -> SourceInfo:
        place = Place.of(url)
        head = self._client(place.bucket).head(place.key)
        return _info(place.bucket, _of(place.key, head), place.key.rpartition("/")[2])

    def open(self, url: str, pin: Pin | None = None) -> BinaryIO:
        place = Place.of(url)
        client = self._client(place.bucket)
        if pin is None or pin.size < 0 or not pin.etag:
            pin = client.head(place.key).pin
        file = RangedFile(partial(client.read, place.key, pin), pin.size, url)
        return cast(BinaryIO, file)

    def _check_address(self, host: str, port: int) -> None:
        try:
            resolve(host, port, self._outside.networks(), "the S3 endpoint")
        except TransientError:
            return  # a name that doesn't resolve now may do so in the run
        except PermanentError as error:
            raise PermanentError(error.detail, code=error.code, path=ENDPOINT) from error

    def _found(self, place: Place) -> Iterator[tuple[Found, str]]:
        """Objects and their paths below the root: that of the very name, else all it means."""
        client, refused = self._client(place.bucket), None
        if place.key and not place.key.endswith("/"):
            try:
                yield _of(place.key, client.head(place.key)), place.key.rpartition("/")[2]
                return
            except PermanentError as error:  # who may list may not always read, and the other way
                refused = error
        deep, count = not place.pattern or len(place.pattern) > 1 or "**" in place.pattern, 0
        for found in Listing(client).below(place.prefix, deep=deep):
            path = found.key.removeprefix(place.root)
            if _wanted(path, place.pattern):
                count += 1
                yield found, path
        if not count and refused is not None and refused.code != "source_not_found":
            raise refused

    def _client(self, bucket: str) -> S3Client:
        return _clients.get(bucket, self._reach, self._outside)


@dataclass(frozen=True)
class Place:
    """What a URL names: an object's key, or a prefix with a glob below its folder."""

    bucket: str
    key: str  # as it stands in the URL
    prefix: str  # of every key that is meant
    root: str  # the folder that paths are told from; ends in `/`, or is empty
    pattern: tuple[str, ...]  # below the root; empty: everything

    @classmethod
    def of(cls, url: str) -> Place:
        """Raises PermanentError `invalid_url`, `invalid_glob`."""
        bucket, _, key = url.partition("://")[2].partition("/")
        if not BUCKET.fullmatch(bucket):
            raise PermanentError(f"{url!r}: write s3://bucket/key", code="invalid_url")
        magic = MAGIC.search(key)
        if magic is None:
            folder = key if key.endswith("/") or not key else f"{key}/"
            return cls(bucket, key, folder, folder, ())
        prefix = key[: magic.start()]
        root = prefix[: prefix.rfind("/") + 1]
        return cls(bucket, key, prefix, root, parse(key.removeprefix(root)))


class _Clients:
    """Of this process, so that the files of a run share connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], tuple[float, S3Client]] = {}

    def get(self, bucket: str, reach: Reach, outside: Outside) -> S3Client:
        key, now = (bucket, repr(reach), repr(outside)), time.monotonic()
        with self._lock:
            made, client = self._kept.get(key, (0.0, None))
            if client is None or now - made > FRESH:
                client = S3Client(account(reach), bucket, outside)
                self._kept = {k: v for k, v in self._kept.items() if now - v[0] <= FRESH}
                self._kept[key] = (now, client)
            return client


_clients = _Clients()
ENDPOINT = "spec.source.options.endpoint"
HIDDEN_BELOW = re.compile("/[" + re.escape("".join(HIDDEN)) + "]")


def _wanted(path: str, pattern: tuple[str, ...]) -> bool:
    """Whether a path is meant; folders' own keys and hidden names aren't."""
    if not path or path.endswith("/"):
        return False
    if pattern:
        return fits(tuple(path.split("/")), pattern)
    return not path.startswith(HIDDEN) and HIDDEN_BELOW.search(path) is None


def _of(key: str, head: Head) -> Found:
    modified = parsedate_to_datetime(head.modified).timestamp() if head.modified else 0.0
    return Found(key, head.pin.size, head.pin.etag, modified, head.pin.version_id)


def _info(bucket: str, found: Found, path: str) -> SourceInfo:
    return SourceInfo(
        uri=f"s3://{bucket}/{found.key}",
        path=path,
        size=found.size,
        etag=found.etag,
        version_id=found.version_id,
        mtime=found.modified,
    )


def _nothing(url: str, place: Place, filter: str | None) -> PermanentError:
    if filter:
        detail = f"{url}: nothing there matches the filter {filter!r}"
        return PermanentError(detail, code="no_matching_files")
    if place.pattern:
        return PermanentError(f"{url}: no object matches", code="no_matching_files")
    return PermanentError(f"{url}: no such object or prefix", code="source_not_found")


PLUGIN = S3Store
