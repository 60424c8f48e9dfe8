"""Where a service may listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from libs.common.errors import PermanentError
from libs.common.settings import CommonSettings
from libs.common.web import serve


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_beyond_loopback_only_with_tokens(host: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="ONEBLOCK_TOKENS_FILE"):
        serve.check_exposure(CommonSettings(host=host), "x", needs_tokens=True)
    serve.check_exposure(
        CommonSettings(host=host, tokens_file=tmp_path / "t"), "x", needs_tokens=True
    )
    serve.check_exposure(CommonSettings(host=host), "x", needs_tokens=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_none(host: str) -> None:
    serve.check_exposure(CommonSettings(host=host), "x", needs_tokens=True)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PermanentError) as caught:
            serve.bind("127.0.0.1", port)
    assert caught.value.code == "address_in_use"
    assert str(port) in caught.value.detail


def test_a_host_that_is_none_is_named() -> None:
    with pytest.raises(PermanentError, match=r"300\.1\.2\.3"):
        serve.bind("300.1.2.3", 0)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("localhost:8081", True),
        ("127.0.0.1:1", True),
        ("[::1]:8081", True),
        ("[::1]", True),
        ("x.localhost", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:80", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_which_host_names_are_this_machine(host: str, ours: bool) -> None:
    assert serve._names_loopback(host) is ours
