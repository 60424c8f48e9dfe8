"""s3:// on a real SeaweedFS: what is listed and read, what is refused, and what faults come to."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from libs.common.errors import OneBlockError, PermanentError, TransientError
from libs.stores import Access, Outside, Pin, Reach, SourceInfo, open_uri, store_for
from tests.faults import FaultProxy, fault_proxy
from tests.objectstore import ADMIN, BUCKET, OPEN, READER, ObjectStore, object_store

ACCESS = Access(outside=Outside(private_networks="loopback", read_patience=2.0))
BIG = random.Random(0).randbytes(9_000_000)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("weed")) as store:
        store.put("big", BIG)
        yield store


@pytest.fixture(scope="module")
def proxy(s3: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(s3.port) as found:
        yield found


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (key, value) in {"ADMIN": ADMIN, "READER": READER, "WRONG": ("k", "v")}.items():
        monkeypatch.setenv(f"ONEBLOCK_SECRET_{name}__ACCESS_KEY_ID", key)
        monkeypatch.setenv(f"ONEBLOCK_SECRET_{name}__SECRET_ACCESS_KEY", value)
    monkeypatch.setenv("ONEBLOCK_PRIVATE_NETWORKS", "loopback")
    monkeypatch.setenv("ONEBLOCK_READ_PATIENCE", "2")


def reach(endpoint: str, secret: str = "admin", **options: JsonValue) -> Reach:
    return Reach({"endpoint": endpoint, **options}, secret)


def listed(url: str, how: Reach, filter: str | None = None) -> list[SourceInfo]:
    return list(store_for(url, ACCESS, how).list(url, filter))


def refused(do: Callable[[], object], kind: type[OneBlockError] = PermanentError) -> OneBlockError:
    with pytest.raises(kind) as caught:
        do()
    return caught.value


NAMES = [
    "a.csv",
    "b/c d+%25é.csv",
    "b/deep/d.csv",
    "b/n.txt",
    "new\nline.csv",
    "q%2Fr.csv",
    "w[1].csv",
]


@pytest.fixture(scope="module")
def tree(s3: ObjectStore) -> None:
    for name in [*NAMES, "_hidden/x.csv", "b/.dot.csv", "b/folder/"]:
        s3.put(f"tree/{name}", b"" if name.endswith("/") else f"a,b\n{name},1\n".encode())
    s3.put("treeless.csv", b"a\n")


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("url", "filter", "paths"),
    [
        ("s3://data/tree", None, NAMES),
        ("s3://data/tree/", None, NAMES),
        ("s3://data/tree/a.csv", None, ["a.csv"]),
        ("s3://data/tree/w[1].csv", None, ["w[1].csv"]),
        ("s3://data/tree/new\nline.csv", None, ["new\nline.csv"]),
        ("s3://data/tree/*.csv", None, ["a.csv", "new\nline.csv", "q%2Fr.csv", "w[1].csv"]),
        ("s3://data/tree/b/*", None, ["c d+%25é.csv", "n.txt"]),
        ("s3://data/tree/**/*.csv", None, [n for n in NAMES if n.endswith(".csv")]),
        ("s3://data/tree/b/d*/*.csv", None, ["deep/d.csv"]),
        ("s3://data/tree*", None, ["treeless.csv"]),
        ("s3://data/tree/_hidden", None, ["x.csv"]),
        ("s3://data/tree", "*.txt", ["b/n.txt"]),
        ("s3://data/tree", "b/*.csv", ["b/c d+%25é.csv"]),
    ],
)
def test_objects_prefixes_and_globs(
    s3: ObjectStore, url: str, filter: str | None, paths: list[str]
) -> None:
    found = listed(url, reach(s3.endpoint), filter)
    assert [one.path for one in found] == sorted(paths, key=str.encode)
    for one in found:
        with open_uri(one.uri, Pin(one.etag, one.size).text(), reach(s3.endpoint)) as file:
            assert len(file.read()) == one.size > 0


@pytest.mark.usefixtures("tree")
def test_what_is_not_there_or_not_allowed_says_which(s3: ObjectStore) -> None:
    def code(url: str, secret: str = "admin", filter: str | None = None) -> tuple[str, str]:
        error = refused(lambda: listed(url, reach(s3.endpoint, secret), filter))
        return error.code, error.detail

    assert code("s3://data/nope")[0] == "source_not_found"
    assert "no such bucket" in code("s3://nobucket/x")[1]
    assert code("s3://data/tree/*.parquet")[0] == "no_matching_files"
    assert "'*.png'" in code("s3://data/tree", filter="*.png")[1]
    assert "access key is unknown" in code("s3://data/tree", "wrong")[1]
    assert code("s3://data/tree", "reader")[0] == "source_forbidden"
    assert "secretRef" in code("s3://data/tree", "")[1]
    assert code("s3://data/tree", "absent")[0] == "secret_not_found"


def test_who_may_read_one_bucket_reads_that_one(s3: ObjectStore) -> None:
    s3.put("x/y.csv", b"a\n1\n", bucket=OPEN)
    assert [f.path for f in listed(f"s3://{OPEN}/x", reach(s3.endpoint, "reader"))] == ["y.csv"]


def test_reading_anywhere_gives_what_was_stored(s3: ObjectStore) -> None:
    chosen, url = random.Random(1), f"s3://{BUCKET}/big"
    with open_uri(url, None, reach(s3.endpoint)) as file:
        assert file.read() == BIG
        for _ in range(30):
            start = chosen.randrange(len(BIG))
            size = chosen.choice([1, 100, 70_000, 5_000_000])
            file.seek(start)
            assert file.read(size) == BIG[start : start + size]
        file.seek(-10, 2)
        assert file.read(20) == BIG[-10:]
        assert file.read(1) == b""


def test_an_object_that_changes_in_the_middle_is_never_mixed(s3: ObjectStore) -> None:
    s3.put("changing", BIG)
    with open_uri(f"s3://{BUCKET}/changing", None, reach(s3.endpoint)) as file:
        assert file.read(1000) == BIG[:1000]
        s3.put("changing", BIG[::-1])
        error = refused(file.read)
    assert error.code == "source_changed"
    assert "s3://data/changing" in error.detail


@pytest.mark.parametrize("state", ["another", "shorter", "gone"])
def test_what_is_not_as_listed_is_not_read(s3: ObjectStore, state: str) -> None:
    s3.put("listed", b"12345")
    [found] = listed(f"s3://{BUCKET}/listed", reach(s3.endpoint))
    if state == "gone":
        s3.client().delete_object(Bucket=BUCKET, Key="listed")
    else:
        s3.put("listed", b"54321" if state == "another" else b"1")
    pin = Pin(found.etag, found.size, found.version_id).text()
    with open_uri(found.uri, pin, reach(s3.endpoint)) as file:
        assert refused(file.read).code == "source_changed"


def test_where_a_bucket_keeps_versions_the_listed_one_is_read(s3: ObjectStore) -> None:
    client = s3.client()
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for name in ("d/a", "d/b", "d/gone"):
        s3.put(name, b"old", bucket="versioned")
    s3.put("d/a", b"newer", bucket="versioned")
    client.delete_object(Bucket="versioned", Key="d/gone")
    found = listed("s3://versioned/d", reach(s3.endpoint))
    assert [(f.path, f.size) for f in found] == [("a", 5), ("b", 3)]
    assert all(f.version_id for f in found)
    s3.put("d/a", b"newest of all", bucket="versioned")
    pin = Pin(found[0].etag, found[0].size, found[0].version_id).text()
    with open_uri(found[0].uri, pin, reach(s3.endpoint)) as file:
        assert file.read() == b"newer"


def test_virtual_hosts_are_addressed_by_name(s3: ObjectStore) -> None:
    how = reach(s3.endpoint.replace("127.0.0.1", "localhost"), addressing="virtual")
    error = refused(lambda: listed("s3://data/big", how), OneBlockError)
    assert error.code in ("dns", "endpoint_forbidden")  # data.localhost: not every resolver knows


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254", "http://127.0.0.1:9", "http://2130706433", "http://0x7f.1",
        "http://[::ffff:169.254.169.254]", "http://[64:ff9b::a9fe:a9fe]", "http://localhost:1",
        "http://10.0.0.1", "http://100.100.100.200",
    ],
)  # fmt: skip
def test_an_endpoint_inside_is_refused_before_anything_is_sent(endpoint: str) -> None:
    store = store_for("s3://bkt/k", Access(outside=Outside(private_networks="")), reach(endpoint))
    for do in (lambda: store.check("s3://bkt/k"), lambda: list(store.list("s3://bkt/k", None))):
        assert refused(do).code == "endpoint_forbidden"


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "ftp://x"}, {"endpoint": "http://u:p@x"}, {"endpoint": "http://x/path"},
        {"endpoint": "http://x?y"}, {"endpoint": "x"}, {"region": "eu/../x"},
        {"addressing": "side"}, {"anonymous": "maybe"},
    ],
)  # fmt: skip
def test_an_option_that_can_not_be_is_named(options: dict[str, JsonValue]) -> None:
    error = refused(lambda: store_for("s3://bkt/k", ACCESS, Reach(options)).check("s3://bkt/k"))
    assert error.code == "invalid_option"
    assert str(error.problems[0].path).startswith("spec.source.options.")


@pytest.mark.parametrize("url", ["s3://", "s3://b?/x", "s3:///x", "s3://a b/x"])
def test_a_url_that_names_no_bucket_is_refused(url: str) -> None:
    assert refused(lambda: store_for(url, ACCESS, Reach()).check(url)).code == "invalid_url"


def test_our_own_credentials_go_to_our_own_endpoint_alone(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from libs.stores import _s3_options as options

    monkeypatch.setattr(options, "_ambient", options._Ambient())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ADMIN[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ADMIN[1])
    assert options.account(reach(s3.endpoint, "")).credentials is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    assert options.account(reach(s3.endpoint, "")).credentials is not None
    own = options.account(Reach())
    assert own.trusted
    assert ADMIN[1] not in repr(own)
    assert [f.size for f in listed("s3://data/big", Reach())] == [len(BIG)]


def test_amazon_s_hosts_come_from_region_and_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    from libs.stores._s3_options import Account

    def base(bucket: str, region: str = "eu-central-1") -> tuple[str, str]:
        return Account("", region, "auto", None, trusted=True).base(bucket)

    assert base("b-1x") == ("https://b-1x.s3.eu-central-1.amazonaws.com", "")
    assert base("b.dots") == ("https://s3.eu-central-1.amazonaws.com", "/b.dots")
    assert base("b-1x", "cn-north-1")[0].endswith("s3.cn-north-1.amazonaws.com.cn")


# Faults, each through a proxy in front of the server.


def through(proxy: FaultProxy) -> Reach:
    return reach(f"http://127.0.0.1:{proxy.port}", anonymous=False)


def read_big(proxy: FaultProxy) -> bytes:
    with open_uri(f"s3://{BUCKET}/big", None, through(proxy)) as file:
        return file.read()


def test_half_of_the_answers_being_503_changes_nothing(proxy: FaultProxy) -> None:
    proxy.set(answer=503, share=0.5)
    assert read_big(proxy) == BIG
    assert len(listed("s3://data/big", through(proxy))) == 1
    assert proxy.hits


def test_a_connection_reset_in_the_middle_goes_on_where_it_was(proxy: FaultProxy) -> None:
    proxy.set(reset_after=1_500_000, times=3)
    assert read_big(proxy) == BIG
    assert proxy.hits == 3


@pytest.mark.parametrize("fault", [{"answer": 503}, {"refuse": True}, {"silent": True}])
def test_a_server_that_stays_away_is_told_of_within_patience(
    proxy: FaultProxy, fault: dict[str, object]
) -> None:
    proxy.set(**fault)
    for do in (lambda: listed("s3://data/tree", through(proxy)), lambda: read_big(proxy)):
        began = time.monotonic()
        assert refused(do, TransientError).code == "source_unavailable"
        assert time.monotonic() - began < 10


def test_a_server_that_comes_back_is_waited_for(proxy: FaultProxy) -> None:
    proxy.set(refuse=True)
    threading.Timer(0.7, proxy.set).start()
    assert read_big(proxy) == BIG


def test_bytes_that_come_too_slowly_are_not_waited_for(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.stores._patience.GRACE", 0.5)
    monkeypatch.setenv("ONEBLOCK_READ_MIN_RATE", "10000000")
    proxy.set(rate=200_000)
    assert refused(lambda: read_big(proxy), TransientError).code == "too_slow"


def test_a_server_that_redirects_or_speaks_otherwise_is_not_followed(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            moved = "moved" in self.path
            self.send_response(307 if moved else 200)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/inside")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        how = reach(f"http://127.0.0.1:{server.server_port}")
        for url in ("s3://moved/", "s3://other/"):
            error = refused(lambda url=url: listed(url, how))  # type: ignore[misc]
            assert error.code == "source_unreadable"
        assert "/inside" not in asked
    finally:
        server.shutdown()
        server.server_close()
