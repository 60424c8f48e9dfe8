"""What a file is by its first bytes, and what such files are called."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of file."""

    name: str  # as people call it
    suffix: str
    image: str = ""  # the image format's name, where we read it as one


_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", Kind("JPEG image", ".jpg", "jpeg")),
    (b"\x89PNG\r\n\x1a\n", Kind("PNG image", ".png", "png")),
    (b"GIF87a", Kind("GIF image", ".gif", "gif")),
    (b"GIF89a", Kind("GIF image", ".gif", "gif")),
    (b"II*\0", Kind("TIFF image", ".tif", "tiff")),
    (b"MM\0*", Kind("TIFF image", ".tif", "tiff")),
    (b"%PDF-", Kind("PDF document", ".pdf")),
    (b"PK\x03\x04", Kind("ZIP archive", ".zip")),
    (b"PK\x05\x06", Kind("ZIP archive", ".zip")),
    (b"\x1f\x8b", Kind("gzip file", ".gz")),
    (b"\x28\xb5\x2f\xfd", Kind("Zstandard file", ".zst")),
    (b"BZh", Kind("bzip2 file", ".bz2")),
    (b"\xfd7zXZ\0", Kind("xz file", ".xz")),
    (b"7z\xbc\xaf\x27\x1c", Kind("7-Zip archive", ".7z")),
    (b"Rar!\x1a\x07", Kind("RAR archive", ".rar")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("old Office document", ".doc")),
    (b"{\\rtf", Kind("RTF document", ".rtf")),
    (b"PAR1", Kind("Parquet file", ".parquet")),
    (b"ARROW1", Kind("Arrow file", ".arrow")),
    (b"SQLite format 3\0", Kind("SQLite database", ".sqlite")),
    (b"\x7fELF", Kind("program", ".elf")),
    (b"OggS", Kind("Ogg file", ".ogg")),
    (b"fLaC", Kind("FLAC file", ".flac")),
    (b"ID3", Kind("MP3 file", ".mp3")),
    (b"\x1aE\xdf\xa3", Kind("Matroska video", ".mkv")),
    (b"\x93NUMPY", Kind("NumPy array", ".npy")),
    (b"\x89HDF\r\n\x1a\n", Kind("HDF5 file", ".h5")),
    (b"8BPS", Kind("Photoshop image", ".psd")),
)
_RIFF = {
    b"WEBP": Kind("WebP image", ".webp", "webp"),
    b"WAVE": Kind("WAV file", ".wav"),
    b"AVI ": Kind("AVI video", ".avi"),
}
_BMP = Kind("BMP image", ".bmp", "bmp")
_MP4 = Kind("MP4 video", ".mp4")
_HEIF = {b"heic": Kind("HEIC image", ".heic"), b"avif": Kind("AVIF image", ".avif")}
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the second header


def kind_of(head: bytes) -> Kind | None:
    """Of a file that begins like this (some 32 bytes are enough); None: unknown, maybe text."""
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _HEIF.get(head[8:12], _MP4)
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return _BMP
    return None


def begins(data: bytes) -> Kind | None:
    """The kind of a file so short that its first bytes aren't all there."""
    return next((kind for start, kind in _STARTS if data and start.startswith(data)), None)
