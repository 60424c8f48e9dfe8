"""Asking whether a child works, from outside."""

from __future__ import annotations

import asyncio
import json

from deploy.local.child import Probe


def http_ready(port: int) -> Probe:
    """`GET /readyz` of a service on this machine."""

    async def probe() -> str | None:
        try:
            async with asyncio.timeout(4.0):
                status, body = await _get(port, "/readyz")
        except (OSError, TimeoutError, ValueError) as error:
            return f"/readyz: {error or type(error).__name__}"
        return None if status == 200 else _reasons(body) or f"/readyz answers {status}"

    return probe


def nats_ready(port: int) -> Probe:
    """A NATS server greets with one line; it must say that JetStream is on."""

    async def probe() -> str | None:
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                greeting = await reader.readline()
                writer.close()
        except (OSError, TimeoutError) as error:
            return str(error) or "no answer"
        return None if b'"jetstream":true' in greeting else "JetStream is not on yet"

    return probe


def port_open(port: int) -> Probe:
    """Somebody takes connections there."""

    async def probe() -> str | None:
        try:
            async with asyncio.timeout(2.0):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
        except (OSError, TimeoutError):
            return "it takes no connections yet"
        return None

    return probe


async def _get(port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def _reasons(body: bytes) -> str:
    try:
        found = json.loads(body).get("reasons") or {}
    except (ValueError, AttributeError):
        return ""
    return "; ".join(f"{part}: {why}" for part, why in found.items())
