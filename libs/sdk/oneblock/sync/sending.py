"""Sends files so that a cut loses nothing: tus 1.0, gone on with where the server says."""

# Made from oneblock.aio by `python -m libs.sdk.generate`; change that instead.

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx

from oneblock.exchange import RETRIED, TROUBLE, Request, pause, refused, tus_metadata, unreachable
from oneblock.models import Upload
from oneblock.names import path_part
from oneblock.progress import Progress
from oneblock.sync.ground import chunks, file_size, sleep
from oneblock.sync.transport import Transport

TRIES = 8  # in a row that bring nothing
SMALL = 1 << 20  # bytes up to which a file is one request
RAW = {"Content-Type": "application/octet-stream"}
TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}
PATIENT = httpx.Timeout(120.0, connect=5.0)


class Sending:
    """Of one file, or of a text that is sent like one."""

    def __init__(self, transport: Transport, name: str, progress: Progress) -> None:
        self._transport, self._name, self._progress = transport, name, progress
        self._place = ""

    def file(self, path: Path) -> Upload:
        """Sends the whole of it. Raises ApiError, NotRunning."""
        size = file_size(path)
        if size <= SMALL:
            return self.content(b"".join([block for block in chunks(path)]))
        offset, tries = 0, 0
        while True:
            before = offset
            try:
                answer = self._send(path, offset, size)
                if answer.status_code not in RETRIED:
                    break
                wait = pause(tries, answer)
            except TROUBLE as error:
                if tries >= TRIES:
                    base = self._transport.base("ingest")
                    raise unreachable("ingest", base, error) from error
                wait = pause(tries, None)
            sleep(wait)
            offset = self._offset() if self._place else 0
            tries = 0 if offset > before else tries + 1
        if not answer.is_success:
            raise refused(answer)
        return uploaded(answer)

    def content(self, body: bytes) -> Upload:
        """Sends a few bytes in one request."""
        if "/" not in self._name:
            request = Request("ingest", "PUT", f"/v1/uploads/{path_part(self._name)}")
            answer = self._transport.send(request, content=body, headers=RAW)
            found = Upload.parse(answer.json())
        else:
            request = Request("ingest", "POST", "/v1/uploads", key=uuid.uuid4().hex)
            headers = {**BODY, **self._announced(len(body))}
            found = uploaded(self._transport.send(request, content=body, headers=headers))
        self._progress(len(body), len(body))
        return found

    def _send(self, path: Path, offset: int, size: int) -> httpx.Response:
        """All that is missing in one request; the first one creates the upload."""
        body = self._body(path, offset, size)
        if self._place:
            request = Request("ingest", "PATCH", self._place)
            headers = {**BODY, "Upload-Offset": str(offset), "Content-Length": str(size - offset)}
            return self._transport.stream(request, body, headers, PATIENT)
        request = Request("ingest", "POST", "/v1/uploads")
        answer = self._transport.send(request, headers={**TUS, **self._announced(size)})
        self._place = answer.headers["location"]
        return self._send(path, offset, size)

    def _offset(self) -> int:
        request = Request("ingest", "HEAD", self._place)
        answer = self._transport.send(request, headers=TUS)
        return int(answer.headers["upload-offset"])

    def _announced(self, size: int) -> dict[str, str]:
        return {"Upload-Length": str(size), "Upload-Metadata": tus_metadata(path=self._name)}

    def _body(self, path: Path, offset: int, size: int) -> Iterator[bytes]:
        sent = offset
        for block in chunks(path, offset):
            sent += len(block)
            yield block
            self._progress(sent, size)


def uploaded(answer: httpx.Response) -> Upload:
    """What a finished upload's answer says."""
    head = answer.headers
    found = {
        "url": head["oneblock-upload-url"],
        "size": int(head["upload-length"]),
        "sha256": head["oneblock-upload-sha256"],
    }
    return Upload.parse(found)


def listing(files: list[tuple[str, Upload]]) -> bytes:
    """A folder as ingest knows it: a line of JSON for each file."""
    lines = [
        json.dumps({"path": path, "size": one.size, "sha256": one.sha256}) + "\n"
        for path, one in files
    ]
    return "".join(lines).encode()
