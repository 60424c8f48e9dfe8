"""The guarded client against real servers: where it goes and where not, how long it waits."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from libs.common.errors import OneBlockError, PermanentError, TransientError
from libs.stores._addresses import public
from libs.stores._guard import Guard, Rules
from tests.webs import File, Web, answer, authority_file, dripping, redirect, web_server

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
OPEN = Rules(networks=LOOPBACK, ports=None, patience=5, rate=0, seconds=20)
STRICT = Rules(ports=None)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as serving:
        yield serving


def got(rules: Rules, url: str, **headers: str) -> bytes:
    with Guard(rules).open(url, headers) as found:
        assert found.status == 200, found.status
        return b"".join(found.blocks())


def code(rules: Rules, url: str, **headers: str) -> str:
    with pytest.raises(OneBlockError) as caught:
        got(rules, url, **headers)
    return caught.value.code


# addresses


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.8.8.8 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.100.100.200
    100.64.0.1 192.0.0.192 224.0.0.1 255.255.255.255 198.18.0.1 ::1 :: fe80::1 fc00::1 ff02::1
    ::ffff:169.254.169.254 ::ffff:8.8.8.8 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:7f00:1:: 2001::1
    fd00:ec2::254""".split(),  # noqa: SIM905
)
def test_an_address_that_is_not_public_is_told(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1"])
def test_a_public_address_is_told(address: str) -> None:
    assert public(address)


HIDDEN = [
    "http://127.0.0.1/",
    "http://localhost/",
    "http://a.localhost./",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://①②⑦.⓪.⓪.①/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
]


@pytest.mark.parametrize("url", HIDDEN)
def test_every_spelling_of_a_private_address_is_refused_without_a_look_up(url: str) -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError("looked up")

    with pytest.raises(PermanentError) as caught:
        Guard(replace(STRICT, look_up=never)).check(url)
    assert caught.value.code == "url_forbidden"
    assert "ONEBLOCK_PRIVATE_NETWORKS" in caught.value.detail


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///etc/passwd", "scheme_forbidden"),
        ("gopher://example.com/", "scheme_forbidden"),
        ("ftp://example.com/", "scheme_forbidden"),
        ("http://user:pw@example.com/", "userinfo_forbidden"),
        ("http://user@example.com/", "userinfo_forbidden"),
        ("http://example.com:8222/varz", "url_forbidden"),
        ("http://example.com:22/", "url_forbidden"),
        ("http://exa mple.com/", "invalid_url"),
        ("http://example.com/a\r\nHost: other", "invalid_url"),
        ("http://example.com\\@evil/", "invalid_url"),
        ("http:///path", "invalid_url"),
        ("http://example.com:99999/", "invalid_url"),
        ("http://[fe80::1%25eth0]/", "invalid_url"),
    ],
)
def test_a_url_that_may_not_be_asked_is_refused_before_anything_else(
    url: str, expected: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        Guard(Rules()).check(url)
    assert caught.value.code == expected
    assert "pw" not in caught.value.detail


def test_one_private_address_among_several_refuses_the_name(web: Web) -> None:
    url = web.at("/mixed", File(b"x")).replace("127.0.0.1", "mixed.example.com")
    rules = replace(STRICT, look_up=lambda host, port: ["93.184.216.34", "127.0.0.1"])
    assert code(rules, url) == "url_forbidden"
    assert not web.asked("/mixed")


def test_a_name_is_looked_up_once_and_that_address_is_connected_to(web: Web) -> None:
    """A second look-up, which would say something else (rebinding), never happens."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    url = web.at("/once", File(b"x")).replace("127.0.0.1", "rebind.example.com")
    assert got(replace(OPEN, look_up=lambda host, port: answers.pop(0)), url) == b"x"
    assert len(answers) == 1
    [(_, headers)] = web.asked("/once")
    assert headers["Host"] == url.split("/")[2]


def test_the_next_address_is_tried_when_the_first_does_not_answer(web: Web) -> None:
    url = web.at("/second", File(b"x")).replace("127.0.0.1", "two.example.com")
    assert got(replace(OPEN, look_up=lambda host, port: ["127.9.9.9", "127.0.0.1"]), url) == b"x"


def test_proxies_of_the_environment_are_not_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert got(OPEN, web.at("/direct", File(b"x"))) == b"x"


def test_a_name_that_does_not_resolve_is_transient() -> None:
    def fails(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(TransientError) as caught:
        got(replace(OPEN, look_up=fails), "http://nowhere.example.com/")
    assert caught.value.code == "dns"


# redirects


def test_redirects_are_followed_and_each_is_checked(web: Web) -> None:
    web.at("/c", File(b"there"))
    web.at("/b", redirect("/c", 307))
    assert got(OPEN, web.at("/a", redirect(f"{web.url}/b", 301))) == b"there"


def test_more_than_five_redirects_are_too_many(web: Web) -> None:
    assert code(OPEN, web.at("/loop", redirect("/loop"))) == "too_many_redirects"
    assert len(web.asked("/loop")) == 6


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest",
        "http://2130706433:1/",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/",
        "//[::1]/",
    ],
)
def test_a_redirect_to_where_nobody_may_ask_is_refused(web: Web, to: str) -> None:
    narrow = (ipaddress.ip_network("127.0.0.1/32"),)
    url = web.at("/out", redirect(to))
    if "2130706433" in to:  # loopback is allowed here: the port isn't
        rules = replace(OPEN, networks=narrow, ports=frozenset({int(web.url.rpartition(":")[2])}))
    else:
        rules = replace(OPEN, networks=narrow)
    assert code(rules, url) == "redirect_forbidden"


def test_a_redirect_by_name_to_a_private_address_is_refused(web: Web) -> None:
    places = {"127.0.0.1": ["127.0.0.1"], "inside.example.com": ["10.0.0.5"]}
    url = web.at("/inside", redirect("http://inside.example.com/"))
    assert code(replace(OPEN, look_up=lambda host, port: places[host]), url) == "redirect_forbidden"


def test_authorization_stays_with_its_host(web: Web) -> None:
    with web_server() as other:
        other.at("/end", File(b"x"))
        web.at("/same", redirect(f"{other.url}/end"))
        got(OPEN, web.at("/start", redirect("/same")), Authorization="Bearer abc")
        assert web.asked("/same")[0][1]["Authorization"] == "Bearer abc"
        assert "Authorization" not in other.asked("/end")[0][1]


# TLS


def test_a_certificate_is_checked_for_the_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    trusting = replace(OPEN, ca_file=authority_file(tmp_path, authority))
    with web_server(authority) as secure:
        url = secure.at("/x", File(b"x"))
        named = url.replace("127.0.0.1", "localhost")
        assert got(trusting, url) == got(trusting, named) == b"x"
        assert code(OPEN, url) == "tls"  # who isn't trusted
        wrong = url.replace("127.0.0.1", "other.example.com")
        here = replace(trusting, look_up=lambda host, port: ["127.0.0.1"])
        assert code(here, wrong) == "tls"
        down = secure.at("/down", redirect("http://127.0.0.1/"))
        assert code(trusting, down) == "redirect_forbidden"


def test_plain_http_where_tls_is_spoken_is_told(web: Web) -> None:
    with pytest.raises(PermanentError) as caught:
        got(OPEN, web.url.replace("http", "https"))
    assert caught.value.code == "tls"


# time and size


def test_an_endless_body_ends_at_the_limit(web: Web) -> None:
    url = web.at("/endless", dripping(b"x" * 65536, 0))
    assert code(replace(OPEN, max_bytes=1 << 20), url) == "too_large"


def test_a_length_beyond_the_limit_is_refused_before_the_body(web: Web) -> None:
    assert code(replace(OPEN, max_bytes=10), web.at("/long", File(b"x" * 11))) == "too_large"


def test_a_byte_now_and_then_is_too_slow(web: Web) -> None:
    url = web.at("/drip", dripping(b"x", 0.02))
    begun = time.monotonic()
    assert code(replace(OPEN, patience=0.3, rate=1000), url) == "too_slow"
    assert time.monotonic() - begun < 3


def test_headers_that_drip_are_too_slow(web: Web) -> None:
    def route(asked: object) -> None:
        asked.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")  # type: ignore[attr-defined]
        while True:
            asked.wfile.write(b"x")  # type: ignore[attr-defined]
            time.sleep(0.02)

    assert code(replace(OPEN, patience=0.3, rate=1000), web.at("/heads", route)) == "too_slow"


def test_whatever_the_rate_the_deadline_ends_it(web: Web) -> None:
    url = web.at("/for-ever", dripping(b"x", 0.02))
    assert code(replace(OPEN, seconds=0.3), url) == "too_slow"


def test_silence_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"  # the kernel accepts, nobody reads
        assert code(replace(OPEN, patience=0.2), url) == "source_unavailable"


def test_a_body_that_ends_early_is_noticed(web: Web) -> None:
    url = web.at("/short", File(b"x" * 1000, cuts=[10]))
    assert code(OPEN, url) == "source_unavailable"


def test_what_is_no_http_is_a_bad_response(web: Web) -> None:
    def route(asked: object) -> None:
        asked.wfile.write(b"220 smtp.example.com ready\r\n")  # type: ignore[attr-defined]

    assert code(OPEN, web.at("/smtp", route)) == "bad_response"


def test_a_chunked_body_is_read(web: Web) -> None:
    def route(asked: object) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        asked.wfile.write(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")  # type: ignore[attr-defined]

    assert got(OPEN, web.at("/chunked", route)) == b"abcde"


def test_errors_tell_no_query(web: Web) -> None:
    url = web.at("/cut?token=hunter2", lambda asked: answer(asked, 200, X="y" * 70_000))
    with pytest.raises(OneBlockError) as caught:
        got(OPEN, url)
    assert "hunter2" not in caught.value.detail
