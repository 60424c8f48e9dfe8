"""Requests to S3: signed by botocore, sent by urllib3 to addresses that were checked.

Measured beside aioboto3, obstore and pyarrow on SeaweedFS (docs/sources.md): as fast as the fastest
with the least work, and alone in what reading on behalf of others needs: no redirect is followed,
no other address is connected to, and every key that a bucket may hold is known.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError

from libs.common.errors import PermanentError
from libs.stores import Outside, Pin
from libs.stores._connections import EVERYWHERE, Connections, broken, host_header
from libs.stores._patience import Pace, Patience
from libs.stores._s3_errors import Refusal, translated
from libs.stores._s3_options import Account

CONNECT = 5.0  # seconds
SILENCE = 20.0  # seconds without a byte after which a connection is given up
MAX_ANSWER = 16 << 20  # bytes of a page of a listing: a thousand keys of 1 KiB take 2 MiB
CHUNK = 256 << 10
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Head:
    """What is known of an object without its bytes."""

    pin: Pin
    modified: str  # RFC 7231


class S3Client:
    """One bucket as one account; used by many threads."""

    def __init__(self, account: Account, bucket: str, outside: Outside) -> None:
        self._account, self._bucket, self._outside = account, bucket, outside
        self._lock = threading.Lock()
        self._connections: dict[str, Connections] = {}

    def head(self, key: str) -> Head:
        """Raises PermanentError `source_not_found`, `source_forbidden`."""
        told, _ = self._whole("HEAD", key, {}, self.name(key))
        size = int(told.get("content-length", 0))
        version = told.get("x-amz-version-id", "")
        return Head(Pin(quoted(told.get("etag", "")), size, version), told.get("last-modified", ""))

    def ask(self, query: Mapping[str, str], what: str) -> bytes:
        """The bucket's answer to a question such as a listing; `what` names it in errors."""
        return self._whole("GET", "", query, what)[1]

    def read(self, key: str, pin: Pin, start: int, stop: int) -> bytearray:
        """Exactly these bytes of the pinned state; goes on where a broken connection left off."""
        what, found = self.name(key), bytearray()
        patience = Patience(what, self._outside.read_patience)
        while len(found) < stop - start:
            try:
                self._read_on(key, pin, (start, stop), found, patience)
            except Refusal as refusal:
                self._again(refusal, what, patience, pinned=True)
            except (HTTPError, OSError) as error:
                self._broken(error, what, patience)
        return found

    def name(self, key: str) -> str:
        """How people know it."""
        return f"s3://{self._bucket}/{key}"

    def _read_on(
        self, key: str, pin: Pin, span: tuple[int, int], found: bytearray, patience: Patience
    ) -> None:
        start, stop, what = span[0] + len(found), span[1], self.name(key)
        pace = Pace(what, self._outside.read_min_rate)
        headers = {"Range": f"bytes={start}-{stop - 1}"} | (
            {"If-Match": pin.etag} if pin.etag else {}
        )
        version = {"versionId": pin.version_id} if pin.version_id else {}
        with self._send("GET", key, version, headers) as answer:
            _check_answer(answer, (start, stop), pin, what)
            for piece in answer.stream(CHUNK, decode_content=False):
                found += piece
                patience.progressed()
                pace.add(len(piece))
                if len(found) > span[1] - span[0]:
                    raise _no_ranges(what)

    def _whole(
        self, method: str, key: str, query: Mapping[str, str], what: str
    ) -> tuple[dict[str, str], bytes]:
        patience = Patience(what, self._outside.read_patience)
        while True:
            try:
                with self._send(method, key, query, {}) as answer:
                    return _lower(answer), _body(answer, what)
            except Refusal as refusal:
                self._again(refusal, what, patience, pinned=False)
            except (HTTPError, OSError) as error:
                self._broken(error, what, patience)

    def _again(self, refusal: Refusal, what: str, patience: Patience, *, pinned: bool) -> None:
        """Before another try; raises where none can help."""
        if refusal.region and refusal.region != self._account.region:
            self._account = replace(self._account, region=refusal.region)
        elif refusal.busy:
            patience.wait(refusal, f"the server is busy ({refusal})")
        else:
            signed = self._account.credentials is not None
            raise translated(refusal, what, signed=signed, pinned=pinned) from None

    def _broken(self, error: Exception, what: str, patience: Patience) -> None:
        said = broken(error, what)
        for connections in self._connections.values():
            connections.failed()
        patience.wait(error, said)

    @contextmanager
    def _send(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Iterator[BaseHTTPResponse]:
        """One try. Raises Refusal for what isn't the answer to the question."""
        base, path = self._account.base(self._bucket)
        path = f"{path}/{quote(key, safe='/-_.~')}" if key else path or "/"
        text = "&".join(
            f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in query.items()
        )
        target = f"{path}?{text}" if text else path
        answer = (
            self._connected(base)
            .pool()
            .urlopen(
                method,
                target,
                headers=self._signed(method, base, target, headers),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(connect=CONNECT, read=min(SILENCE, self._outside.read_patience)),
            )
        )
        try:
            if answer.status not in (200, 206):
                raise Refusal.of(answer.status, _lower(answer), answer.read(1 << 16))
            yield answer
        except BaseException:
            answer.close()  # what is left of its body is nobody's
            raise
        finally:
            answer.release_conn()

    def _connected(self, base: str) -> Connections:
        with self._lock:
            if base not in self._connections:
                networks = EVERYWHERE if self._account.trusted else self._outside.networks()
                self._connections[base] = Connections(base, networks, "the S3 endpoint")
            return self._connections[base]

    def _signed(
        self, method: str, base: str, target: str, headers: Mapping[str, str]
    ) -> dict[str, str]:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        account = self._account
        payer = {"x-amz-request-payer": "requester"} if account.requester_pays else {}
        request = AWSRequest(method, base + target, headers={**headers, **payer})
        if account.credentials is not None:
            frozen = account.credentials.get_frozen_credentials()
            S3SigV4Auth(frozen, "s3", account.region).add_auth(request)
        fixed = {"Host": host_header(base), "Accept-Encoding": "identity"}
        return {**dict(request.headers.items()), **fixed}


def quoted(etag: str) -> str:
    """As If-Match wants it; some servers list etags without their quotes."""
    return f'"{etag}"' if etag and '"' not in etag else etag


def _check_answer(answer: BaseHTTPResponse, span: tuple[int, int], pin: Pin, what: str) -> None:
    """Whatever a server makes of Range and If-Match: these bytes, of this state, or an error."""
    etag = quoted(answer.headers.get("ETag", ""))
    if pin.etag and etag and etag.removeprefix("W/") != pin.etag.removeprefix("W/"):
        raise _changed(what)
    told = CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    start, size = (int(told[1]), int(told[3])) if told else (0, _length(answer))
    if 0 <= pin.size != size:
        raise _changed(what)
    if start != span[0] or (told is None and span != (0, size)):
        raise _no_ranges(what)


def _length(answer: BaseHTTPResponse) -> int:
    return int(answer.headers.get("Content-Length", -1))


def _changed(what: str) -> PermanentError:
    return PermanentError(f"{what} changed after it was listed; run again", code="source_changed")


def _no_ranges(what: str) -> PermanentError:
    return PermanentError(
        f"{what}: the server doesn't give the range of bytes that was asked for",
        code="source_unreadable",
    )


def _lower(answer: BaseHTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _body(answer: BaseHTTPResponse, what: str) -> bytes:
    found = answer.read(MAX_ANSWER)
    if len(found) == MAX_ANSWER:
        raise PermanentError(f"{what}: the server's answer is too large", code="source_unreadable")
    return found
