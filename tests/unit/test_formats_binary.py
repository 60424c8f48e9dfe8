"""Binary: any bytes, with size and checksum, and names that survive."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from libs.formats._signatures import kind_of
from tests.files import docx, grow, image, pdf, put, read_folder
from tests.formats import keys, user
from tests.fuzz import relaxed

RELAXED = relaxed(40)


def test_a_table_of_files(tmp_path: Path) -> None:
    data = b"any\0thing"
    table = read_folder("binary", put(tmp_path, {"a/b,c": data}))
    digest = hashlib.sha256(data).hexdigest()
    assert user(table).to_pylist() == [
        {"bytes": data, "path": "a/b,c", "size": 9, "sha256": digest}
    ]
    assert keys(table) == ["17ed8f57cdcf188a41db3d75ba42b4dc"]


def test_a_declared_key_is_the_content_s_checksum_if_one_wants(tmp_path: Path) -> None:
    table = read_folder("binary", put(tmp_path, {"a": b"x", "b": b"x"}), key=("sha256",))
    assert len(set(keys(table))) == 1


def test_files_of_nothing_may_be_rows(tmp_path: Path) -> None:
    table = read_folder("binary", put(tmp_path, {"a": b""}), allowEmpty=True)
    assert user(table).to_pylist()[0]["size"] == 0


@pytest.mark.fuzz
@RELAXED
@given(st.lists(st.binary(min_size=1, max_size=500), min_size=1, max_size=20))
def test_any_bytes_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("x")
    found = {f"{i:03}": data for i, data in enumerate(contents)}
    table = read_folder("binary", put(folder / "in", found))
    leaves = grow("binary", folder / "out", table, name="path")
    assert {
        Path(leaf.path).stem: (folder / "out" / leaf.path).read_bytes() for leaf in leaves
    } == found
    again = read_folder("binary", folder / "out")
    assert again["bytes"].to_pylist() == contents


@pytest.mark.parametrize(
    ("name", "data", "end"),
    [
        ("a/x.npz", b"??", ".npz"), ("x", image("JPEG"), ".jpg"), ("x", image("WEBP"), ".webp"),
        ("x", pdf(["a"]), ".pdf"), ("x", docx(["a"]), ".zip"), ("x", b"???", ".bin"),
        ("x.not an end", b"???", ".bin"),
    ],
)  # fmt: skip
def test_a_file_s_end_is_the_one_it_had_or_one_by_content(
    tmp_path: Path, name: str, data: bytes, end: str
) -> None:
    (leaf,) = grow(
        "binary", tmp_path / "out", read_folder("binary", put(tmp_path / "in", {name: data}))
    )
    assert Path(leaf.path).suffix == end


def test_ends_may_come_from_a_column(tmp_path: Path) -> None:
    table = read_folder("binary", put(tmp_path / "in", {"a": b"x", "b": b"y"}))
    table = table.append_column("end", pa.array(["dat", ".raw"]))
    leaves = grow("binary", tmp_path / "out", table, extension="end", name="path")
    assert [leaf.path for leaf in leaves] == ["a.dat", "b.raw"]
    worse = table.set_column(table.schema.names.index("end"), "end", pa.array(["a/b", "c"]))
    with pytest.raises(PermanentError, match="can't be the end of a file's name"):
        grow("binary", tmp_path / "worse", worse, extension="end")


def test_text_is_bytes_too(tmp_path: Path) -> None:
    table = pa.table({"note": ["ä"], "_row": pa.array([b"0" * 16], pa.binary(16))})
    (leaf,) = grow("binary", tmp_path / "out", table)
    assert (tmp_path / "out" / leaf.path).read_bytes() == "ä".encode()


def test_a_row_of_nothing_is_refused(tmp_path: Path) -> None:
    table = pa.table(
        {"bytes": pa.array([None], pa.binary()), "_row": pa.array([b"0" * 16], pa.binary(16))}
    )
    with pytest.raises(PermanentError, match="nothing in 'bytes'") as caught:
        grow("binary", tmp_path / "out", table)
    assert caught.value.code == "inexpressible"


def test_more_files_than_a_manifest_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.formats._trees.MOST", 2)
    table = read_folder("binary", put(tmp_path / "in", {"a": b"x", "b": b"y", "c": b"z"}))
    with pytest.raises(PermanentError, match="at most 2 are written"):
        grow("binary", tmp_path / "out", table)


def test_a_bitmap_isn_t_any_text_that_begins_with_bm() -> None:
    assert kind_of(b"BMW is a maker of cars and much else") is None
    assert kind_of(image("BMP")[:32]) is not None
