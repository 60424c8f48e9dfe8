"""Looks for secrets in everything that a stack has written, and in everything that it answers."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import httpx
import orjson
import pyarrow.parquet as pq

from tests.e2e.stack import EmbeddedStack

SERVICES = ("catalog", "ingest", "transform", "sink")


def forms(secret: str) -> set[bytes]:
    """Ways in which a secret may stand in a text: as it is, escaped, or within base64 or hex."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), quote_plus(secret).encode()}
    found |= {quote(secret).encode(), raw.hex().encode(), raw.hex().upper().encode()}
    found.add(orjson.dumps(secret)[1:-1])
    for before in range(3):  # where in a group of three bytes it begins, and what of it is certain
        start, stop = -before % 3, len(raw) - (len(raw) + before) % 3
        inner = raw[start:stop]
        found |= {base64.b64encode(inner), base64.urlsafe_b64encode(inner)}
    return found


def hits(secrets: Iterable[str], texts: Mapping[str, bytes]) -> list[str]:
    """Names of the texts that have one of the secrets, with what stands around it."""
    wanted = [form for secret in secrets for form in forms(secret)]
    return [
        f"{name}: {text[max(0, at - 80) : at + 20]!r}"
        for name, text in texts.items()
        for form in wanted
        if (at := text.find(form)) >= 0
    ]


def written(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path; what is compressed is opened."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):  # temporary files come and go
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(folder))] = path.read_bytes() + _opened(path)
    return found


def _opened(path: Path) -> bytes:
    if path.suffix == ".parquet":
        return repr(pq.read_table(path).to_pylist()).encode()
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else b""


def answered(stack: EmbeddedStack, names: Sequence[str]) -> dict[str, bytes]:
    """What the services answer about these datasets and their runs, and their metrics."""
    found: dict[str, bytes] = {}
    with httpx.Client(timeout=30) as client:

        def ask(service: str, path: str, media: str = "*/*") -> httpx.Response:
            headers = {"accept": media}
            answer = client.get(stack.state["services"][service]["url"] + path, headers=headers)
            head = b"".join(k + b": " + v + b"\n" for k, v in answer.headers.raw)
            found[f"{service} {path} {media} {answer.status_code}"] = head + answer.content
            return answer

        for service in SERVICES:
            for path in ("/metrics", "/healthz", "/readyz"):
                ask(service, path)
        for path in ("/v1/datasets", "/v1/runs", "/v1/config"):
            ask("catalog", path).raise_for_status()
        for name in names:
            at = f"/v1/datasets/default/{name}"
            for path in ("", "/versions", "/rows", "/quarantine", "/quarantine/0"):
                ask("catalog", at + path)
            for run in ask("catalog", f"/v1/runs?dataset=default/{name}").json()["items"]:
                ask("catalog", f"/v1/runs/{run['id']}").raise_for_status()
                ask("ingest", f"/v1/runs/{run['id']}").raise_for_status()
                for media in ("application/json", "text/plain"):
                    ask("catalog", f"/v1/runs/{run['id']}/logs", media).raise_for_status()
    return found


@contextmanager
def overheard(stack: EmbeddedStack) -> Iterator[list[bytes]]:
    """What the stream of events says meanwhile."""
    said: list[bytes] = []
    client = httpx.Client(timeout=httpx.Timeout(10, read=1))
    begun, over = threading.Event(), threading.Event()

    def listen() -> None:
        while not over.is_set():
            url = stack.endpoint("catalog") + "/v1/events"
            with suppress(httpx.TransportError), client.stream("GET", url) as stream:
                for part in stream.iter_bytes():
                    said.append(part)
                    begun.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert begun.wait(10)
    try:
        yield said
    finally:
        over.set()
        thread.join(10)
        client.close()
