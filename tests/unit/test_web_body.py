"""Strict JSON: every way of being wrong has its code."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from libs.common.web.body import MAX_DEPTH, parse_json


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "invalid_json"),
        (b"{'a': 1}", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[1,]", "invalid_json"),
        (b"-Infinity", "invalid_number"),
        (b"[NaN]", "invalid_number"),
        (b"1e400", "invalid_number"),
        (b"9223372036854775808", "integer_out_of_range"),
        (b"-9223372036854775809", "integer_out_of_range"),
        (b"1" * 5000, "integer_out_of_range"),
        (b'{"a": {"b": 1, "b": 2}}', "duplicate_key"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "too_deep"),
        (b'{"a":' * 100_000, "too_deep"),
        (b'"\\udc00"', "invalid_string"),
        (b'{"\\udc00": 1}', "invalid_string"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:12]),
)
def test_bad_json_has_a_code(raw: bytes, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        parse_json(raw)
    assert caught.value.code == code
    assert len(caught.value.detail) < 300


def test_good_json_is_read() -> None:
    assert parse_json(b'{"a": [1, -9223372036854775808, 1.5, null, true, "\xc3\xa4"]}') == {
        "a": [1, -(2**63), 1.5, None, True, "ä"]
    }
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(deep) is not None


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(raw: bytes) -> None:
    with suppress(PermanentError):
        assert parse_json(raw) is not NotImplemented
