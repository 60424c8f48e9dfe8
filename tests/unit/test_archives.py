"""Archives and compressed files: members found and opened by address, the bad ones told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from libs.common.errors import OneBlockError, PermanentError
from libs.stores import Pin, open_uri
from libs.stores._archives import Address, Kind, Limits, Member, members
from libs.stores._compressed import expanded
from libs.stores._paths import to_uri
from tests.archives import COMPRESS, FILES, link, tar_of, tar_with, zip_of
from tests.fuzz import seeds

NARROW = Limits(entries=5, size=200_000_000, ratio=100)


def listed(content: bytes, container: str, limits: Limits = NARROW) -> list[Member]:
    return list(members(io.BytesIO(content), container, f"x.{container}", limits))


def refused(content: bytes, container: str, limits: Limits = NARROW) -> str:
    with pytest.raises(PermanentError) as caught:
        listed(content, container, limits)
    assert f"x.{container}" in caught.value.detail
    return caught.value.code


def opened(path: Path, content: bytes, container: str) -> dict[str, bytes]:
    path.write_bytes(content)
    found = {}
    for member in listed(content, container):
        with open_uri(member.address(to_uri(path), len(content))) as file:
            assert file.seek(0, os.SEEK_END) == member.size
            file.seek(0)
            found[member.path] = file.read()
    return found


@pytest.mark.parametrize(
    ("name", "kind", "inner"),
    [
        ("a.csv", None, ""),
        ("a.csv.gz", Kind("gz", ""), "a.csv"),
        ("A.CSV.GZ", Kind("gz", ""), "A.CSV"),
        ("a.zst", Kind("zst", ""), "a"),
        ("a.tar", Kind("", "tar"), ""),
        ("a.tar.zst", Kind("zst", "tar"), "a.tar"),
        ("a.tgz", Kind("gz", "tar"), "a.tar"),
        ("a.zip", Kind("", "zip"), ""),
        ("gz", None, ""),
        ("report.docx", None, ""),
    ],
)
def test_the_name_says_what_a_file_is(name: str, kind: Kind | None, inner: str) -> None:
    assert Kind.of(name) == kind
    if kind and kind.compression:
        assert kind.inner(name) == inner


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_members_of_a_zip_open_by_their_addresses(tmp_path: Path, method: int) -> None:
    assert opened(tmp_path / "x.zip", zip_of(FILES, method), "zip") == FILES


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_a_tar_open_by_their_addresses(tmp_path: Path, form: int) -> None:
    made = io.BytesIO()
    files = {**FILES, "long/" * 20 + "ä.csv": b"1"}
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        archive.addfile(link("deep", "", tarfile.DIRTYPE))
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert opened(tmp_path / "x.tar", made.getvalue(), "tar") == files


def test_a_member_is_read_at_any_place(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(300_000)
    for name, made in (("x.tar", tar_of({"m": content})), ("x.zip", zip_of({"m": content}))):
        (tmp_path / name).write_bytes(made)
        [member] = listed(made, name[2:])
        with open_uri(member.address(to_uri(tmp_path / name), len(made))) as file:
            for place in (299_990, 0, 131_071, 65_536):
                file.seek(place)
                assert file.read(100) == content[place : place + 100]


def test_names_that_need_it_are_quoted_and_addresses_nest() -> None:
    member = Member("a!/b#c ü.csv", 3, "tar", (512, 3))
    outer = "s3://bucket/x!/y#z.tar.gz"
    inner = Member("x.tar", 9, "gz", (9,)).address(outer, 7)
    found = Address.parse(member.address(inner, 9))
    assert found == Address(inner, 9, "tar", (512, 3))
    assert Address.parse(found.outer) == Address(outer, 7, "gz", (9,))
    assert Address.parse(outer) is None
    assert Address.parse("s3://bucket/plain!/key.csv") is None


def test_a_member_of_a_changed_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of(FILES))
    member = listed(path.read_bytes(), "tar")[0]
    uri = member.address(to_uri(path), path.stat().st_size)
    with pytest.raises(PermanentError) as caught:
        open_uri(uri, Pin("another", member.size).text())
    assert caught.value.code == "source_changed"


@pytest.mark.parametrize("name", ["._a.csv", "__MACOSX/a.csv", "deep/.hidden"])
def test_hidden_names_are_left_out(name: str) -> None:
    assert [m.path for m in listed(zip_of({name: b"x", "a.csv": b"x"}), "zip")] == ["a.csv"]


# unsafe and broken


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "C:\\x", "C:x", "a\\b", "a\nb", "n" * 300, "", "."]
)
def test_a_name_that_leads_out_is_unsafe(name: str) -> None:
    assert refused(tar_of({name: b"x"}), "tar") == "unsafe_archive"
    if name not in ("", "."):
        assert refused(zip_of({name: b"x"}), "zip") == "unsafe_archive"


@pytest.mark.parametrize(
    "entry",
    [
        link("out", "/etc/passwd"),
        link("hard", "a.csv", tarfile.LNKTYPE),
        link("device", "", tarfile.CHRTYPE),
        link("pipe", "", tarfile.FIFOTYPE),
    ],
    ids=lambda entry: entry.name,
)
def test_links_and_devices_are_unsafe(entry: tarfile.TarInfo) -> None:
    assert refused(tar_with(entry), "tar") == "unsafe_archive"


def test_a_link_in_a_zip_is_unsafe() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        entry = zipfile.ZipInfo("out")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    assert refused(made.getvalue(), "zip") == "unsafe_archive"


def test_a_name_twice_is_unsafe() -> None:
    twice = tar_of({"a": b"1"})[:1024] + tar_of({"a": b"2"})
    assert refused(twice, "tar") == "unsafe_archive"


def test_an_encrypted_zip_is_told() -> None:
    made = bytearray(zip_of({"a": b"x"}))
    made[made.index(b"PK\x01\x02") + 8] |= 1
    assert refused(bytes(made), "zip") == "encrypted_file"


def test_a_bomb_is_refused_by_its_ratio() -> None:
    bomb = zip_of({"zeros": bytes(100_000_000)})
    assert len(bomb) < 100_000
    assert refused(bomb, "zip") == "decompression_limit"


def test_too_many_entries_are_refused() -> None:
    files = {f"{n}": b"" for n in range(6)}
    assert refused(zip_of(files), "zip") == refused(tar_of(files), "tar") == "decompression_limit"


def test_a_member_that_is_longer_than_it_says_ends_there(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a": b"x" * 10_000}))
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = content.index(mark) + place
        content[at : at + 4] = (10).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(content)
    [member] = listed(bytes(content), "zip")
    with pytest.raises(PermanentError) as caught:
        open_uri(member.address(to_uri(tmp_path / "x.zip"), len(content)))
    assert caught.value.code == "corrupt_file"


def test_a_tar_header_that_claims_terabytes_takes_no_memory() -> None:
    content = bytearray(tar_with(link("x", "", tarfile.XHDTYPE), b"10 path=a\n"))
    content[124:136] = b"77777777777\0"
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    assert refused(bytes(content), "tar") == "corrupt_file"


@pytest.mark.parametrize("container", ["zip", "tar"])
def test_an_archive_cut_off_anywhere_is_told(container: str) -> None:
    whole = zip_of(FILES) if container == "zip" else tar_of(FILES)
    end = len(whole) if container == "zip" else 5 * 512 + 1024
    for cut in {0, 1, 100, 511, 512, 600, 1024, end // 2, end - 1025}:
        if cut < len(whole):
            assert refused(whole[:cut], container) == "corrupt_file", cut


@pytest.mark.fuzz
@pytest.mark.parametrize("container", ["zip", "tar"])
def test_noise_is_an_error_or_members_and_never_anything_else(container: str) -> None:
    whole = zip_of(FILES) if container == "zip" else tar_of(FILES)
    codes = set()
    for seed in seeds(150):
        dice = random.Random(seed)
        content = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        with suppress(OneBlockError):
            listed(bytes(content), container)
            continue
        codes.add(refused(bytes(content), container))
    told = {"unsafe_archive", "encrypted_file", "unsupported_compression", "decompression_limit"}
    assert "corrupt_file" in codes
    assert codes <= told | {"corrupt_file"}


# compressed files


def unpacked(content: bytes, how: str, limits: Limits = NARROW) -> bytes:
    return b"".join(expanded(io.BytesIO(content), how, f"x.{how}", limits))


@pytest.mark.parametrize("how", COMPRESS)
def test_a_compressed_file_is_expanded(how: str) -> None:
    content = random.Random(2).randbytes(100_000) * 25
    assert unpacked(COMPRESS[how](content), how) == content
    assert unpacked(COMPRESS[how](b""), how) == b""


@pytest.mark.parametrize("how", COMPRESS)
def test_streams_in_a_row_are_one_file(how: str) -> None:
    assert unpacked(COMPRESS[how](b"one,") + COMPRESS[how](b"two"), how) == b"one,two"


@pytest.mark.parametrize("how", COMPRESS)
def test_a_compressed_file_cut_off_or_none_is_corrupt(how: str) -> None:
    whole = COMPRESS[how](random.Random(3).randbytes(50_000))
    for content in (
        b"",
        b"plain text, not compressed",
        whole[:3],
        whole[: len(whole) // 2],
        whole[:-1],
    ):
        with pytest.raises(PermanentError) as caught:
            unpacked(content, how)
        assert caught.value.code == "corrupt_file"


@pytest.mark.parametrize("how", COMPRESS)
def test_a_compressed_bomb_ends_at_the_limit(how: str) -> None:
    bomb = COMPRESS[how](bytes(80_000_000))
    with pytest.raises(PermanentError) as caught:
        for _ in expanded(io.BytesIO(bomb), how, "bomb", NARROW):
            pass
    assert caught.value.code == "decompression_limit"


def test_an_xz_dictionary_of_gigabytes_is_refused() -> None:
    content = bytearray(lzma.compress(b"x", preset=0))
    at = content.index(b"\x21\x01") + 2  # the dictionary's size, by its exponent
    content[at] = 40  # 4 GiB
    content[20:24] = zlib.crc32(content[12:20]).to_bytes(4, "little")
    with pytest.raises(PermanentError) as caught:
        unpacked(bytes(content), "xz")
    assert caught.value.code == "corrupt_file"
    assert "emory" in caught.value.detail


@pytest.mark.parametrize(("how", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_one_layer_is_undone(how: str, pack: Callable[[bytes], bytes]) -> None:
    inner = pack(b"data")
    assert unpacked(pack(inner), how) == inner
