"""Sizes of images from their headers, and whether the file is whole: no pixel is decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that tell the size
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))  # markers without a length


class BrokenImage(Exception):
    """Why the file can't be a whole image."""


class Header(NamedTuple):
    """What a header says."""

    width: int
    height: int
    frames: int = 1  # as far as they were counted


def read_header(format: str, data: bytes, most: int) -> Header:
    """Of a whole file; counts at most `most` frames and one. Raises BrokenImage."""
    try:
        return _READERS[format](data, most)
    except (struct.error, IndexError) as short:
        raise BrokenImage("it ends in the middle") from short


def _jpeg(data: bytes, _most: int) -> Header:
    """ITU T.81: segments up to the first scan; within scans FF D9 is nothing but the end."""
    at, size = 2, None
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise BrokenImage(f"no segment begins at byte {at:,}")
        marker = data[at + 1]
        at += 2
        if marker in _BARE:
            continue
        if marker == 0xD9:
            raise BrokenImage("it has no picture")
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _SOF:
            height, width = struct.unpack_from(">xHH", data, at + 2)
            size = size or Header(width, height)
        at += max(length, 2)
        if marker == 0xDA:
            break
    if data.rfind(b"\xff\xd9", at) < 0:
        raise BrokenImage("it is cut short: its end is missing")
    if size is None:
        raise BrokenImage("its size is missing")
    return size


def _png(data: bytes, _most: int) -> Header:
    """PNG third edition: chunks with checksums, from IHDR to IEND."""
    at, kind, frames, seen = 8, b"", 1, False
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 8 + length
        (said,) = struct.unpack_from(">I", data, stop)
        if zlib.crc32(memoryview(data)[at + 4 : stop]) != said:
            raise BrokenImage(f"the checksum of the chunk at byte {at:,} is wrong")
        if (at == 8) != (kind == b"IHDR"):
            raise BrokenImage("its header isn't where it should be")
        if kind == b"acTL":
            (frames,) = struct.unpack_from(">I", data, at + 8)
        seen = seen or kind == b"IDAT"
        at = stop + 4
    if not seen:
        raise BrokenImage("it has no picture")
    width, height = struct.unpack_from(">II", data, 16)
    return Header(width, height, frames)


def _gif(data: bytes, most: int) -> Header:
    """GIF89a: blocks up to the trailer. The canvas may be smaller than a frame on it."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames = 13 + _palette(flags), 0
    while data[at] != 0x3B:
        if data[at] == 0x21:
            at = _blocks_end(data, at + 2)
        elif data[at] == 0x2C:
            left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, at + 1)
            width, height = max(width, left + wide), max(height, top + high)
            at = _blocks_end(data, at + 11 + _palette(flags))
            frames += 1
            if frames > most:
                break
        else:
            raise BrokenImage(f"no block begins at byte {at:,}")
    if not frames:
        raise BrokenImage("it has no picture")
    return Header(width, height, frames)


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def _webp(data: bytes, _most: int) -> Header:
    """RFC 9649: a RIFF container of chunks."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise BrokenImage("it is cut short")
    at, stop, frames, found = 12, min(size + 8, len(data)), 0, None
    while at + 8 <= stop:
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > stop:
            raise BrokenImage("it is cut short")
        found = found or _webp_size(kind, data, at + 8)
        frames += kind == b"ANMF"
        at += 8 + length + (length & 1)
    if found is None:
        raise BrokenImage("it has no picture")
    return Header(*found, max(frames, 1))


def _webp_size(kind: bytes, data: bytes, at: int) -> tuple[int, int] | None:
    if kind == b"VP8 ":
        if data[at + 3 : at + 6] != b"\x9d\x01\x2a":
            raise BrokenImage("its picture doesn't begin as one")
        width, height = struct.unpack_from("<HH", data, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        mark, bits = struct.unpack_from("<BI", data, at)
        if mark != 0x2F:
            raise BrokenImage("its picture doesn't begin as one")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, at + 4)
        return (low_w | high_w << 16) + 1, (low_h | high_h << 16) + 1
    return None


def _bmp(data: bytes, _most: int) -> Header:
    """Windows bitmaps: the pixels' place is in the header."""
    (pixels, size) = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packed = 0
    else:
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: from the top down
    row = (width * bits + 31) // 32 * 4
    need = pixels + (row * height if packed in (0, 3, 6) else 1)
    if need > len(data):
        raise BrokenImage("it is cut short")
    return Header(width, height)


_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_PLACES, _LENGTHS = (273, 324), (279, 325)  # of strips and of tiles


def _tiff(data: bytes, most: int) -> Header:
    """TIFF 6.0: a chain of directories, each with the places of a frame's strips or tiles."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    width = height = frames = 0
    seen: set[int] = set()
    while at and at not in seen and frames <= most:
        seen.add(at)
        (entries,) = struct.unpack_from(f"{order}H", data, at)
        tags = _tiff_tags(data, at + 2, entries, order)
        for place, length in zip(_PLACES, _LENGTHS, strict=True):
            ends = map(sum, zip(tags.get(place, ()), tags.get(length, ()), strict=False))
            if max(ends, default=0) > len(data):
                raise BrokenImage("it is cut short")
        width = max(width, *tags.get(256, ()), 0)
        height = max(height, *tags.get(257, ()), 0)
        frames += 1
        (at,) = struct.unpack_from(f"{order}I", data, at + 2 + 12 * entries)
    return Header(width, height, frames)


def _tiff_tags(data: bytes, at: int, entries: int, order: str) -> dict[int, tuple[int, ...]]:
    """The tags that we look at, which are numbers."""
    found = {}
    for entry in range(at, at + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
        size = _TIFF_SIZES.get(kind, 1) * count
        place = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, entry + 8)[0]
        if place + size > len(data):
            raise BrokenImage("it is cut short")
        if tag in (256, 257, *_PLACES, *_LENGTHS) and kind in (3, 4):
            found[tag] = struct.unpack_from(
                f"{order}{count}{'H' if kind == 3 else 'I'}", data, place
            )
    return found


_READERS: dict[str, Callable[[bytes, int], Header]] = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "webp": _webp,
    "bmp": _bmp,
    "tiff": _tiff,
}
