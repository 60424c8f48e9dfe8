"""A file per row in a local folder: replaced as a whole, in folders, and others' files kept."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from libs.common.errors import PermanentError
from libs.formats import SYSTEM_FIELDS
from services.sink.contents import Contents
from tests.delivery import Eye, TableRows, deliver, order


def rows(names: list[str], version: int = 1, **more: list[object]) -> TableRows:
    table = pa.table({"bytes": [f"{n} {version}".encode() for n in names], "path": names, **more})
    for number, field in enumerate(SYSTEM_FIELDS):
        values = [bytes([number + 1]) * 7 + bytes([i]) * 9 for i in range(len(names))]
        system = [v[: field.type.byte_width] for v in values] if number < 2 else [7] * len(names)
        table = table.append_column(field, pa.array(system, field.type))
    return TableRows(table)


def send(target: Path, what: TableRows, version: int = 1, **options: object) -> None:
    """With names from the column `path`."""
    said = {"name": "path", **options}
    eye = Eye(versions={(1, "run-1"), (2, "run-2")})
    deliver(order(target, version, format="binary", options=said), what, target.parent, eye)


def files(target: Path) -> dict[str, str]:
    found = (p for p in target.rglob("*") if p.is_file() and p.name != "_manifest.json")
    return {p.relative_to(target).as_posix(): p.read_text() for p in found}


def test_every_row_is_a_file_that_the_manifest_lists(tmp_path: Path) -> None:
    send(tmp_path / "out", rows(["cat/1.x", "cat/old/2.x", "3.x"]))
    assert files(tmp_path / "out") == {"cat/1.x": "cat/1.x 1", "cat/old/2.x": "cat/old/2.x 1",
                                       "3.x": "3.x 1"}  # fmt: skip
    told = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert [file["path"] for file in told["files"]] == ["cat/1.x", "cat/old/2.x", "3.x"]
    assert [column["name"] for column in told["schema"]] == ["bytes", "path"]


def test_a_new_version_replaces_the_files_and_their_folders(tmp_path: Path) -> None:
    send(tmp_path / "out", rows(["cat/1.x", "dog/2.x"]))
    send(tmp_path / "out", rows(["cat/1.x", "cow/3.x"], 2), 2)
    assert files(tmp_path / "out") == {"cat/1.x": "cat/1.x 2", "cow/3.x": "cow/3.x 2"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["_manifest.json", "cat", "cow"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_others_files_in_our_folders_stay(tmp_path: Path) -> None:
    send(tmp_path / "out", rows(["cat/1.x", "dog/2.x"]))
    (tmp_path / "out" / "cat" / "mine.txt").write_text("mine")
    (tmp_path / "out" / "notes").mkdir()
    (tmp_path / "out" / "notes" / "a.txt").write_text("a")
    send(tmp_path / "out", rows(["cat/1.x"], 2), 2)
    assert files(tmp_path / "out") == {
        "cat/1.x": "cat/1.x 2", "cat/mine.txt": "mine", "notes/a.txt": "a",
    }  # fmt: skip


def test_somebody_s_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    send(tmp_path / "out", rows(["cat/1.x"]))
    (tmp_path / "out" / "cow").mkdir()
    with pytest.raises(PermanentError, match="isn't ours") as caught:
        send(tmp_path / "out", rows(["cow/1.x"], 2), 2)
    assert caught.value.code == "destination_not_ours"
    assert files(tmp_path / "out") == {"cat/1.x": "cat/1.x 1"}


def test_a_link_in_the_place_of_our_folder_is_never_followed(tmp_path: Path) -> None:
    send(tmp_path / "out", rows(["cat/1.x"]))
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "out" / "cat").rename(elsewhere)
    (tmp_path / "out" / "cat").symlink_to(elsewhere)
    with pytest.raises(PermanentError, match="isn't ours"):
        send(tmp_path / "out", rows(["cat/2.x"], 2), 2)
    assert (elsewhere / "1.x").exists()
    send(tmp_path / "out", rows(["dog/2.x"], 2), 2)
    assert (elsewhere / "1.x").exists()
    assert (tmp_path / "out" / "cat").is_symlink()


def test_columns_and_system_columns_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    for options in ({"systemColumns": True}, {}):
        more = {} if options else {"score": [1]}
        with pytest.raises(PermanentError) as caught:
            send(tmp_path / "out", rows(["1.x"], **more), **options)  # type: ignore[arg-type]
        assert caught.value.code == "inexpressible"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "a/../b", "/x", "a//b", ".", "a/", ""])
def test_a_manifest_that_names_files_outside_isn_t_ours(path: str) -> None:
    said = {
        "dataset": "a/b", "version": 1, "made_by": "r", "run": "r", "format": "binary",
        "writing": "", "rows": 1, "bytes": 1, "schema": [], "written_at": "2026-01-01T00:00:00Z",
        "files": [{"path": path, "rows": 1, "bytes": 1, "sha256": ""}],
    }  # fmt: skip
    assert Contents.decode(json.dumps(said)) is None
