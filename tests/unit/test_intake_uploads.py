"""Uploads on the disk: whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.common.errors import OneBlockError
from libs.stores import Access, store_for
from libs.stores.upload import upload_url
from services.ingest import names, partfile
from services.ingest.uploads import Limits, Uploads

SMALL = Limits(max_bytes=10_000_000, idle=5, min_rate=1)


async def body(*chunks: bytes, wait: float = 0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        if wait:
            await asyncio.sleep(wait)
        yield chunk


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


async def refused(store: Uploads, chunks: AsyncIterator[bytes], **more: object) -> str:
    with pytest.raises(OneBlockError) as caught:
        await store.receive(chunks, **more)  # type: ignore[arg-type]
    return caught.value.code


async def test_content_is_stored_by_its_checksum_and_found_again(tmp_path: Path) -> None:
    store = Uploads(tmp_path, SMALL, 4)
    data = bytes(range(256)) * 30_000  # more than one buffer
    chunks = [data[i : i + 65_000] for i in range(0, len(data), 65_000)]
    stored = await store.receive(body(*chunks), declared=len(data))
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    url = upload_url(stored.sha256, "ä b%.csv")
    [found] = store_for(url, Access(uploads=tmp_path)).list(url, None)
    assert (found.path, found.size, found.sha256) == ("ä b%.csv", len(data), stored.sha256)
    with store_for(url, Access(uploads=tmp_path)).open(url) as file:
        assert file.read() == data


async def test_the_same_content_twice_is_one_file(tmp_path: Path) -> None:
    store = Uploads(tmp_path, SMALL, 4)
    first, second = await asyncio.gather(store.receive(body(b"x")), store.receive(body(b"x")))
    assert first == second
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("chunks", "more", "code"),
    [
        ((b"",), {}, "empty_file"),
        ((b"abc",), {"declared": 4}, "content_length"),
        ((b"abc",), {"sha256": "0" * 64}, "checksum_mismatch"),
        ((b"x" * 6_000_000, b"x" * 6_000_000), {}, "too_large"),
        ((b"x",), {"declared": 10_000_001}, "too_large"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    tmp_path: Path, chunks: tuple[bytes, ...], more: dict[str, object], code: str
) -> None:
    store = Uploads(tmp_path, SMALL, 4)
    assert await refused(store, body(*chunks), **more) == code
    assert files(tmp_path) == []


async def test_more_than_the_disk_has_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    store = Uploads(tmp_path, Limits(1 << 62, 5, 1), 4)
    assert await refused(store, body(b"x"), declared=1 << 61) == "storage_full"


async def test_a_disk_that_fills_up_is_told_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(partfile.os, "fsync", full)
    store = Uploads(tmp_path, SMALL, 4)
    assert await refused(store, body(b"x")) == "storage_full"
    assert files(tmp_path) == []


async def test_a_sender_that_stops_or_trickles_is_cut_off(tmp_path: Path) -> None:
    store = Uploads(tmp_path, Limits(1000, 0.1, 1), 4)
    assert await refused(store, body(b"x", wait=1)) == "timeout"
    store = Uploads(tmp_path, Limits(1000, 0.1, 1000), 4)
    assert await refused(store, body(*[b"x"] * 100, wait=0.01)) == "timeout"
    assert files(tmp_path) == []


async def test_only_so_many_at_the_same_time(tmp_path: Path) -> None:
    store = Uploads(tmp_path, SMALL, 1)
    slow = asyncio.create_task(store.receive(body(b"x", wait=0.3)))
    await asyncio.sleep(0)
    assert await refused(store, body(b"y")) == "busy"
    await slow
    assert (await store.receive(body(b"y"))).size == 1


async def test_cancelling_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    store = Uploads(tmp_path, SMALL, 1)
    chunks = body(b"x" * 5_000_000, b"y" * 3_000_000, b"z", wait=0.1)
    slow = asyncio.create_task(store.receive(chunks))
    async with asyncio.timeout(10):
        while not files(tmp_path):  # noqa: ASYNC110 (the disk tells nobody)
            await asyncio.sleep(0.01)
    slow.cancel()
    await asyncio.wait([slow])
    assert files(tmp_path) == []


def test_leftovers_are_swept_but_not_what_is_being_received(tmp_path: Path) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "dead.part").write_bytes(b"x")
    living = (incoming / "living.part").open("xb")
    fcntl.flock(living, fcntl.LOCK_EX)
    assert Uploads(tmp_path, SMALL, 1).sweep() == 1
    assert [p.name for p in files(tmp_path)] == ["living.part"]
    living.close()


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "....//x", "/etc/passwd", "a\0b", "C:\\x", "C:x", "a" * 300, "ä" * 128,
     "", " ", ".", "..", "a\nb", "a\u202eb.csv", "a\ud800", "b\ufffd", "con", "NUL.txt", " a",
     "..\\x"],
)  # fmt: skip
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(OneBlockError) as caught:
        names.checked(name)
    assert caught.value.code == "invalid_name"


@pytest.mark.parametrize("name", ["a.csv", "Übung 12:30 (1).csv", ".hid", "日本.parquet", "a..b"])
def test_names_that_people_have(name: str) -> None:
    assert names.checked(name) == name
