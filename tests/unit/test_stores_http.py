"""http(s):// against a real server: whole files, cut ones, unchanged ones, and all answers."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pytest

from libs.common.errors import OneBlockError, PermanentError, TransientError
from libs.stores import Access, Outside, Pin, Reach
from libs.stores._download import Download, Fetched, State, wanted_pause
from libs.stores._guard import Guard, Rules
from libs.stores._http_names import file_name
from libs.stores.http import HttpStore
from tests.webs import File, Web, answer, redirect, web_server, zipped

RULES = Rules(
    networks=(ipaddress.ip_network("127.0.0.0/8"),), ports=None, patience=5, rate=0, seconds=30
)
OUTSIDE = Outside(private_networks="loopback", http_ports="*", read_patience=2)
DATA = random.Random(5).randbytes(3_000_000)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as serving:
        yield serving


@pytest.fixture
def store() -> HttpStore:
    return HttpStore(Access(outside=OUTSIDE))


@dataclass
class Bytes:
    """A sink in memory."""

    content: bytearray = field(default_factory=bytearray)
    restarts: int = 0

    def write(self, block: bytes) -> None:
        self.content += block

    def restart(self) -> None:
        self.content.clear()
        self.restarts += 1


def fetch(
    url: str, known: State | None = None, rules: Rules = RULES
) -> tuple[Fetched | None, Bytes, list[float]]:
    """The answer, what came, and how long it was waited between tries."""
    into, waits = Bytes(), list[float]()
    download = Download(Guard(rules), url, {}, rules.seconds, sleep=waits.append)
    return download.run(into, known), into, waits


def code(url: str) -> str:
    with pytest.raises(OneBlockError) as caught:
        fetch(url)
    assert isinstance(caught.value, PermanentError) == (
        caught.value.code not in ("source_unavailable", "too_slow", "dns")
    )
    return caught.value.code


# fetching


def test_a_file_comes_whole_with_its_state(web: Web) -> None:
    modified = formatdate(1_700_000_000, usegmt=True)
    found, into, _ = fetch(web.at("/a/data.csv?x=1", File(DATA, modified=modified)))
    assert found == Fetched("data.csv", len(DATA), State('"one"', modified), 1_700_000_000)
    assert into.content == DATA


def test_a_cut_body_goes_on_where_it_was_cut_off(web: Web) -> None:
    file = File(DATA, cuts=[1_500_000, 1_200_000])
    _, into, waits = fetch(web.at("/cut", file))
    assert into.content == DATA
    assert into.restarts == 0
    asked = [headers.get("Range") for _, headers in web.asked("/cut")]
    assert asked == [None, "bytes=1500000-", "bytes=2700000-"]
    assert web.asked("/cut")[1][1]["If-Range"] == '"one"'
    assert len(waits) == 2


def test_a_file_that_changed_meanwhile_begins_anew(web: Web) -> None:
    before, after = File(DATA, cuts=[2_000_000]), File(DATA[::-1], etag='"two"')
    states = iter([before, after])
    found, into, _ = fetch(web.at("/changing", lambda asked: next(states)(asked)))
    assert into.content == DATA[::-1]
    assert found is not None
    assert found.state.etag == '"two"'
    assert into.restarts == 1


@pytest.mark.parametrize(
    "file", [File(DATA, ranges=False), File(DATA, etag=""), File(DATA, etag='W/"w"')]
)
def test_where_no_range_can_be_trusted_a_cut_body_begins_anew(web: Web, file: File) -> None:
    file.cuts = [2_000_000]
    _, into, _ = fetch(web.at("/anew", file))
    assert into.content == DATA
    assert into.restarts == 1


def test_cuts_that_never_end_are_unavailable(web: Web) -> None:
    assert code(web.at("/short", File(DATA, cuts=[100] * 20))) == "source_unavailable"
    assert len(web.asked("/short")) == 5


def test_an_unchanged_file_is_not_sent_again(web: Web) -> None:
    url = web.at("/same", File(DATA))
    assert fetch(url, State('"one"'))[0] is None
    modified = formatdate(1_700_000_000, usegmt=True)
    dated = web.at("/dated", File(DATA, etag="", modified=modified))
    assert fetch(dated, State("", modified))[0] is None
    assert fetch(dated, State("", formatdate(0, usegmt=True)))[0] is not None


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_trouble_is_tried_again_as_the_server_asks(web: Web, status: int) -> None:
    file = File(b"x", statuses=[(status, {"Retry_After": "7"}), (status, {})])
    _, into, waits = fetch(web.at("/trouble", file))
    assert into.content == b"x"
    assert waits[0] == 7.0
    assert 0 < waits[1] < 2


def test_retry_after_is_a_number_or_a_date() -> None:
    assert wanted_pause("12") == 12
    assert 50 < wanted_pause(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert wanted_pause("soon") == wanted_pause("") == wanted_pause(formatdate(0)) == 0


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "source_not_found"),
        (410, "source_not_found"),
        (401, "source_forbidden"),
        (403, "source_forbidden"),
        (400, "source_refused"),
        (204, "source_refused"),
        (500, "source_unavailable"),
        (503, "source_unavailable"),
    ],
)
def test_a_status_says_what_is_wrong(web: Web, status: int, expected: str) -> None:
    assert code(web.at("/status", lambda asked: answer(asked, status))) == expected


def test_gzip_is_undone_on_the_way(web: Web) -> None:
    found, into, _ = fetch(web.at("/page.csv", zipped(DATA)))
    assert into.content == DATA
    assert found is not None
    assert found.size == len(DATA)


def test_a_gz_file_that_is_called_encoded_stays_as_it_is(web: Web) -> None:
    _, into, _ = fetch(web.at("/page.csv.gz", zipped(DATA)))
    assert into.content[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (lambda asked: answer(asked, 200, b"plain", Content_Encoding="gzip"), "corrupt_file"),
        (lambda asked: answer(asked, 200, b"x", Content_Encoding="br"), "bad_response"),
        (zipped(bytes(150_000_000)), "decompression_limit"),
    ],
    ids=["plain", "br", "bomb"],
)
def test_a_false_encoding_is_told(web: Web, route: File, expected: str) -> None:
    assert code(web.at("/encoded", route)) == expected


# names


@pytest.mark.parametrize(
    ("url", "disposition", "expected"),
    [
        ("http://h/a/b.csv?x=/c.txt", None, "b.csv"),
        ("http://h/a%20%C3%A4.csv", None, "a ä.csv"),
        ("http://h/", None, "download"),
        ("http://h/get", 'attachment; filename="real.csv"', "real.csv"),
        ("http://h/get", "attachment; filename*=UTF-8''%e2%82%ac.csv", "€.csv"),
        ("http://h/get", 'attachment; filename="../../etc/passwd"', "passwd"),
        ("http://h/get", 'attachment; filename="C:\\\\x\\\\y.csv"', "y.csv"),
        ("http://h/get", 'attachment; filename="a\x00b\x1b.csv"', "ab.csv"),
        ("http://h/x.csv", 'attachment; filename=".."', "x.csv"),
        ("http://h/x.csv", "inline", "x.csv"),
        ("http://h/x.csv", "filename*=no-such'x'%ff", "x.csv"),
        ("http://h/..%2f..%2fpasswd", None, "passwd"),
    ],
)
def test_the_name_is_safe(url: str, disposition: str | None, expected: str) -> None:
    assert file_name(url, url, disposition) == expected


def test_a_long_name_is_cut_at_its_beginning() -> None:
    name = file_name("http://h/" + "ä" * 300 + ".csv", "", None)
    assert name.endswith(".csv")
    assert len(name.encode()) <= 255


def test_a_nameless_url_is_called_by_where_it_leads(web: Web, store: HttpStore) -> None:
    web.at("/files/real.csv", File(b"x"))
    assert store.stat(web.at("/latest", redirect("/files/real.csv"))).path == "real.csv"


# listing, and reading where it lies


@pytest.mark.parametrize("head", [True, False])
def test_a_file_is_listed_without_its_body(web: Web, store: HttpStore, head: bool) -> None:
    url = web.at(f"/list-{head}.csv", File(DATA, head=head))
    [found] = store.list(url, None)
    assert (found.uri, found.path, found.size) == (url, f"list-{head}.csv", len(DATA))
    assert found.etag == '"one"'
    with pytest.raises(PermanentError) as caught:
        list(store.list(url, "*.txt"))
    assert caught.value.code == "no_matching_files"


def test_a_file_is_read_by_ranges_at_any_place(web: Web, store: HttpStore) -> None:
    url = web.at("/ranged", File(DATA))
    with store.open(url) as file:
        file.seek(2_000_000)
        assert file.read(10) == DATA[2_000_000:2_000_010]
        file.seek(0)
        assert file.read() == DATA


def test_a_file_that_changed_since_it_was_listed_is_told(web: Web, store: HttpStore) -> None:
    url = web.at("/pinned", File(DATA, etag='"two"'))
    with pytest.raises(PermanentError) as caught, store.open(url, Pin('"one"', len(DATA))) as file:
        file.read()
    assert caught.value.code == "source_changed"


def test_a_server_without_ranges_is_told(web: Web, store: HttpStore) -> None:
    url = web.at("/unranged", File(DATA, ranges=False))
    with pytest.raises(PermanentError) as caught, store.open(url) as file:
        file.read(10)
    assert caught.value.code == "range_unsupported"


# credentials


def test_a_secret_becomes_a_header_and_shows_nowhere(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBLOCK_SECRETS_DIR", str(tmp_path))
    for name, values in {
        "bearer": {"token": "canary-1"},
        "basic": {"username": "me", "password": "canary-2"},
    }.items():
        (tmp_path / name).mkdir()
        for key, value in values.items():
            (tmp_path / name / key).write_text(value)
    url = web.at("/private", lambda asked: answer(asked, 403))
    for name, expected in (("bearer", "Bearer canary-1"), ("basic", "Basic bWU6Y2FuYXJ5LTI=")):
        with pytest.raises(PermanentError) as caught:
            HttpStore(Access(outside=OUTSIDE), Reach(secret=name)).fetch(url, Bytes())
        assert web.asked("/private")[-1][1]["Authorization"] == expected
        assert "canary" not in repr(caught.value)


def test_credentials_are_not_sent_unencrypted_into_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBLOCK_SECRET_WEB__TOKEN", "canary")
    with pytest.raises(PermanentError) as caught:
        HttpStore(Access(outside=Outside()), Reach(secret="web")).stat("http://93.184.216.34/x")
    assert caught.value.code == "credentials_unencrypted"


def test_a_server_that_is_gone_is_transient() -> None:
    with pytest.raises(TransientError) as caught:
        fetch("http://127.0.0.1:1/x")
    assert caught.value.code == "source_unavailable"
