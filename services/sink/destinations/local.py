"""`local`: a folder on this machine, replaced as a whole in one step."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from libs.common.crashpoints import crash_point
from libs.common.errors import PermanentError, TransientError
from libs.common.ids import digest
from libs.formats import FORMATS
from services.sink import folder, switch
from services.sink.contents import NAME, Column, Contents, DeliveredFile
from services.sink.destinations import Access, Order, Receipt, Rows, Watch
from services.sink.options import FileOptions, split_options
from services.sink.roots import locate
from services.sink.trees import write_rows

DEFAULT_FORMAT = "parquet"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Local:
    """file:///folder or /folder, below the operator's roots."""

    def deliver(self, order: Order, rows: Rows, access: Access, watch: Watch) -> Receipt:
        target = locate(order.url, access, order.path)
        with _translated(target, order.path):
            target.parent.mkdir(parents=True, exist_ok=True)
            locate(order.url, access, order.path)  # what was made may have met a symlink
            watch.wrote(0, 0)
            standing = folder.claim(target, order.dataset, order.path)
            folder.clear_leftovers(target, order.dataset)
            return _settled(target, standing, order, watch) or _bring(target, order, rows, watch)


PLUGIN = Local()


def _bring(target: Path, order: Order, rows: Rows, watch: Watch) -> Receipt:
    staging = folder.staging_of(target, order.dataset, order.run, order.attempt)
    staging.mkdir()
    with switch.held(staging), ExitStack() as undo:  # held: others see that we live
        undo.callback(shutil.rmtree, staging, ignore_errors=True)
        crash_point("sink_before_parts")
        contents = _write(staging, order, rows, watch)
        with switch.alone(target.parent):
            standing = folder.claim(target, order.dataset, order.path)
            settled = _settled(target, standing, order, watch)
            if settled is not None:
                return settled
            _check_names(target, standing, contents, order.path)
            watch.fence()
            crash_point("sink_before_switch")
            undo.pop_all()  # from here on readers may be in it
            replaced = _switch(staging, target)
            crash_point("sink_after_switch")
    kept = folder.remove(replaced, target) if replaced is not None else []
    return _receipt(target, contents, kept=kept)


def _write(staging: Path, order: Order, rows: Rows, watch: Watch) -> Contents:
    """All parts and the manifest, on disk for good, where nobody looks."""
    name = order.format or DEFAULT_FORMAT
    format = FORMATS.get(name)
    options = split_options(order.options, format, order.path)
    tag = f"v{order.version}-{_writing(order)[:8]}"
    files = write_rows(staging, format, options, rows, watch.wrote, tag)
    schema = rows.schema if options[0].systemColumns else rows.user_schema
    _check_rows(files, rows)
    contents = Contents(
        dataset=order.dataset,
        version=order.version,
        made_by=order.made_by,
        run=order.run,
        format=name,
        writing=_writing(order),
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        files=files,
        columns=tuple(Column(name=f.name, type=str(f.type)) for f in schema),
        written_at=datetime.now(UTC),
    )
    _write_manifest(staging, contents)
    return contents


def _write_manifest(staging: Path, contents: Contents) -> None:
    path = staging / NAME
    path.write_text(contents.encode(), "utf-8")
    switch.flush_file(path)
    switch.flush(staging)


def _switch(staging: Path, target: Path) -> Path | None:
    if target.is_dir():
        shutil.copymode(target, staging)
    replaced = switch.put_in_place(staging, target)
    switch.flush(target.parent)
    return replaced


def _settled(target: Path, standing: Contents | None, order: Order, watch: Watch) -> Receipt | None:
    """What to answer when nothing has to be written."""
    if standing is None:
        return None
    if standing.version > order.version and watch.is_version(standing.version, standing.made_by):
        return _receipt(target, standing, superseded=True)
    same = (standing.version, standing.made_by, standing.writing) == (
        order.version,
        order.made_by,
        _writing(order),
    )
    if same and folder.whole(target, standing):
        return _receipt(target, standing, unchanged=standing.run != order.run)
    return None


def _writing(order: Order) -> str:
    """Digest of everything but the rows that decides what the files are."""
    options = FileOptions().model_dump() | dict(order.options)
    return digest([order.dataset, order.made_by, order.format or DEFAULT_FORMAT, options])


def _check_names(target: Path, standing: Contents | None, contents: Contents, where: str) -> None:
    names = {file.path for file in contents.files} | {NAME}
    names |= folder.folders(names)
    taken = names.intersection(folder.foreign(target, standing)) if target.exists() else set()
    if taken:
        raise folder.not_ours(f"{target / min(taken)} is in the way, and isn't ours", where)


def _check_rows(files: tuple[DeliveredFile, ...], rows: Rows) -> None:
    written = sum(file.rows for file in files)
    if written != rows.rows:
        raise TransientError(
            f"{written} of {rows.rows} rows were read from the warehouse", code="rows_missing"
        )


def _receipt(
    target: Path,
    contents: Contents,
    *,
    unchanged: bool = False,
    superseded: bool = False,
    kept: Sequence[str] = (),
) -> Receipt:
    return Receipt(
        format=contents.format,
        files=len(contents.files),
        rows=contents.rows,
        bytes=contents.bytes,
        manifest=(target / NAME).as_uri(),
        unchanged=unchanged,
        superseded=superseded,
        kept=tuple(kept),
    )


@contextmanager
def _translated(target: Path, where: str) -> Iterator[None]:
    """The file system's errors, as errors that people can act on."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise TransientError(
                f"no space is left for {target}; free some, the delivery is tried again",
                code="storage_full",
                path=f"{where}.url",
            ) from error
        if error.errno in _FORBIDDEN:
            raise PermanentError(
                f"{error.filename or target} can't be written ({reason}); let the sink's user "
                f"write in {target.parent}, or choose another folder",
                code="destination_forbidden",
                path=f"{where}.url",
            ) from error
        if not target.parent.is_dir() and isinstance(error, (FileExistsError, NotADirectoryError)):
            raise folder.not_ours(f"{error.filename} is not a folder", where) from error
        raise TransientError(
            f"{target}: {reason}", code="destination_unavailable", path=f"{where}.url"
        ) from error
