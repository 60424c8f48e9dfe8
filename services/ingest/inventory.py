"""Listing a dataset's sources into the inventory of a run, once for all.

Whoever completes a run's inventory first has made it: a second attempt, whether after a crash or
at the same time, finds it there and uses it. So the same run always hands on the same files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from libs.common import manifest
from libs.common.errors import OneBlockError, PermanentError, TransientError
from libs.common.manifest import DataSet
from libs.stores import Access, Reach, SourceInfo, store_for
from libs.warehouse import InventoryFile, InventoryWriter, RunDirs, Summary
from services.ingest.detection import AUTO, Detection, of_type
from services.ingest.sources import open_listed, placed, sources

SCRATCH = ".listing-"
LOOK_EVERY = 500  # files between two looks whether to stop
MAX_FILES = 10_000_000
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def check_sources(dataset: DataSet, access: Access) -> list[PermanentError]:
    """What is wrong with the sources without listing them: form, and what is allowed."""
    wrong: dict[tuple[str, str | None], PermanentError] = {}
    reach = Reach.of(dataset)
    for index, url in enumerate(dataset.spec.source.url):
        try:
            store_for(url, access, reach).check(url)
        except PermanentError as error:
            found = placed(error, dataset, index)
            wrong.setdefault((found.code, found.path), found)  # options are told of once
    return list(wrong.values())


def prepare(
    form: dict[str, object],
    access: Access,
    warehouse: RunDirs,
    run_dir: str,
    stop: Callable[[], None] = lambda: None,
) -> Summary:
    """Manifest and inventory of a run, as far as they aren't there yet; blocks.

    `form` is the manifest; `stop` raises to give up. The run's log tells how it went.
    """
    try:
        journal = warehouse.log(run_dir)
        try:
            dataset = manifest.parse(form)
            auto = dataset.spec.source.type == AUTO
            if not auto:
                warehouse.write_manifest(run_dir, form)
            found = _resolve(dataset, access, warehouse, run_dir, stop)
            if auto:  # only now: nobody may read it without its type
                warehouse.write_manifest(run_dir, of_type(dataset, found.type))
        except OneBlockError as error:
            told = {"code": error.code, "detail": error.detail}
            journal.append("ingest", 0, "resolve_failed", level="error", **told)
            raise
        told = {"type": found.type} if found.type else {}
        journal.append("ingest", 0, "source_resolved", files=found.files, bytes=found.bytes, **told)
        return found
    except OSError as error:
        code = "storage_full" if error.errno in NO_SPACE else "warehouse_unavailable"
        raise TransientError(
            f"can't write to the warehouse below {run_dir}: {error.strerror}", code=code
        ) from error


def _resolve(
    dataset: DataSet,
    access: Access,
    warehouse: RunDirs,
    run_dir: str,
    stop: Callable[[], None],
) -> Summary:
    folder = warehouse.path(run_dir)
    final = folder / "inventory.parquet"
    _remove_stale(folder)
    if not final.exists():
        open_file = partial(open_listed, access, Reach.of(dataset))
        detection = Detection(open_file) if dataset.spec.source.type == AUTO else None
        _make(sources(dataset, access, stop), final, stop, detection)
    return warehouse.inventory_summary(run_dir)


def _make(
    found: Iterator[SourceInfo],
    final: Path,
    stop: Callable[[], None],
    detection: Detection | None = None,
) -> None:
    scratch = final.parent / f"{SCRATCH}{secrets.token_hex(8)}"
    scratch.mkdir(parents=True)
    try:
        with _held(scratch):
            with InventoryWriter(scratch / final.name) as writer:
                for count, info in enumerate(found):
                    if count % LOOK_EVERY == 0:
                        stop()
                    if count >= MAX_FILES:
                        raise PermanentError(
                            f"more than {MAX_FILES} source files", code="too_many_files"
                        )
                    if detection is not None:
                        detection.see(info)
                    writer.add(_entry(info))
                writer.type = detection.found() if detection is not None else ""
            _publish(scratch / final.name, final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(made: Path, final: Path) -> None:
    """Into place as a whole and durably, unless another attempt was first."""
    with made.open("rb") as file:
        os.fsync(file.fileno())
    try:
        final.hardlink_to(made)
    except FileExistsError:
        return
    handle = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Says that its maker lives; raises BlockingIOError when another says so."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_stale(folder: Path) -> None:
    """Removes the listings that killed processes left behind."""
    for left in folder.glob(f"{SCRATCH}*"):
        with suppress(BlockingIOError, FileNotFoundError), _held(left):
            shutil.rmtree(left, ignore_errors=True)


def _entry(info: SourceInfo) -> InventoryFile:
    return InventoryFile(
        uri=info.uri,
        path=info.path,
        size=info.size,
        etag=info.etag,
        version_id=info.version_id,
        mtime=info.mtime,
        sha256=info.sha256,
    )
