"""file://: what is listed, what is refused, and in which words."""

from __future__ import annotations

import os
import pickle
from functools import partial
from pathlib import Path

import pytest

from libs.common.errors import PermanentError
from libs.stores import Access, SourceInfo, open_uri, store_for


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a,b\n{name},1\n")


def listed(url: str, root: Path, filter: str | None = None) -> list[str]:
    return [f.path for f in infos(url, root, filter)]


def infos(url: str, root: Path, filter: str | None = None) -> list[SourceInfo]:
    access = Access(roots=(root,))
    return list(store_for(url, access).list(url, filter))


def refused(url: str, access: Access, filter: str | None = None) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        list(store_for(url, access).list(url, filter))
    return caught.value


def test_a_file_is_listed_with_its_size_and_opens(tmp_path: Path) -> None:
    put(tmp_path, "a b%.csv")
    [found] = infos(f"file://{tmp_path}/a%20b%25.csv", tmp_path)
    assert found.path == "a b%.csv"
    with open_uri(found.uri, found.etag) as file:
        assert len(file.read()) == found.size


def test_a_folder_means_every_file_below_it_in_a_stable_order(tmp_path: Path) -> None:
    put(tmp_path, "b.csv", "a/z.csv", "a/b/c.csv", "_manifest.json", ".x/y.csv", "_t/z.csv")
    assert listed(f"file://{tmp_path}", tmp_path) == ["a/b/c.csv", "a/z.csv", "b.csv"]
    assert listed(f"file://{tmp_path}/", tmp_path) == ["a/b/c.csv", "a/z.csv", "b.csv"]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.csv", ["b.csv"]),
        ("*/*.csv", ["a/z.csv"]),
        ("**/*.csv", ["a/b/c.csv", "a/z.csv", "b.csv"]),
        ("a/**", ["b/c.csv", "n.txt", "z.csv"]),
        ("a/[xyz].csv", ["z.csv"]),
        ("?.csv", ["b.csv"]),
        ("_t/*.csv", ["q.csv"]),
        ("**/b/**/*.csv", ["a/b/c.csv"]),
    ],
)
def test_globs(tmp_path: Path, glob: str, expected: list[str]) -> None:
    put(tmp_path, "b.csv", "a/z.csv", "a/b/c.csv", "a/n.txt", "_t/q.csv")
    assert listed(f"file://{tmp_path}/{glob}", tmp_path) == expected


def test_a_filter_is_on_names_or_on_paths(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "a.txt", "x/b.csv", "x/y/c.csv")
    url = f"file://{tmp_path}"
    assert listed(url, tmp_path, "*.csv") == ["a.csv", "x/b.csv", "x/y/c.csv"]
    assert listed(url, tmp_path, "x/*.csv") == ["x/b.csv"]


def test_a_name_with_glob_characters_is_found_as_itself(tmp_path: Path) -> None:
    put(tmp_path, "a[1].csv", "a1.csv")
    assert listed(f"file://{tmp_path}/a[1].csv", tmp_path) == ["a[1].csv"]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    error = refused(f"file://{tmp_path}/nope.csv", Access((tmp_path,)))
    assert error.code == "source_not_found"
    assert f"{tmp_path}/nope.csv" in error.detail


@pytest.mark.parametrize("end", ["", "/*.csv", "/**/*.csv"])
def test_a_folder_without_matches_names_folder_and_filter(tmp_path: Path, end: str) -> None:
    put(tmp_path, "d/a.txt")
    error = refused(f"file://{tmp_path}/d{end}", Access((tmp_path,)), "*.parquet")
    assert error.code == "no_matching_files"
    assert f"{tmp_path}/d" in error.detail
    assert "*.parquet" in error.detail


def test_an_empty_file_is_listed_for_its_reader_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "e.csv").touch()
    assert [f.size for f in infos(f"file://{tmp_path}", tmp_path)] == [0]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///etc/passwd", "path_outside_root"),
        ("file:///", "path_outside_root"),
        ("file:///*", "path_outside_root"),
        ("file://{root}/../x", "path_outside_root"),
        ("file://{root}/%2e%2e/x", "path_outside_root"),
        ("file://{root}/..%2fx", "path_outside_root"),
        ("file://{root}x/a.csv", "path_outside_root"),
        ("file://{root}/a%00b", "invalid_url"),
        ("file://host/a", "invalid_url"),
        ("file:a.csv", "invalid_url"),
        ("file://{root}/" + "a" * 300, "invalid_url"),
        ("a.csv", "invalid_url"),
        ("file://[", "invalid_url"),
        ("gopher://x/y", "unknown_store"),
        ("file://{root}/**/a/**/b/**/c/**/d/**/e", "invalid_glob"),
    ],
)
def test_what_is_refused_before_anything_is_read(tmp_path: Path, url: str, code: str) -> None:
    url = url.replace("{root}", str(tmp_path))
    with pytest.raises(PermanentError) as caught:
        store_for(url, Access((tmp_path,))).check(url)
    assert caught.value.code == code


def test_without_roots_the_answer_says_which_setting(tmp_path: Path) -> None:
    assert "ONEBLOCK_FILE_ROOTS" in refused(f"file://{tmp_path}", Access()).detail


def test_symlinks_work_inside_the_roots_and_are_refused_out_of_them(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    put(root, "a.csv")
    put(out, "secret.csv")
    (root / "b.csv").symlink_to("a.csv")
    assert listed(f"file://{root}", root) == ["a.csv", "b.csv"]
    (root / "c.csv").symlink_to(out / "secret.csv")
    (root / "d").symlink_to(out)
    for url in (f"file://{root}", f"file://{root}/c.csv", f"file://{root}/d/secret.csv"):
        error = refused(url, Access((root,)))
        assert error.code == "path_outside_root"
        assert str(out) in error.detail


def test_a_symlink_loop_ends(tmp_path: Path) -> None:
    put(tmp_path, "a/b.csv")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert listed(f"file://{tmp_path}", tmp_path) == ["a/b.csv"]


def test_pipes_and_devices_are_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(f"file://{tmp_path}/pipe", Access((tmp_path,))).code == "not_a_file"
    assert refused(f"file://{tmp_path}", Access((tmp_path,))).code == "not_a_file"
    with pytest.raises(PermanentError, match="no regular file"):
        open_uri(f"file://{tmp_path}/pipe")
    assert refused("file:///dev/zero", Access((Path("/dev"),))).code == "not_a_file"


def test_the_warehouse_is_no_source_even_below_a_root(tmp_path: Path) -> None:
    put(tmp_path, "wh/uploads/x", "a.csv")
    access = Access((tmp_path,), private=(tmp_path / "wh",))
    assert refused(f"file://{tmp_path}/wh/uploads/x", access).code == "path_outside_root"
    assert refused(f"file://{tmp_path}", access).code == "path_outside_root"


def test_a_file_that_changed_or_became_a_symlink_is_not_read(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "b.csv")
    found = infos(f"file://{tmp_path}", tmp_path)[0]
    (tmp_path / "a.csv").write_text("longer than it was before, by far")
    with pytest.raises(PermanentError) as caught:
        open_uri(found.uri, found.etag)
    assert caught.value.code == "source_changed"
    (tmp_path / "a.csv").unlink()
    (tmp_path / "a.csv").symlink_to("b.csv")
    with pytest.raises(PermanentError):
        open_uri(found.uri)


def test_names_of_any_bytes_are_listed_and_opened(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.csv")
    (tmp_path / name).write_text("x")
    [found] = infos(f"file://{tmp_path}", tmp_path)
    assert found.path.encode()
    with open_uri(found.uri) as file:
        assert file.read() == b"x"


def test_opening_travels_to_workers(tmp_path: Path) -> None:
    put(tmp_path, "a.csv")
    [found] = infos(f"file://{tmp_path}/a.csv", tmp_path)
    opener = pickle.loads(pickle.dumps(partial(open_uri, pin=found.etag)))
    with opener(found.uri) as file:
        assert file.seekable()
