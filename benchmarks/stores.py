"""Listing a bucket into an inventory against a boto3 paginator, and reading one large object.

`python -m benchmarks.stores [--keys N] [--megabytes N] [--pairs N]`, on a SeaweedFS of its own.
Every listing is a process of its own, so that its peak of memory is its own too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Finding, show
from tests.objectstore import ADMIN, BUCKET, ObjectStore, object_store

if TYPE_CHECKING:
    from obstore.store import S3Store

REGION = "us-east-1"
PIECE = 8 << 20


def main() -> None:
    """Prints the findings."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keys", type=int, default=100_000)
    arguments.add_argument("--megabytes", type=int, default=256)
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--child", nargs=3, metavar=("WHO", "ENDPOINT", "PREFIX"))
    asked = arguments.parse_args()
    if asked.child:
        print(json.dumps(_child(*asked.child)))
        return
    show(run(asked.keys, asked.megabytes, asked.pairs))


def run(keys: int, megabytes: int, pairs: int) -> list[Finding]:
    """From nothing: a server, its objects, both sides by turns."""
    with (
        tempfile.TemporaryDirectory(prefix="oneblock-stores-") as name,
        object_store(Path(name)) as store,
    ):
        _fill(store, keys)
        return [*_listing(store, keys, pairs), *_reading(store, megabytes, pairs)]


def _fill(store: ObjectStore, keys: int) -> None:
    """Empty objects: the fastest to make. A tenth of them once more under another prefix."""
    import obstore

    names = [f"all/{i // 1000:05d}/{i:08d}.csv" for i in range(keys)]
    names += [f"few/{i // 1000:05d}/{i:08d}.csv" for i in range(keys // 10)]
    bucket = _obstore(store)

    async def worker(left: Callable[[], str | None]) -> None:
        while (key := left()) is not None:
            await obstore.put_async(bucket, key, b"", use_multipart=False)

    async def everything() -> None:
        left = iter(names)
        await asyncio.gather(*(worker(lambda: next(left, None)) for _ in range(64)))

    asyncio.run(everything())


def _listing(store: ObjectStore, keys: int, pairs: int) -> list[Finding]:
    ours: list[float] = []
    theirs: list[float] = []
    whole: list[float] = []
    peaks: list[float] = []
    for _ in range(pairs):
        for who, into in (("ours", ours), ("boto3", theirs), ("inventory", whole)):
            told = _ask(store, who, "all/")
            assert told["files"] == keys, told
            into.append(told["seconds"])
            if who == "inventory":
                peaks.append(told["peak"])
    small = _ask(store, "inventory", "few/")["peak"]
    grown = (statistics.median(peaks) - small) / 1024
    return [
        _faster(f"S3 listing of {keys:,} keys, boto3 / ours", theirs, ours, "≥ 3"),
        _faster("… and written into an inventory, boto3's listing / ours", theirs, whole, ""),
        Finding(
            "… memory, beside that of a tenth of the keys",
            grown, "MB", "≤ 16", f"peak {statistics.median(peaks) / 1024:.0f} MB",
        ),
    ]  # fmt: skip


def _faster(name: str, theirs: list[float], ours: list[float], target: str) -> Finding:
    said = f"ours {statistics.median(ours):.2f} s, theirs {statistics.median(theirs):.2f} s"
    return Finding(name, statistics.median(_quotients(theirs, ours)), "×", target, said)


def _ask(store: ObjectStore, who: str, prefix: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.stores", "--child", who, store.endpoint, prefix]
    values = dict(zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"), ADMIN, strict=True))
    named = {f"ONEBLOCK_SECRET_BENCH__{name}": value for name, value in values.items()}
    env = {**os.environ, **named, "ONEBLOCK_PRIVATE_NETWORKS": "loopback"}
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(found.stdout)
    return told


def _child(who: str, endpoint: str, prefix: str) -> dict[str, float]:
    list_them = {"ours": _ours, "boto3": _boto3, "inventory": _inventory}[who]
    list_them(endpoint, "nothing/")  # imports and the first connection are nobody's
    began = time.perf_counter()
    files = list_them(endpoint, prefix)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"files": files, "seconds": seconds, "peak": peak}


def _ours(endpoint: str, prefix: str) -> int:
    """As a source's files come from the store; keeps nothing."""
    from libs.common.errors import PermanentError
    from libs.stores import Access, Reach, store_for

    url, count = f"s3://{BUCKET}/{prefix}", 0
    with suppress(PermanentError):  # nothing there, the first time
        for _ in store_for(url, Access(), Reach({"endpoint": endpoint}, "bench")).list(url, None):
            count += 1
    return count


def _inventory(endpoint: str, prefix: str) -> int:
    """Into the inventory of a run, as ingest does it."""
    from libs.common.errors import PermanentError
    from libs.stores import Access, Reach, store_for
    from libs.warehouse import InventoryWriter
    from services.ingest.inventory import _entry

    url, reach = f"s3://{BUCKET}/{prefix}", Reach({"endpoint": endpoint}, "bench")
    with (
        tempfile.TemporaryDirectory() as folder,
        InventoryWriter(Path(folder) / "x.parquet") as writer,
    ):
        with suppress(PermanentError):  # nothing there, the first time
            for found in store_for(url, Access(), reach).list(url, None):
                writer.add(_entry(found))
        return writer.files


def _boto3(endpoint: str, prefix: str) -> int:
    """What people write by hand; keeps nothing."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION,
        aws_access_key_id=ADMIN[0], aws_secret_access_key=ADMIN[1],
    )  # fmt: skip
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return sum(len(page.get("Contents", [])) for page in pages)


def _reading(store: ObjectStore, megabytes: int, pairs: int) -> list[Finding]:
    """One object from its start to its end; the fastest peer is the one to compare with."""
    size = megabytes << 20
    store.client().upload_fileobj(_Zeros(size), BUCKET, "large")
    readers: dict[str, Callable[[ObjectStore, int], int]] = {
        "ours": _read_ours, "ours, ranges": _read_ranges, "aioboto3": _read_aioboto3,
        "obstore": _read_obstore, "pyarrow": _read_pyarrow,
    }  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(pairs):
        for name, read in readers.items():
            began = time.perf_counter()
            assert read(store, size) == size
            taken[name].append(time.perf_counter() - began)
    return [_against(name, taken, megabytes) for name in readers if not name.startswith("ours")]


def _against(name: str, taken: dict[str, list[float]], megabytes: int) -> Finding:
    mine = "ours, ranges" if name in ("obstore", "aioboto3") else "ours"  # like with like
    speeds = {who: megabytes / statistics.median(taken[who]) for who in (mine, name)}
    said = ", ".join(f"{who} {speed:.0f} MB/s" for who, speed in speeds.items())
    value = statistics.median(_quotients(taken[name], taken[mine]))
    return Finding(f"S3 read of {megabytes} MB, {name} / ours", value, "×", "", said)


def _quotients(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(theirs, ours, strict=True)]


def _read_ours(store: ObjectStore, _size: int) -> int:
    from libs.stores import Access, Outside, Reach, store_for

    os.environ |= {
        "ONEBLOCK_SECRET_BENCH__ACCESS_KEY_ID": ADMIN[0],
        "ONEBLOCK_SECRET_BENCH__SECRET_ACCESS_KEY": ADMIN[1],
    }
    url, found = f"s3://{BUCKET}/large", 0
    access = Access(outside=Outside(private_networks="loopback"))
    with store_for(url, access, Reach({"endpoint": store.endpoint}, "bench")).open(url) as file:
        while piece := file.read(1 << 20):
            found += len(piece)
    return found


def _read_ranges(store: ObjectStore, size: int) -> int:
    """As those who know beforehand what they want."""
    from libs.stores import Outside, Reach
    from libs.stores._s3_client import S3Client
    from libs.stores._s3_options import account

    reach = Reach({"endpoint": store.endpoint}, "bench")
    client = S3Client(account(reach), BUCKET, Outside(private_networks="loopback"))
    pin = client.head("large").pin
    with ThreadPoolExecutor(4) as threads:
        starts = range(0, size, PIECE)
        ends = (min(size, at + PIECE) for at in starts)
        return sum(
            map(len, threads.map(lambda s, e: client.read("large", pin, s, e), starts, ends))
        )


def _read_obstore(store: ObjectStore, size: int) -> int:
    """Ranges from threads: the fastest of its ways here."""
    import obstore

    bucket = _obstore(store)
    with ThreadPoolExecutor(4) as threads:
        pieces = threads.map(
            lambda at: len(obstore.get_range(bucket, "large", start=at, length=PIECE)),
            range(0, size, PIECE),
        )
        return sum(pieces)


def _read_aioboto3(store: ObjectStore, size: int) -> int:
    import aioboto3  # type: ignore[import-untyped]

    async def everything() -> int:
        session = aioboto3.Session(*ADMIN, region_name=REGION)
        async with session.client("s3", endpoint_url=store.endpoint) as client:
            limit = asyncio.Semaphore(4)

            async def piece(at: int) -> int:
                span = f"bytes={at}-{min(size, at + PIECE) - 1}"
                async with limit:
                    answer = await client.get_object(Bucket=BUCKET, Key="large", Range=span)
                    return len(await answer["Body"].read())

            return sum(await asyncio.gather(*(piece(at) for at in range(0, size, PIECE))))

    return asyncio.run(everything())


def _read_pyarrow(store: ObjectStore, _size: int) -> int:
    from pyarrow import fs

    host = store.endpoint.partition("://")[2]
    system = fs.S3FileSystem(
        access_key=ADMIN[0], secret_key=ADMIN[1], endpoint_override=host, scheme="http",
        region=REGION,
    )  # fmt: skip
    found = 0
    with system.open_input_stream(f"{BUCKET}/large") as file:
        while piece := file.read(PIECE):
            found += len(piece)
    return found


def _obstore(store: ObjectStore) -> S3Store:
    from obstore.store import S3Store

    return S3Store(
        BUCKET, endpoint=store.endpoint, region=REGION,
        access_key_id=ADMIN[0], secret_access_key=ADMIN[1], client_options={"allow_http": True},
    )  # fmt: skip


class _Zeros:
    """So many bytes, as a file."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = -1) -> bytes:
        count = self._left if size < 0 else min(size, self._left)
        self._left -= count
        return bytes(count)


if __name__ == "__main__":
    main()
