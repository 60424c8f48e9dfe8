"""Images: sizes without decoding, what is refused by name, and what `datasets` makes of them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image, features

from libs.common.errors import PermanentError
from libs.formats import FEATURE
from libs.formats._images import Picture, look
from tests.files import IMAGES, grow, image, put, read_folder
from tests.formats import keys, user, write

PIXELS, FRAMES = 50_000_000, 1000


def seen(data: bytes, path: str = "a.png", pixels: int = PIXELS, frames: int = FRAMES) -> Picture:
    return look(data, path, pixels, frames)


def code(data: bytes, **limits: int) -> str:
    with pytest.raises(PermanentError, match=r"a\.png") as caught:
        seen(data, **limits)
    return caught.value.code


CASES = [
    (format, mode)
    for format, modes in {
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "GIF": ("P", "L"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("1", "L", "P", "RGB"),
        "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"),
    }.items()
    for mode in modes
]


@pytest.mark.parametrize(("format", "mode"), CASES)
def test_header_and_decoder_say_the_same(format: str, mode: str) -> None:
    data = image(format, (37, 23), mode)
    picture = seen(data)
    with Image.open(BytesIO(data)) as decoded:
        decoded.load()
        assert (picture.width, picture.height) == decoded.size == (37, 23)
        assert picture.format == format.lower()
        if format != "GIF":  # a decoded one is what its first frame became
            assert picture.mode == decoded.mode


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 1}, {"optimize": True}])
def test_jpegs_of_all_sorts(options: dict[str, object]) -> None:
    assert seen(image("JPEG", (100, 50), **options))[:2] == (100, 50)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg", "packbits"])
def test_compressed_tiffs(compression: str) -> None:
    assert features.check("libtiff")
    assert seen(image("TIFF", (100, 50), compression=compression))[:2] == (100, 50)


def test_a_lossless_webp() -> None:
    assert seen(image("WEBP", (300, 50), "RGB", lossless=True))[:3] == (300, 50, "RGB")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_the_orientation_is_told_and_the_size_is_as_stored(format: str, orientation: int) -> None:
    picture = seen(image(format, (40, 30), orientation=orientation))
    assert (picture.width, picture.height, picture.orientation) == (40, 30, orientation)


@pytest.mark.parametrize("format", IMAGES)
def test_a_picture_that_ends_early_is_refused_wherever_it_ends(format: str) -> None:
    data = image(format, (200, 100), seed=5)
    cuts = {*range(1, 40), *range(40, len(data) - 1, max(1, len(data) // 60))}
    if format in ("JPEG", "GIF", "PNG"):
        cuts.add(len(data) - 1)
    for cut in sorted(cuts):
        found = code(data[:cut])
        assert found == "corrupt_image" or (found == "type_mismatch" and cut < 20), cut


def test_what_follows_a_pictures_end_is_nobodys_harm() -> None:
    for format in ("JPEG", "PNG", "GIF", "BMP"):
        assert seen(image(format) + b"trailer of a camera").width == 40


def test_a_thumbnails_end_is_not_the_pictures_end() -> None:
    small = image("JPEG", (8, 8))
    segment = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    whole = image("JPEG", (300, 200))
    data = whole[:2] + segment + whole[2:]
    assert seen(data)[:2] == (300, 200)
    assert code(data[: len(segment) + 700]) == "corrupt_image"


def test_a_flipped_bit_in_a_png_is_found() -> None:
    data = bytearray(image("PNG", (50, 50)))
    data[len(data) // 2] ^= 1
    assert code(bytes(data)) == "corrupt_image"


@pytest.mark.parametrize(
    "data",
    [b"just some text, no picture at all", b"%PDF-1.4 xxxx", b"<svg xmlns=''></svg>", b"PK\3\4"],
)
def test_something_else_called_png_is_refused_by_name(data: bytes) -> None:
    assert code(data) == "type_mismatch"


def bomb(side: int) -> bytes:
    """A small PNG that declares side² pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))  # its header alone decides
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 12_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_anything_is_decoded(side: int) -> None:
    assert code(bomb(side)) == "image_too_large"


@pytest.mark.parametrize("format", IMAGES)
def test_no_pixel_is_decoded(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = image(format, frames=2 if format in ("GIF", "WEBP") else 1)

    def load(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert seen(data).width == 40


def test_larger_pictures_may_be_allowed() -> None:
    assert seen(bomb(8_000), pixels=64_000_000)[:2] == (8_000, 8_000)


def test_a_gif_whose_frame_is_larger_than_its_canvas_counts_as_its_frame() -> None:
    data = bytearray(image("GIF", (10, 10)))
    at = data.rindex(b"\x2c\0\0\0\0\x0a\0\x0a\0")
    data[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    assert code(bytes(data)) == "image_too_large"


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_too_many_frames_are_refused(format: str) -> None:
    data = image(format, frames=12, seed=3)
    assert seen(data).width == 40
    assert code(data, frames=5) == "image_too_large"


def test_a_chain_of_tiff_directories_that_bites_its_tail_ends() -> None:
    data = bytearray(image("TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    assert seen(bytes(data)).width > 0


def test_a_table_of_pictures(tmp_path: Path) -> None:
    found = {"cat/1.jpg": image("JPEG", (20, 10)), "dog/2.png": image("PNG"), "3.gif": image("GIF")}
    table = user(read_folder("image", put(tmp_path, found), labelFromFolder=True))
    assert table.schema.names == [
        "image", "width", "height", "mode", "format", "orientation", "label",
    ]  # fmt: skip
    assert table["label"].to_pylist() == [None, "cat", "dog"]
    assert table["image"].to_pylist()[1] == {"bytes": found["cat/1.jpg"], "path": "cat/1.jpg"}


def test_the_keys_of_paths_never_change(tmp_path: Path) -> None:
    table = read_folder("image", put(tmp_path, {"a/b,c.png": image()}))
    assert keys(table) == ["7d109fd42894a412ae8892dfcf9f3113"]


def test_pictures_written_under_the_names_they_had(tmp_path: Path) -> None:
    found = {"cat/1.jpg": image("JPEG"), "dog/2.jpeg": image("JPEG"), "dog/x": image("PNG")}
    table = read_folder("image", put(tmp_path / "in", found), labelFromFolder=True)
    paths = pa.compute.struct_field(table["image"].combine_chunks(), "path")
    leaves = grow("image", tmp_path / "out", table.append_column("name", paths), name="name")
    assert [leaf.path for leaf in leaves] == ["cat/1.jpg", "dog/2.jpeg", "dog/x.png"]


def test_what_is_no_picture_isn_t_written_as_one(tmp_path: Path) -> None:
    table = pa.table({"image": [b"text"], "_row": pa.array([b"0" * 16], pa.binary(16))})
    with pytest.raises(PermanentError, match="no image; write them as binary") as caught:
        grow("image", tmp_path, table)
    assert caught.value.code == "inexpressible"


def test_datasets_of_hugging_face_shows_delivered_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = {f"{i}.png": image("PNG", (10 + i, 5), seed=i) for i in range(3)}
    table = user(read_folder("image", put(tmp_path / "in", found)))
    assert FEATURE in table.schema.field("image").metadata
    path = write("parquet", tmp_path / "part.parquet", table)
    metadata = pa.parquet.read_schema(path).metadata
    assert b'"_type": "Image"' in metadata[b"huggingface"]
    import datasets

    shown = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert isinstance(shown.features["image"], datasets.Image)
    assert [row["image"].size for row in shown] == [(10, 5), (11, 5), (12, 5)]
