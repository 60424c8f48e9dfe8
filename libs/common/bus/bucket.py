"""A key-value bucket with compare-and-set: the driver's, with server times and our errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from nats.js.kv import KV_OP

from libs.common.bus.faults import TRY, Conflict, patiently

NO_MESSAGE = 10037  # JSNoMessageFoundErr: the key is absent, as opposed to the bucket


@dataclass(frozen=True)
class Entry:
    """A value, the revision that a change of it must name, and when the server stored it."""

    value: bytes
    revision: int
    written: datetime


class Bucket:
    """Reads go to the stream's leader: a replica may lag behind, and fencing can't live with it."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._client = client
        self._js = client.jetstream(timeout=TRY)
        self._stream = f"KV_{name}"
        self._keys = f"$KV.{name}."

    async def get(self, key: str) -> Entry | None:
        """The newest value; None where there is none or it was deleted."""
        entry, deleted = await self._newest(key)
        return None if deleted else entry

    async def create(self, key: str, value: bytes) -> int:
        """Write where nothing is; returns the revision. Raises Conflict."""
        entry, deleted = await self._newest(key)
        return await self.update(key, value, entry.revision if entry and deleted else 0)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if `revision` is still the newest; returns the new one. Raises Conflict."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        tries = 0

        async def write(timeout: float) -> int:
            nonlocal tries
            tries += 1
            subject = self._keys + key
            return (await self._js.publish(subject, value, timeout, headers=headers)).seq

        try:
            return await patiently(f"writing {self.name}/{key}", write)
        except Conflict:
            # The answer to an earlier try may have been lost, after it was written.
            entry = await self.get(key) if tries > 1 else None
            if entry is None or entry.value != value:
                raise
            return entry.revision

    async def clock(self) -> datetime:
        """The server's time: the one clock that leases go by."""
        subject = f"$JS.API.STREAM.INFO.{self._stream}"

        async def ask(timeout: float) -> datetime:
            reply = await self._client.request(subject, b"", timeout=timeout)
            return _time(str(orjson.loads(reply.data)["ts"]))

        return await patiently(f"asking for the time of {self.name}", ask)

    async def entries(self, pattern: str) -> list[tuple[str, Entry]]:
        """Every live key that matches `pattern` (NATS wildcards), with its value, by key."""
        what = f"listing {self.name}/{pattern}"
        return await patiently(what, lambda _: self._list(pattern))

    async def _list(self, pattern: str) -> list[tuple[str, Entry]]:
        found: list[tuple[str, Entry]] = []
        view = await self._js.key_value(self.name)
        watcher = await view.watch(pattern, ignore_deletes=True)
        try:
            while item := await watcher.updates(timeout=TRY):  # type: ignore[no-untyped-call]
                entry = Entry(item.value or b"", item.revision or 0, _aware(item.created))
                found.append((item.key, entry))
        finally:
            await watcher.stop()  # type: ignore[no-untyped-call]
        return sorted(found, key=lambda pair: pair[0])

    async def _newest(self, key: str) -> tuple[Entry | None, bool]:
        found = await patiently(f"reading {self.name}/{key}", lambda _: self._message(key))
        if found is None:
            return None, False
        entry = Entry(found.data or b"", found.seq or 0, _aware(found.time))
        return entry, bool(found.headers and KV_OP in found.headers)

    async def _message(self, key: str) -> RawStreamMsg | None:
        try:
            return await self._js.get_msg(self._stream, subject=self._keys + key, direct=False)
        except NotFoundError as error:
            if error.err_code != NO_MESSAGE:
                raise
            return None


def _aware(time: datetime | None) -> datetime:
    if time is None:
        return datetime.fromtimestamp(0, UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _time(text: str) -> datetime:
    """RFC 3339 with nanoseconds, cut to the microseconds Python knows."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{(fraction + '000000')[:6]}+00:00")
