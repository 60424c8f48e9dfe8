"""tus against the served ingest: a public client, cuts, a killed service, checksums, expiry."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tusclient.client import TusClient

from tests.ingests import Ingest, ingest_on

DATA = random.Random(3).randbytes(9_000_000)
TUS = {"Tus-Resumable": "1.0.0"}
SEND = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    env = {"ONEBLOCK_MAX_UPLOAD_BYTES": "20000000", "ONEBLOCK_UPLOAD_IDLE_SECONDS": "30"}
    with ingest_on(tmp_path_factory.mktemp("tus"), env) as running:
        running.start()
        yield running


@pytest.fixture
def client(service: Ingest) -> Iterator[httpx.Client]:
    with service.client() as opened:
        yield opened


def metadata(**said: str) -> dict[str, str]:
    pairs = [f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items()]
    return {"Upload-Metadata": ",".join(pairs)}


def begin(client: httpx.Client, length: int, **said: str) -> str:
    headers = {**TUS, "Upload-Length": str(length), **metadata(**(said or {"filename": "x.bin"}))}
    answer = client.post("/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


def send(client: httpx.Client, place: str, offset: int, body: bytes, **more: str) -> httpx.Response:
    return client.patch(place, content=body, headers={**SEND, "Upload-Offset": str(offset), **more})


def offset(client: httpx.Client, place: str) -> int:
    answer = client.head(place, headers=TUS)
    assert answer.status_code == 200, answer.status_code
    return int(answer.headers["upload-offset"])


def content(service: Ingest, answer: httpx.Response) -> bytes:
    sha256 = answer.headers["oneblock-upload-sha256"]
    assert answer.headers["oneblock-upload-url"].startswith(f"upload://{sha256}/")
    return (service.warehouse / "uploads" / sha256[:2] / sha256).read_bytes()


def test_a_public_client_uploads_in_pieces(
    service: Ingest, client: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "big.bin").write_bytes(DATA)
    with (tmp_path / "big.bin").open("rb") as file:
        uploader = TusClient(f"{service.url}/v1/uploads").uploader(
            file_stream=file, chunk_size=2_000_000, metadata={"filename": "big ü.bin"}
        )
        uploader.upload()
    answer = client.head(urlsplit(uploader.url).path, headers=TUS)
    assert content(service, answer) == DATA
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert answer.headers["oneblock-upload-url"] == f"upload://{sha256}/big%20%C3%BC.bin"


def test_what_is_spoken_is_told(client: httpx.Client) -> None:
    answer = client.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-max-size"] == "20000000"
    assert "checksum" in answer.headers["tus-extension"]


def test_a_cut_request_is_gone_on_with(service: Ingest, client: httpx.Client) -> None:
    place = begin(client, len(DATA), filename="cut.bin")
    head = (
        f"PATCH {place} HTTP/1.1\r\nHost: {urlsplit(service.url).netloc}\r\n"
        f"Content-Length: {len(DATA)}\r\nUpload-Offset: 0\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in SEND.items())
    )
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as sock:
        sock.sendall(head.encode() + b"\r\n" + DATA[:5_000_000])
        deadline = time.monotonic() + 10
        while not _written(service, place):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    there = offset(client, place)
    assert 0 < there <= 5_000_000
    answer = send(client, place, there, DATA[there:])
    assert answer.status_code == 204, answer.text
    assert content(service, answer) == DATA


def _written(service: Ingest, place: str) -> bool:
    part = service.warehouse / "uploads" / ".tus" / f"{place.rpartition('/')[2]}.part"
    return part.stat().st_size > 0


def test_a_client_that_went_silent_does_not_block_the_next(
    service: Ingest, client: httpx.Client
) -> None:
    """The connection is still open, as after a change of networks."""
    place = begin(client, 10)
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as sock:
        lines = [f"PATCH {place} HTTP/1.1", f"Host: {address.netloc}", "Content-Length: 10"]
        lines += ["Upload-Offset: 0", *(f"{name}: {value}" for name, value in SEND.items())]
        sock.sendall("\r\n".join([*lines, "", "01234"]).encode())
        deadline = time.monotonic() + 10
        while offset(client, place) != 5:
            assert time.monotonic() < deadline
        answer = send(client, place, 5, b"56789")
    assert answer.status_code == 204, answer.text
    assert content(service, answer) == b"0123456789"


def test_a_killed_service_goes_on_where_it_was(service: Ingest) -> None:
    with service.client() as client:
        place = begin(client, len(DATA), filename="killed.bin")
        assert send(client, place, 0, DATA[:4_000_000]).status_code == 204
    service.end()
    service.start()
    with service.client() as client:
        assert offset(client, place) == 4_000_000
        answer = send(client, place, 4_000_000, DATA[4_000_000:])
        assert content(service, answer) == DATA
    service.end()
    service.start()
    with service.client() as client:  # an answer that was lost is told again
        again = client.head(place, headers=TUS)
        assert again.headers["oneblock-upload-url"] == answer.headers["oneblock-upload-url"]


def test_a_file_comes_with_its_creation(service: Ingest, client: httpx.Client) -> None:
    headers = {**SEND, "Upload-Length": "3", **metadata(path="folder/a.csv")}
    answer = client.post("/v1/uploads", content=b"abc", headers=headers)
    assert answer.status_code == 201, answer.text
    assert content(service, answer) == b"abc"
    assert answer.headers["oneblock-upload-url"].endswith("/folder/a.csv")


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
def test_a_body_with_a_wrong_checksum_is_not_kept(client: httpx.Client, algorithm: str) -> None:
    place = begin(client, 10)
    right = base64.b64encode(hashlib.new(algorithm, b"01234").digest()).decode()
    wrong = send(client, place, 0, b"01239", **{"Upload-Checksum": f"{algorithm} {right}"})
    assert wrong.status_code == 460
    assert wrong.headers["tus-resumable"] == "1.0.0"
    assert offset(client, place) == 0
    good = send(client, place, 0, b"01234", **{"Upload-Checksum": f"{algorithm} {right}"})
    assert (good.status_code, good.headers["upload-offset"]) == (204, "5")


def test_a_file_that_is_not_the_announced_one_is_not_kept(client: httpx.Client) -> None:
    place = begin(client, 3, filename="x", sha256=hashlib.sha256(b"abd").hexdigest())
    answer = send(client, place, 0, b"abc")
    assert (answer.status_code, answer.json()["code"]) == (422, "checksum_mismatch")
    assert client.head(place, headers=TUS).status_code == 404


def test_an_upload_can_be_given_up(client: httpx.Client) -> None:
    place = begin(client, 10)
    send(client, place, 0, b"0")
    assert client.delete(place, headers=TUS).status_code == 204
    assert client.head(place, headers=TUS).status_code == 404
    other = begin(client, 10)
    override = {**TUS, "X-HTTP-Method-Override": "DELETE"}
    assert client.post(other, headers=override).status_code == 204


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"Upload-Length": "20000001"}, 413, "too_large"),
        ({"Upload-Length": "0"}, 422, "empty_file"),
        ({"Upload-Length": "-1"}, 422, ""),
        ({}, 422, ""),
        ({"Upload-Length": "1", **metadata(filename="../x")}, 422, "invalid_name"),
        ({"Upload-Length": "1", **metadata(path="/etc/passwd")}, 422, "invalid_name"),
        ({"Upload-Length": "1", **metadata(path="a//b")}, 422, "invalid_name"),
        ({"Upload-Length": "1", **metadata(path="a/../b")}, 422, "invalid_name"),
        ({"Upload-Length": "1", "Upload-Metadata": "filename %%%"}, 400, "bad_request"),
        ({"Upload-Length": "1", **metadata(sha256="abc")}, 400, "bad_request"),
        ({"Upload-Length": "1", "Tus-Resumable": "0.2.2"}, 412, "tus_version"),
    ],
)
def test_what_can_not_be_begun_is_refused(
    client: httpx.Client, more: dict[str, str], status: int, code: str
) -> None:
    answer = client.post("/v1/uploads", headers={**TUS, **more})
    assert answer.status_code == status, answer.text
    assert answer.headers["tus-version"] == "1.0.0"
    assert not code or answer.json()["code"] == code


def test_sending_at_a_wrong_place_is_refused(client: httpx.Client) -> None:
    place = begin(client, 10)
    assert send(client, place, 5, b"x").json()["code"] == "offset_mismatch"
    assert send(client, place, 0, b"x" * 11).json()["code"] == "too_large"
    plain = client.patch(place, content=b"x", headers={**TUS, "Upload-Offset": "0"})
    assert plain.status_code == 415
    for name in ("0" * 32, "x"):
        answer = client.head(f"/v1/uploads/{name}", headers=TUS)
        assert answer.status_code == 404


def test_an_upload_expires(tmp_path: Path) -> None:
    with ingest_on(tmp_path / "short", {"ONEBLOCK_UPLOAD_KEEP_SECONDS": "0.2"}) as service:
        service.start()
        with service.client() as client:
            place = begin(client, 10)
            time.sleep(0.3)  # the expiry itself is what is tested
            assert client.head(place, headers=TUS).status_code == 410
            begin(client, 10)  # which looks after those that expired
            assert client.head(place, headers=TUS).status_code == 404
