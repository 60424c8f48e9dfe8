"""TFRecord framing: where records are in a stream, and whether their checksums hold.

A record is its length (uint64), the masked CRC-32C of these eight bytes, the data, and the data's
masked CRC-32C; all little endian (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import google_crc32c
import numpy as np
import numpy.typing as npt

from libs.common.errors import PermanentError
from libs.formats._tf_streams import BrokenStream

BLOCK = 1 << 20  # bytes of records that are parsed at once
BLOCK_RECORDS = 1 << 14
PIECE = 1 << 20  # bytes that are read at once
HEADER = struct.Struct("<QI")
HEAD, TAIL = HEADER.size, 4
LENGTH = struct.Struct("<Q")
MASK = 0xA282EAD8
KNOWN_LENGTHS = 4096  # whose checksum is remembered

END = 1 << 62  # beyond any file

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fault:
    """What is wrong with the bytes [offset, stop) of a file."""

    offset: int
    stop: int | None  # None: to the end
    code: str
    detail: str
    data: bytes = b""  # as far as it is known
    rest: bool = False  # no record, but all that is left

    def error(self, path: str) -> PermanentError:
        """The fault as an error that names the file and the place."""
        where = f"{path}: record at byte {self.offset:,}"
        return PermanentError(f"{where}: {self.detail}", code=self.code, path=path)


OnFault = Callable[[Fault], None]  # raises, or takes note


@dataclass(frozen=True)
class Frames:
    """Whole records: the data of record i is data[starts[i]:stops[i]]."""

    offset: int  # of data[0] in the (decompressed) file
    data: bytes
    starts: Positions
    stops: Positions

    def record(self, i: int) -> bytes:
        return self.data[self.starts[i] : self.stops[i]]

    def place(self, i: int) -> int:
        """Where the record's frame begins."""
        return self.offset + int(self.starts[i]) - HEAD

    def only(self, good: npt.NDArray[np.bool_]) -> Frames:
        return Frames(self.offset, self.data, self.starts[good], self.stops[good])


def masked(crc: int) -> int:
    """As it is stored: rotated and shifted, so that a CRC of CRCs stays meaningful."""
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def length_crc(length: int) -> int:
    """The stored checksum of a length."""
    return masked(google_crc32c.value(LENGTH.pack(length)))


class Framer:
    """Cuts a stream into frames; `limit`: bytes that a record may have."""

    def __init__(self, stream: BinaryIO, at: int, stop: int, limit: int, on_fault: OnFault) -> None:
        self._stream, self._stop, self._limit, self._on_fault = stream, stop, limit, on_fault
        self._at = at  # of _data[0] in the file
        self._data = b""
        self._ended = False
        self._wrong: BrokenStream | None = None
        self._lengths: dict[int, int] = {}

    def __iter__(self) -> Iterator[Frames]:
        """Frames whose checksums hold; what doesn't is told, and passed over where that can be."""
        while self._more(BLOCK) and self._at < self._stop:
            starts, stops, crcs, pos, fault = self._scan()
            if starts:
                yield self._checked(starts, stops, crcs)
            if fault is not None:
                self._on_fault(fault)
                pos = self._passed(fault)
            elif not starts:
                pos = self._oversize()
            self._data, self._at = self._data[pos:], self._at + pos
        if self._wrong is not None:
            self._on_fault(Fault(self._at, None, "corrupt_file", str(self._wrong), rest=True))

    def _more(self, wanted: int) -> bool:
        """Reads until `wanted` bytes wait, or the file ends; whether any wait."""
        if len(self._data) < wanted and not self._ended:
            pieces, have = [self._data], len(self._data)
            while have < wanted:
                piece = self._read(max(PIECE, min(wanted - have, PIECE << 4)))
                if not piece:
                    break
                pieces.append(piece)
                have += len(piece)
            self._data = b"".join(pieces)
        return bool(self._data)

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes; nothing at the end, or where the compressed data is broken."""
        try:
            piece = self._stream.read(size)
        except BrokenStream as wrong:
            piece, self._wrong = b"", wrong
        self._ended = not piece
        return piece

    def _scan(self) -> tuple[list[int], list[int], list[int], int, Fault | None]:
        """Records that lie whole in the data, up to the first faulty header."""
        data, size = self._data, len(self._data)
        unpack, crc_of, lengths = HEADER.unpack_from, google_crc32c.value, self._lengths
        starts: list[int] = []
        stops: list[int] = []
        crcs: list[int] = []
        pos, stop = 0, min(self._stop - self._at, size)
        while pos < stop and len(starts) < BLOCK_RECORDS:
            begin = pos + HEAD
            if begin > size:
                break
            length, crc = unpack(data, pos)
            if lengths.get(length) != crc and not self._known(length, crc):
                return starts, stops, crcs, pos, self._bad_length(pos, length)
            end = begin + length
            if end + TAIL > size:
                break
            if length > self._limit:
                return starts, stops, crcs, pos, self._too_large(pos, length)
            starts.append(begin)
            stops.append(end)
            crcs.append(crc_of(data[begin:end]))
            pos = end + TAIL
        return starts, stops, crcs, pos, None

    def _known(self, length: int, crc: int) -> bool:
        if length_crc(length) != crc:
            return False
        if len(self._lengths) < KNOWN_LENGTHS:
            self._lengths[length] = crc
        return True

    def _checked(self, starts: list[int], stops: list[int], crcs: list[int]) -> Frames:
        """The frames whose data is what its checksum says."""
        frames = Frames(self._at, self._data, np.array(starts), np.array(stops))
        raw = np.array(crcs, np.uint32)
        wanted = (raw >> 15 | raw << 17) + np.uint32(MASK)
        every = np.ndarray(len(self._data) - 3, "<u4", self._data, strides=(1,))
        good = every[frames.stops] == wanted
        if good.all():
            return frames
        for i in np.flatnonzero(~good).tolist():
            detail = "the data isn't what its checksum says"
            stop = frames.place(i) + HEAD + stops[i] - starts[i] + TAIL
            self._on_fault(
                Fault(frames.place(i), stop, "checksum_mismatch", detail, frames.record(i))
            )
        return frames.only(good)

    def _oversize(self) -> int:
        """A header whose record doesn't lie in what was read: read on, or say why not."""
        if len(self._data) < HEAD:
            return self._cut("the file ends within a record's header")
        length, _ = HEADER.unpack_from(self._data)
        if length > self._limit:
            fault = self._too_large(0, length)
            self._on_fault(fault)
            return self._passed(fault)
        self._more(HEAD + length + TAIL)
        if len(self._data) < HEAD + length + TAIL:
            return self._cut(
                f"it should have {length:,} bytes, and the file ends after "
                f"{max(len(self._data) - HEAD, 0):,}"
            )
        return 0

    def _cut(self, detail: str) -> int:
        end = self._at + len(self._data)
        if self._wrong is not None:
            self._on_fault(
                Fault(self._at, None, "corrupt_file", str(self._wrong), self._data, rest=True)
            )
            self._wrong = None
            return len(self._data)
        self._on_fault(Fault(self._at, end, "truncated_file", detail, self._data))
        return len(self._data)

    def _bad_length(self, pos: int, length: int) -> Fault:
        """Where the next record begins can't be known: all that follows is lost."""
        del length  # nothing that one could believe
        detail = "its length isn't what its checksum says; what follows can't be read either"
        if self._at + pos == 0:
            detail += " (not a TFRecord file, or a compressed one: see the option compression)"
        begin = self._at + pos
        stop = self._stop if self._stop < END else None
        head = self._data[pos : pos + PIECE]
        return Fault(begin, stop, "checksum_mismatch", detail, head, rest=True)

    def _too_large(self, pos: int, length: int) -> Fault:
        detail = (
            f"it says that it has {length:,} bytes; at most {self._limit:,} are read "
            "(option max_record_bytes)"
        )
        begin = self._at + pos
        stop = begin + HEAD + length + TAIL
        head = self._data[pos : pos + PIECE]
        return Fault(begin, min(stop, self._stop), "record_too_large", detail, head)

    def _passed(self, fault: Fault) -> int:
        """How much of the data to drop; reads on to where the fault's bytes end."""
        stop = END if fault.stop is None else fault.stop
        while (left := stop - self._at) > len(self._data):
            self._at += len(self._data)
            self._data = self._read(min(left, PIECE))
            if not self._data:
                return 0
        return left


def record_ends(stream: BinaryIO, size: int, target: int) -> Iterator[int]:
    """Ends of records at or after each multiple of `target`; stops where the chain breaks.

    Only headers are looked at; there is nothing else in the format by which to find a record.
    """
    at = have = 0  # `have`: where the bytes in `data` begin
    data, goal = b"", target
    while at + HEAD <= size:
        if not (have <= at and at + HEAD <= have + len(data)):
            far = at > have + len(data)
            stream.seek(at)
            data, have = stream.read(PIECE >> 6 if far else PIECE), at
        if at - have + HEAD > len(data):
            return
        length, crc = HEADER.unpack_from(data, at - have)
        if length > size or length_crc(length) != crc:
            return
        at += HEAD + length + TAIL
        if goal <= at < size:
            yield at
            goal = at + target
