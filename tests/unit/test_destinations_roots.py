"""Local destinations lie below the operator's roots, whatever the URL tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.errors import PermanentError
from services.sink.destinations import Access
from services.sink.roots import locate


def place(url: str, *roots: Path, closed: tuple[Path, ...] = ()) -> Path:
    return locate(url, Access(roots=roots, closed=closed), "spec.destination[0]")


@pytest.mark.parametrize(
    "form", ["{}/a/b", "file://{}/a/b", "file://localhost{}/a/b/", "{}//a/./b/", "file://{}/%61/b"]
)
def test_a_folder_below_a_root_is_found_in_every_spelling(form: str, tmp_path: Path) -> None:
    assert place(form.format(tmp_path), tmp_path) == tmp_path / "a" / "b"


def test_a_folder_may_have_a_name_in_any_language(tmp_path: Path) -> None:
    assert place((tmp_path / "häuser 价格?#").as_uri(), tmp_path) == tmp_path / "häuser 价格?#"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relative/folder",
        "file:relative",
        "file://host/folder",
        "https://host/folder",
        "file:///",
        "/",
        "file:///a/../b",
        "file:///a/%2e%2e/b",
        "/a/../b",
        "file:///a%00b",
        "file:///a%5Cb",
        "file:///a%0Ab",
        "file:///a?b",
        "file:///a#b",
        "file:///%FF%FE",
        "/a/.oneblock-1234-run-1",
        "/a/" + "x" * 256,
    ],
)
def test_what_is_no_plain_absolute_folder_is_refused(url: str) -> None:
    with pytest.raises(PermanentError) as caught:
        place(url, Path("/"))
    assert (caught.value.code, caught.value.path) == (
        "invalid_destination",
        "spec.destination[0].url",
    )


def refused(url: str, *roots: Path, closed: tuple[Path, ...] = ()) -> str:
    with pytest.raises(PermanentError) as caught:
        place(url, *roots, closed=closed)
    assert caught.value.code == "path_outside_root"
    return caught.value.detail


def test_a_folder_elsewhere_is_refused_and_the_roots_are_named(tmp_path: Path) -> None:
    assert str(tmp_path) in refused("/etc/cron.d", tmp_path)
    refused(f"{tmp_path}-not/x", tmp_path)


def test_a_root_itself_is_no_destination(tmp_path: Path) -> None:
    refused(str(tmp_path), tmp_path)


def test_without_roots_the_operator_is_told_what_to_set(tmp_path: Path) -> None:
    assert "ONEBLOCK_SINK_ROOTS" in refused(str(tmp_path / "a"))


def test_a_symlink_that_leads_out_is_refused_wherever_it_is(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    refused(str(root / "link"), root)
    refused(str(root / "link" / "deep" / "er"), root)


def test_a_symlink_within_the_roots_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert place(str(tmp_path / "link"), tmp_path) == tmp_path / "real"


def test_a_symlink_that_only_looks_like_ours_is_not_trusted(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / ".oneblock-x").symlink_to(outside)
    (root / "indirect").symlink_to(".oneblock-x")
    (root / "climbing").symlink_to(".oneblock-x/../../outside")
    refused(str(root / "indirect"), root)
    refused(str(root / "climbing"), root)


def test_the_warehouse_is_no_destination_even_below_a_root(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    for inside in (warehouse, warehouse / "default" / "x.lance"):
        assert "platform's own" in refused(str(inside), tmp_path, closed=(warehouse,))
