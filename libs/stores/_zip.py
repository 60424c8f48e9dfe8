"""zip: its directory tells where members lie; each is stored, or deflated by itself."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from libs.common.errors import PermanentError
from libs.stores._archives import Careful, Limits, Member, checked_path, corrupt, unsafe

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
ENCRYPTED = 0x1
LINK, KIND = 0o120000, 0o170000
HEADER = struct.Struct("<4s22x2H")  # signature, lengths of name and extra
BLOCK = 1 << 20


def members(file: BinaryIO, name: str, limits: Limits) -> Iterator[Member]:
    """Its files by its directory, which is what counts in a zip."""
    size = file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(cast(BinaryIO, Careful(file, name))) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, EOFError, NotImplementedError) as error:
        raise corrupt(name, f"no zip, or a broken one: {error}") from error
    limits.count(name, len(entries))
    limits.check(name, sum(entry.file_size for entry in entries), size)
    if sum(entry.compress_size for entry in entries) > size:
        raise unsafe(name, entries[0].filename, "lies over another one")
    for entry in entries:
        if not entry.is_dir():
            yield _member(entry, name)


def _member(entry: zipfile.ZipInfo, name: str) -> Member:
    path = checked_path(name, entry.orig_filename)  # zipfile cuts `filename` at a NUL
    if entry.external_attr >> 16 & KIND == LINK:
        raise unsafe(name, path, "is no plain file but a link")
    if entry.flag_bits & ENCRYPTED:
        raise PermanentError(f"{name}: {path!r} is encrypted", code="encrypted_file")
    if entry.compress_type not in (STORED, DEFLATED):
        raise PermanentError(
            f"{name}: {path!r} is compressed by method {entry.compress_type}; known: deflate (8), "
            "stored (0)",
            code="unsupported_compression",
        )
    if entry.compress_type == STORED and entry.compress_size != entry.file_size:
        raise corrupt(name, f"{path!r} has two sizes")
    numbers = (entry.header_offset, entry.compress_size, entry.file_size, entry.CRC)
    return Member(path, entry.file_size, "zip", (*numbers, entry.compress_type))


def data_offset(file: BinaryIO, header: int, name: str) -> int:
    """Where a member's bytes begin."""
    file.seek(header)
    found = file.read(HEADER.size)
    if len(found) < HEADER.size or not found.startswith(b"PK\x03\x04"):
        raise corrupt(name, "its directory names a place where no member is")
    _, name_length, extra = HEADER.unpack(found)
    return header + HEADER.size + int(name_length) + int(extra)


def inflated(file: BinaryIO, numbers: tuple[int, ...], name: str) -> Iterator[bytes]:
    """A deflated member's bytes; never more than its directory says, and those with its CRC."""
    header, packed, size, crc, _ = numbers
    file.seek(data_offset(file, header, name))
    inner, made, found = zlib.decompressobj(-15), 0, 0
    while not inner.eof:
        block = inner.unconsumed_tail or file.read(max(0, min(BLOCK, packed)))
        packed -= 0 if inner.unconsumed_tail else len(block)
        try:
            part = inner.decompress(block, BLOCK)
        except zlib.error as error:
            raise corrupt(name, f"broken deflate: {error}") from error
        made, found = made + len(part), zlib.crc32(part, found)
        if made > size or (not block and not part):
            raise corrupt(name, f"it doesn't have the {size:,} bytes of its directory")
        if part:
            yield part
    if made != size or found != crc:
        raise corrupt(name, "its checksum is wrong")
