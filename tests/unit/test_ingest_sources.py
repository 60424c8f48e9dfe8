"""Where a run's files come from: copied by content, opened, filtered; against a real web server."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common import manifest
from libs.common.errors import Cancelled, OneBlockError, PermanentError
from libs.stores import Access, Outside, Pin, SourceInfo, open_uri
from libs.stores.upload import upload_path
from services.ingest.sources import sources
from tests.archives import COMPRESS, FILES, tar_of, zip_of
from tests.webs import File, Web, redirect, web_server

BOTH = {"a.csv": FILES["a.csv"], "deep/b.csv": FILES["deep/b.csv"]}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as serving:
        yield serving


@pytest.fixture
def access(tmp_path: Path) -> Access:
    outside = Outside(private_networks="loopback", http_ports="*", read_patience=2)
    (tmp_path / "data").mkdir()
    return Access(
        roots=(tmp_path / "data",),
        private=(tmp_path / "wh",),
        uploads=tmp_path / "wh" / "uploads",
        outside=outside,
    )


def found(access: Access, *urls: str, **source: object) -> list[SourceInfo]:
    form = {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": "x"},
        "spec": {"source": {"type": "csv", "url": list(urls), **source}},
    }
    return list(sources(manifest.parse(form), access))


def contents(files: list[SourceInfo]) -> dict[str, bytes]:
    """Path → bytes, opened as a worker opens them."""
    read = {}
    for one in files:
        with open_uri(one.uri, Pin(one.etag, one.size, one.version_id).text()) as file:
            read[one.path] = file.read()
        assert len(read[one.path]) == one.size
    return read


def code(access: Access, *urls: str, **source: object) -> str:
    with pytest.raises(OneBlockError) as caught:
        found(access, *urls, **source)
    assert caught.value.path == "spec.source.url"
    return caught.value.code


# copies


def test_a_file_from_the_web_is_copied_by_content(web: Web, access: Access) -> None:
    [one] = found(access, web.at("/a.csv", File(b"x\n1\n")))
    assert one.uri.startswith("file://")
    assert contents([one]) == {"a.csv": b"x\n1\n"}
    assert access.uploads
    assert upload_path(access.uploads, one.sha256).read_bytes() == b"x\n1\n"


def test_an_unchanged_file_is_asked_for_and_not_sent_again(web: Web, access: Access) -> None:
    url = web.at("/same.csv", File(b"x\n1\n"))
    first, second = found(access, url), found(access, url)
    assert first == second
    assert [h.get("If-None-Match") for _, h in web.asked("/same.csv")] == [None, '"one"']
    web.at("/same.csv", File(b"x\n2\n", etag='"two"'))
    assert contents(found(access, url)) == {"same.csv": b"x\n2\n"}


def test_a_copy_that_is_gone_is_made_again(web: Web, access: Access) -> None:
    url = web.at("/gone.csv", File(b"x\n1\n"))
    [one] = found(access, url)
    assert access.uploads
    upload_path(access.uploads, one.sha256).unlink()
    assert contents(found(access, url)) == {"gone.csv": b"x\n1\n"}


def test_without_copies_the_web_is_read_where_it_lies(
    web: Web, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBLOCK_PRIVATE_NETWORKS", "loopback")
    monkeypatch.setenv("ONEBLOCK_HTTP_PORTS", "*")
    url = web.at("/there.csv", File(b"x\n1\n"))
    [one] = found(access, url, copy="never")
    assert (one.uri, one.etag) == (url, '"one"')
    assert contents([one]) == {"there.csv": b"x\n1\n"}


def test_files_are_copied_where_the_manifest_wants_it(access: Access, tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.csv"
    path.write_bytes(b"x\n1\n")
    [referred] = found(access, path.as_uri())
    assert referred.uri == path.as_uri()
    [copied] = found(access, path.as_uri(), copy="always")
    assert copied.sha256
    path.write_bytes(b"x\n2\n")
    assert contents([copied]) == {"a.csv": b"x\n1\n"}


def test_nothing_is_left_of_a_copy_that_failed(web: Web, access: Access) -> None:
    url = web.at("/big.csv", File(b"x" * 100_000))
    tight = Access(uploads=access.uploads, outside=Outside(
        private_networks="loopback", http_ports="*", http_max_bytes=1000
    ))  # fmt: skip
    assert code(tight, url) == "too_large"
    assert access.uploads
    assert [p for p in access.uploads.rglob("*") if p.is_file()] == []


def test_a_cancelled_run_ends_its_download(web: Web, access: Access) -> None:
    def stop() -> None:
        raise Cancelled("run-1")

    url = web.at("/unwanted.csv", File(b"x" * 100))
    form = {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": "x"},
        "spec": {"source": {"type": "csv", "url": url}},
    }
    with pytest.raises(Cancelled):
        list(sources(manifest.parse(form), access, stop))


@pytest.mark.parametrize(
    ("path", "expected"), [("/no", "source_not_found"), ("/away", "redirect_forbidden")]
)
def test_what_the_web_answers_is_told_with_its_place(
    web: Web, access: Access, path: str, expected: str
) -> None:
    web.at("/away", redirect("http://169.254.169.254/"))
    assert code(access, web.url + path) == expected


# compressed and archives


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("copy", ["auto", "never"])
def test_a_compressed_file_is_read_as_what_is_in_it(
    access: Access, tmp_path: Path, ending: str, copy: str
) -> None:
    path = tmp_path / "data" / f"a.csv.{ending}"
    path.write_bytes(COMPRESS[ending](b"x\n1\n" * 100_000))
    [one] = found(access, path.as_uri(), copy=copy)
    assert one.uri.startswith("file://")
    assert bool(one.sha256) == (copy == "auto")
    assert contents([one]) == {"a.csv": b"x\n1\n" * 100_000}
    assert found(access, path.as_uri(), copy=copy) == [one]


@pytest.mark.parametrize("copy", ["auto", "never"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.zip", zip_of(BOTH)),
        ("x.tar", tar_of(BOTH)),
        ("x.tar.gz", gzip.compress(tar_of(BOTH))),
        ("x.tgz", gzip.compress(tar_of(BOTH))),
        ("x.tar.zst", COMPRESS["zst"](tar_of(BOTH))),
        ("x.tar.bz2", COMPRESS["bz2"](tar_of(BOTH))),
        ("x.tar.xz", COMPRESS["xz"](tar_of(BOTH))),
    ],
)
def test_an_archive_is_its_members(
    access: Access, tmp_path: Path, name: str, content: bytes, copy: str
) -> None:
    path = tmp_path / "data" / name
    path.write_bytes(content)
    assert contents(found(access, path.as_uri(), copy=copy)) == BOTH
    assert contents(found(access, path.as_uri(), filter="b.*")) == {
        "deep/b.csv": BOTH["deep/b.csv"]
    }
    (tmp_path / "data" / "plain.csv").write_bytes(b"x\n")
    folder = found(access, (tmp_path / "data").as_uri(), copy=copy)
    outer = "x.tar" if "tar" in name or "tgz" in name else name
    assert {one.path for one in folder} >= {"plain.csv"}
    assert all(one.path.startswith(("plain", "x.")) for one in folder), outer


def test_an_archive_from_the_web_is_opened(web: Web, access: Access) -> None:
    assert contents(found(access, web.at("/x.tar.gz", File(gzip.compress(tar_of(BOTH)))))) == BOTH
    assert contents(found(access, web.at("/x.zip", File(zip_of(BOTH))))) == BOTH


def test_a_large_deflated_member_is_kept_expanded(access: Access, tmp_path: Path) -> None:
    large = bytes(range(256)) * 140_000
    (tmp_path / "data" / "x.zip").write_bytes(zip_of({"large.csv": large, "small.csv": b"x"}))
    files = found(access, (tmp_path / "data" / "x.zip").as_uri())
    assert [bool(one.sha256) for one in files] == [True, False]
    assert contents(files) == {"large.csv": large, "small.csv": b"x"}
    again = found(access, (tmp_path / "data" / "x.zip").as_uri())
    assert again == files


def test_archives_can_be_files_like_any_other(access: Access, tmp_path: Path) -> None:
    path = tmp_path / "data" / "x.zip"
    path.write_bytes(zip_of(BOTH))
    [one] = found(access, path.as_uri(), options={"archives": False})
    assert one.path == "x.zip"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bomb.zip", zip_of({"zeros": bytes(100_000_000)}), "decompression_limit"),
        ("bomb.gz", gzip.compress(bytes(100_000_000), 1), "decompression_limit"),
        ("plain.gz", b"x,y\n1,2\n", "corrupt_file"),
        ("out.tar", tar_of({"../x": b"1"}), "unsafe_archive"),
        ("empty.zip", zip_of({}), "no_matching_files"),
        ("zero.zip", b"", "corrupt_file"),
    ],
)
def test_a_bad_archive_fails_the_run_with_its_name(
    access: Access, tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / "data" / name).write_bytes(content)
    with pytest.raises(PermanentError) as caught:
        found(access, (tmp_path / "data" / name).as_uri())
    assert caught.value.code == expected
    assert name in caught.value.detail


def test_one_content_under_two_names_is_two_files(web: Web, access: Access) -> None:
    both = found(access, web.at("/one.csv", File(b"x\n")), web.at("/two.csv", File(b"x\n")))
    assert [one.path for one in both] == ["one.csv", "two.csv"]
    assert len({one.uri for one in both}) == 1


def test_many_members_are_listed_fast(access: Access, tmp_path: Path) -> None:
    made = tar_of({f"{n:05}.csv": b"x" for n in range(5_000)})
    (tmp_path / "data" / "many.tar").write_bytes(made)
    assert len(found(access, (tmp_path / "data" / "many.tar").as_uri())) == 5_000
    assert io.BytesIO(made).getbuffer().nbytes > 5_000_000
