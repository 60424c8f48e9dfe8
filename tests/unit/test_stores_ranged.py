"""A file over ranges: what any file would give, whoever reads it in whichever way."""

from __future__ import annotations

import io
import os
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from libs.stores import _ranged
from libs.stores._ranged import RangedFile

CONTENT = os.urandom(1 << 20)


class Counted:
    """Gives ranges and remembers which; small pieces make a small file interesting."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> bytes:
        self.asked.append((start, stop))
        return self.content[start:stop]

    def file(self) -> RangedFile:
        return RangedFile(self, len(self.content), "x")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ranged, "PIECE", 40_000)
    monkeypatch.setattr(_ranged, "SMALL", 1_000)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 200_000)),
        st.tuples(st.just("seek"), st.integers(0, len(CONTENT) + 10)),
        st.tuples(st.just("back"), st.integers(0, len(CONTENT))),
        st.tuples(st.just("line"), st.just(0)),
        st.tuples(st.just("peek"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_it_reads_as_a_file_in_memory_does(steps: list[tuple[str, int]]) -> None:
    with Counted().file() as ours, io.BytesIO(CONTENT) as theirs:
        for what, number in steps:
            if what == "read":
                assert ours.read(number) == theirs.read(number)
            elif what == "line":
                assert ours.readline() == theirs.readline()
            elif what == "peek":
                assert CONTENT[ours.tell() :].startswith(ours.peek())
            else:
                whence = os.SEEK_SET if what == "seek" else os.SEEK_END
                offset = number if what == "seek" else -number
                assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            assert ours.tell() == theirs.tell()


def test_who_jumps_gets_about_what_was_asked_for() -> None:
    source = Counted()
    with source.file() as file:
        for at in (500_000, 10_000, 900_000):
            file.seek(at)
            file.read(100)
    assert source.asked == [(at, at + 1_000) for at in (500_000, 10_000, 900_000)]


def test_who_reads_on_has_the_next_pieces_under_way() -> None:
    source, under_way, most = Counted(), 0, 0
    lock = threading.Lock()

    def slow(start: int, stop: int) -> bytes:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return source(start, stop)

    with RangedFile(slow, len(CONTENT), "x") as file:
        while file.read(10_000):
            pass
    assert most > 2
    assert sum(stop - start for start, stop in source.asked) == len(CONTENT)


def test_what_can_not_be_read_fails_where_it_is_read_and_closing_forgets_it() -> None:
    def broken(start: int, stop: int) -> bytes:
        if stop > 500_000:
            raise PermanentError("gone", code="source_changed")
        return CONTENT[start:stop]

    with RangedFile(broken, len(CONTENT), "x") as file:
        assert file.read(400_000) == CONTENT[:400_000]
        with pytest.raises(PermanentError, match="gone"):
            file.read()
        file.seek(0)
        assert file.read(10) == CONTENT[:10]
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_range_that_comes_short_is_an_error_and_no_endless_loop() -> None:
    short = RangedFile(lambda start, stop: CONTENT[start : stop - 1], len(CONTENT), "x")
    with short as file, pytest.raises(PermanentError) as caught:
        file.read(10_000)
    assert caught.value.code == "source_unreadable"


def test_an_empty_file_asks_for_nothing() -> None:
    source = Counted(b"")
    with source.file() as file:
        assert file.read() == b""
        assert file.seek(0, os.SEEK_END) == 0
    assert not source.asked
