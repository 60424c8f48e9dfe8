"""What we say of an image: checked by its header, then told by Pillow without decoding."""

from __future__ import annotations

from io import BytesIO
from pathlib import PurePosixPath
from typing import NamedTuple

from libs.common.errors import PermanentError
from libs.formats._image_headers import BrokenImage, Header, read_header
from libs.formats._signatures import begins, kind_of

FORMATS = ("bmp", "gif", "jpeg", "png", "tiff", "webp")
ORIENTATION = 0x0112  # Exif's tag


class Picture(NamedTuple):
    """What a file's header says."""

    width: int
    height: int
    mode: str  # Pillow's word: RGB, L, CMYK, …
    format: str
    orientation: int | None  # Exif's, 1 to 8: how to turn what is stored


def look(data: bytes, path: str, pixels: int, frames: int) -> Picture:
    """Raises `type_mismatch`, `corrupt_image`, `image_too_large`."""
    format = _format(data, path)
    try:
        header = read_header(format, data, frames)
        _check_limits(header, path, pixels, frames)
        mode, orientation = _told(format, data)
    except BrokenImage as broken:
        raise corrupt(path, format, str(broken)) from broken
    return Picture(header.width, header.height, mode, format, orientation)


def _format(data: bytes, path: str) -> str:
    kind = kind_of(data[:32])
    if kind is not None and kind.image:
        return kind.image
    short = begins(data)
    if kind is None and short is not None and short.image:
        raise corrupt(path, short.image, "it ends in the middle")
    what = f"a {kind.name}" if kind else "no image that is known"
    raise PermanentError(
        f"{path}: the content is {what}; images are {', '.join(FORMATS)}. Leave it out "
        "(source.filter), or correct its name and the source's type",
        code="type_mismatch",
        path=path,
    )


def corrupt(path: str, format: str, why: str) -> PermanentError:
    """A file that isn't a whole image."""
    return PermanentError(f"{path}: a broken {format}: {why}", code="corrupt_image", path=path)


def _check_limits(header: Header, path: str, pixels: int, frames: int) -> None:
    if header.width <= 0 or header.height <= 0:
        raise BrokenImage(f"its size is {header.width} × {header.height}")
    if header.width * header.height > pixels:
        raise PermanentError(
            f"{path}: {header.width:,} × {header.height:,} pixels are more than {pixels:,}; raise "
            "the option maxPixels if such images are meant",
            code="image_too_large",
            path=path,
        )
    if header.frames > frames:
        raise PermanentError(
            f"{path}: more than {frames:,} frames; raise the option maxFrames if it is meant",
            code="image_too_large",
            path=path,
        )


def _told(format: str, data: bytes) -> tuple[str, int | None]:
    """Mode and orientation. Pillow opens lazily: it reads headers alone."""
    if format == "webp":  # but of this one it would allocate the canvas
        return _webp(data)
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=[format.upper()]) as image:
            if format == "png":  # of which Pillow would decode the pixels to find it
                return image.mode, _png_orientation(data)
            return image.mode, _orientation(image.getexif().get(ORIENTATION))
    except Exception as broken:  # whatever its plug-ins stumble over: OSError, SyntaxError, …
        raise BrokenImage(str(broken) or type(broken).__name__) from broken


def _webp(data: bytes) -> tuple[str, int | None]:
    kind = data[12:16]
    alpha = data[20] & 0x10 if kind == b"VP8X" else kind == b"VP8L" and data[24] & 0x10
    return "RGBA" if alpha else "RGB", _webp_orientation(data) if kind == b"VP8X" else None


def _png_orientation(data: bytes) -> int | None:
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"eXIf":
            return _exif(data[at + 8 : at + 8 + length])
        at += 12 + length
    return None


def _webp_orientation(data: bytes) -> int | None:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return _exif(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    return None


def _exif(data: bytes) -> int | None:
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(data)
        return _orientation(exif.get(ORIENTATION))
    except Exception:  # the picture is fine without it
        return None


def _orientation(value: object) -> int | None:
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def label_of(path: str) -> str | None:
    """The folder that a file lies in; none at the root."""
    return PurePosixPath(path).parent.name or None
