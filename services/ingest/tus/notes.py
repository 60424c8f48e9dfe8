"""Unfinished uploads on the disk: a part file, whose size is the offset, and a note beside it.

So a cut, or a restart of the service, loses nothing that was written. When the last byte is here
the file moves to its place by its content; the note tells where until it expires. Blocks.
"""

from __future__ import annotations

import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from libs.common.errors import PermanentError
from libs.warehouse.files import write_atomically
from services.ingest.partfile import PartFile, abandoned

ID = re.compile(r"[0-9a-f]{32}")


class Note(BaseModel):
    """What is known of an upload beside its bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str  # its file name or path, checked
    length: int  # bytes in all
    metadata: str = ""  # Upload-Metadata as it was sent
    sha256: str | None = None  # as announced; of a finished one as it is
    verified: int | None = None  # bytes behind this are of a body whose checksum isn't known yet
    expires: float  # seconds since the epoch
    done: bool = False


class Notes:
    """The folder of them. `keep`: seconds after the last byte until an upload expires."""

    def __init__(self, uploads: Path, keep: float) -> None:
        self.uploads, self._folder, self._keep = uploads, uploads / ".tus", keep

    def new(self, name: str, length: int, metadata: str, sha256: str | None) -> Note:
        """A new upload of which nothing is here."""
        self._folder.mkdir(parents=True, exist_ok=True)
        id = secrets.token_hex(16)
        self.part(id).touch(exist_ok=False)
        note = Note(id=id, name=name, length=length, metadata=metadata, sha256=sha256, expires=0)
        return self.write(note)

    def write(self, note: Note, **changed: object) -> Note:
        """Durably; it expires later for it."""
        note = note.model_copy(update={"expires": time.time() + self._keep, **changed})
        write_atomically(self._path(note.id), note.model_dump_json().encode())
        return note

    def read(self, id: str) -> tuple[Note, int]:
        """An upload and its offset. Raises PermanentError `upload_not_found`, `upload_expired`."""
        note = _parsed(self._path(id)) if ID.fullmatch(id) else None
        if note is None:
            raise _absent(id)
        if time.time() > note.expires:
            raise PermanentError("the upload has expired; begin a new one", code="upload_expired")
        if note.done:
            self._mend(note)
            return note, note.length
        try:
            size = self.part(id).stat().st_size
        except FileNotFoundError as error:
            raise _absent(id) from error
        return note, min(size, note.length if note.verified is None else note.verified)

    def finish(self, note: Note, file: PartFile) -> Note:
        """To its place; the note first, so that a crash between the two can be mended."""
        done = self.write(note, sha256=file.sha256, done=True)
        file.keep(self.uploads)
        return done

    def forget(self, id: str) -> None:
        self.part(id).unlink(missing_ok=True)
        self._path(id).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Removes what expired; returns how many."""
        count = 0
        for path in self._folder.glob("*.json"):
            note, part = _parsed(path), path.with_suffix(".part")
            alive = note is not None and time.time() <= note.expires
            if not alive and (not part.exists() or abandoned(part)):
                self.forget(path.stem)
                count += 1
        return count

    def part(self, id: str) -> Path:
        """Where the bytes are until they are all here."""
        return self._folder / f"{id}.part"

    def _mend(self, note: Note) -> None:
        part = self.part(note.id)
        if not part.exists():
            return
        with suppress(BlockingIOError):  # another process is just moving it
            file = PartFile(part, resume=True)
            try:
                file.catch_up()
                file.keep(self.uploads)
            finally:
                file.close()

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"


def _parsed(path: Path) -> Note | None:
    try:
        return Note.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _absent(id: str) -> PermanentError:
    return PermanentError(f"there is no upload {id[:40]!r}", code="upload_not_found")
