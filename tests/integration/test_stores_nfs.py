"""nfs:// on a real server, and through a mount: what is listed and read, refused, and survived."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libs.common.errors import OneBlockError, PermanentError, TransientError
from libs.stores import Access, Outside, Pin, SourceInfo, open_uri, store_for
from tests.faults import fault_proxy
from tests.nfs import NfsServer, nfs_server

BIG = random.Random(0).randbytes(9_000_000)
NAMES = ["a.csv", "b/c d%é?.csv", "b/deep/d.csv", "b/n.txt"]


@pytest.fixture(scope="module")
def nfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NfsServer]:
    with nfs_server(tmp_path_factory.mktemp("nfs")) as server:
        for name in [*NAMES, "_hidden/x.csv", "b/.dot.csv"]:
            server.put(f"export/{name}", f"a,b\n{name},1\n".encode())
        server.put("export/empty.csv", b"")
        server.put("big", BIG)
        yield server


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEBLOCK_NFS_SERVERS", "127.0.0.1 *.example.com")
    monkeypatch.setenv("ONEBLOCK_READ_PATIENCE", "3")


def listed(url: str, filter: str | None = None) -> list[SourceInfo]:
    return list(store_for(url, Access()).list(url, filter))


def refused(do: Callable[[], object], kind: type[OneBlockError] = PermanentError) -> OneBlockError:
    with pytest.raises(kind) as caught:
        do()
    return caught.value


@pytest.mark.parametrize("query", ["", "?version=3"])
@pytest.mark.parametrize(
    ("path", "filter", "paths"),
    [
        ("/export", None, [*NAMES, "empty.csv"]),
        ("/export/", "*.txt", ["b/n.txt"]),
        ("/export/a.csv", None, ["a.csv"]),
        ("/export/b/c%20d%25%C3%A9%3F.csv", None, ["c d%é?.csv"]),
        ("/export/*.csv", None, ["a.csv", "empty.csv"]),
        ("/export/?.csv", None, ["a.csv"]),
        ("/export/**/*.csv", None, ["a.csv", "b/c d%é?.csv", "b/deep/d.csv", "empty.csv"]),
        ("/export/_hidden", None, ["x.csv"]),
        ("/big", None, ["big"]),
    ],
)
def test_files_folders_and_globs(
    nfs: NfsServer, path: str, query: str, filter: str | None, paths: list[str]
) -> None:
    found = listed(nfs.url + path + query, filter)
    assert [one.path for one in found] == paths
    for one in found:
        with open_uri(one.uri, Pin(one.etag, one.size).text()) as file:
            assert len(file.read()) == one.size


def test_what_is_not_there_or_can_not_be_says_which(nfs: NfsServer) -> None:
    assert refused(lambda: listed(f"{nfs.url}/nope/x.csv")).code == "source_not_found"
    assert refused(lambda: listed(f"{nfs.url}/export/*.png")).code == "no_matching_files"
    assert "'*.png'" in refused(lambda: listed(f"{nfs.url}/export", "*.png")).detail
    assert refused(lambda: open_uri(f"{nfs.url}/export").read()).code == "not_a_file"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("nfs://other/x", "nfs_server_forbidden"),
        ("nfs://127.0.0.1.evil.com/x", "nfs_server_forbidden"),
        ("nfs://a.example.com/../x", "invalid_url"),
        ("nfs://a.example.com/%2e%2e/x", "invalid_url"),
        ("nfs://a.example.com/a%00b", "invalid_url"),
        ("nfs://a.example.com/%ff", "invalid_url"),
        ("nfs://a.example.com", "invalid_url"),
        ("nfs://a.example.com/x?version=2", "invalid_url"),
        ("nfs://a.example.com/x?uid=0", "invalid_url"),
        ("nfs://u@a.example.com/x", "invalid_url"),
    ],
)
def test_what_is_refused_before_anything_is_sent(url: str, code: str) -> None:
    assert refused(lambda: store_for(url, Access()).check(url)).code == code


def test_without_a_list_of_servers_the_answer_says_which_setting() -> None:
    store = store_for("nfs://nas/x", Access(outside=Outside(nfs_servers="")))
    assert "ONEBLOCK_NFS_SERVERS" in refused(lambda: store.check("nfs://nas/x")).detail


def test_reading_anywhere_gives_what_was_stored(nfs: NfsServer) -> None:
    chosen = random.Random(1)
    with open_uri(f"{nfs.url}/big") as file:
        assert file.read() == BIG
        for _ in range(30):
            start = chosen.randrange(len(BIG))
            size = chosen.choice([1, 100, 70_000, 5_000_000])
            file.seek(start)
            assert file.read(size) == BIG[start : start + size]


def test_a_file_that_changes_in_the_middle_is_never_mixed(nfs: NfsServer) -> None:
    nfs.put("changing", BIG)
    time.sleep(0.2)
    with open_uri(f"{nfs.url}/changing") as file:
        assert file.read(1000) == BIG[:1000]
        nfs.put("changing", BIG[::-1])
        time.sleep(0.2)
        assert refused(file.read).code == "source_changed"


@pytest.mark.parametrize("state", ["another", "shorter", "gone"])
def test_what_is_not_as_listed_is_not_read(nfs: NfsServer, state: str) -> None:
    path = nfs.put("listed", b"12345")
    time.sleep(0.2)
    [found] = listed(f"{nfs.url}/listed")
    if state == "gone":
        path.unlink()
    else:
        nfs.put("listed", b"54321" if state == "another" else b"1")
    time.sleep(0.2)
    error = refused(lambda: open_uri(found.uri, Pin(found.etag, found.size).text()).read())
    assert error.code == "source_changed"


def test_a_server_that_goes_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    with nfs_server(tmp_path) as server:
        server.put("big", BIG)
        with open_uri(f"{server.url}/big") as file:
            assert file.read(1000) == BIG[:1000]
            server.kill()
            back = threading.Timer(1.0, server.start)
            back.start()
            assert file.read() == BIG[1000:]
            back.join()


def test_a_server_that_stays_away_is_told_of(nfs: NfsServer) -> None:
    began = time.monotonic()
    error = refused(lambda: listed("nfs://127.0.0.1:1/x"), TransientError)
    assert error.code == "source_unavailable"
    assert time.monotonic() - began < 10


def test_a_connection_that_breaks_in_the_middle_is_made_again(nfs: NfsServer) -> None:
    with fault_proxy(nfs.port) as proxy, open_uri(f"nfs://127.0.0.1:{proxy.port}/big") as file:
        proxy.set(reset_after=1_500_000, times=2)
        assert file.read() == BIG
        assert proxy.hits == 2


def test_a_mounted_export_is_read_through_its_mount_by_the_same_names(
    nfs: NfsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBLOCK_NFS_MOUNTS", f"nas:/export={nfs.data / 'export'}")
    monkeypatch.setenv("ONEBLOCK_NFS_SERVERS", "")
    found = listed("nfs://nas/export/b", None)
    assert [f.path for f in found] == ["c d%é?.csv", "deep/d.csv", "n.txt"]
    assert [f.uri for f in found][1] == "nfs://nas/export/b/deep/d.csv"
    with open_uri(found[1].uri, Pin(found[1].etag, found[1].size).text()) as file:
        assert len(file.read()) == found[1].size
    assert refused(lambda: listed("nfs://nas/exported/x")).code == "nfs_server_forbidden"
    (nfs.data / "export" / "out.csv").symlink_to(tmp_path)
    try:
        assert refused(lambda: listed("nfs://nas/export/out.csv")).code == "path_outside_root"
    finally:
        (nfs.data / "export" / "out.csv").unlink()
