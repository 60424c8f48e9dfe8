"""Types of text values: exact against a slow reference, whatever the order, splits and head."""

from __future__ import annotations

import math
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.formats import TypeConflict
from libs.formats._types import INSTANT, TIMESTAMP, convert, infer_column, join_text_schemas

RELAXED = settings(deadline=None)  # the machine may be busy
NUMBER = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def kind_of(text: str) -> str:
    """The reference: the type of one text, written down plainly."""
    if text.lower() in ("true", "false") and text in (text.lower(), text.upper(), text.title()):
        return "bool"
    if re.fullmatch(r"0|-?[1-9][0-9]*", text):
        value = int(text)
        if abs(value) <= 2**53:
            return "int"
        return "wide" if -(2**63) <= value < 2**63 else "string"
    if text in ("NaN", "inf", "-inf"):
        return "double"
    if NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return "double"
    for kind, name in ((pa.date32(), "date"), (TIMESTAMP, "timestamp"), (INSTANT, "instant")):
        try:
            pa.array([text]).cast(kind)
            return name
        except pa.ArrowInvalid:
            continue
    return "string"


def expected(texts: list[str | None]) -> pa.DataType:
    """The reference: join of all kinds."""
    kinds = {kind_of(text) for text in texts if text is not None}
    if not kinds:
        return pa.null()
    if kinds <= {"int", "wide"}:
        return pa.int64()
    if kinds <= {"int", "double"}:
        return pa.float64()
    if kinds <= {"date", "timestamp"}:
        return pa.date32() if kinds == {"date"} else TIMESTAMP
    single = {"bool": pa.bool_(), "instant": INSTANT}
    return single.get(kinds.pop(), pa.string()) if len(kinds) == 1 else pa.string()


odd = st.sampled_from(
    [
        "0", "-0", "007", "+1", "0x1F", "1_0", " 5", "5 ", "-", "--1", "1.", ".5", ".", "-.5",
        "1e5",
        "1E+5", "e5", "1e400", "-1e400", "1e-400", "00.5", "-00.5", "+1.5", "0.5", "-0.5", "-0.0",
        "inf", "-inf", "Inf", "nan", "NaN", "-nan", "infinity", "9007199254740992",
        "9007199254740993", "-9007199254740993", "9223372036854775807", "9223372036854775808",
        "-9223372036854775808", "-9223372036854775809", "123456789012345678901", "1" * 400,
        "true", "True", "TRUE", "tRUE", "t", "false", "2020-01-01", "2020-02-30", "20200101",
        "2020-01-01T10:20:30", "2020-01-01 10:20:30.123456", "2020-01-01 10:20:30.1234567",
        "2020-01-01T10:20:30Z", "2020-01-01T10:20:30+02:00", "0001-01-01", "9999-12-31", "٣", "é",
    ]
)  # fmt: skip
texts = (
    odd
    | st.integers().map(str)
    | st.integers(-(2**60), 2**60).map(str)
    | st.floats().map(repr)
    | st.text(min_size=1)
    | st.dates().map(str)
    | st.datetimes().map(str)
)
values = st.lists(st.none() | texts, max_size=8)


def array(items: list[str | None]) -> pa.StringArray:
    return pa.array(items, pa.string())


@RELAXED
@given(values)
def test_a_column_has_the_narrowest_type_that_holds_each_value(items: list[str | None]) -> None:
    assert infer_column("a", array(items)).type == expected(items)


@RELAXED
@given(texts)
def test_each_single_value_has_the_reference_type(text: str) -> None:
    assert infer_column("a", array([text])).type == expected([text])


@RELAXED
@given(values, values)
def test_joining_two_halves_is_inferring_the_whole(
    head: list[str | None], tail: list[str | None]
) -> None:
    halves = [pa.schema([infer_column("a", array(half))]) for half in (head, tail)]
    assert join_text_schemas(halves).field("a").type == expected(head + tail)


@RELAXED
@given(values, values)
def test_types_from_the_head_are_the_whole_columns_or_conflict(
    head: list[str | None], tail: list[str | None]
) -> None:
    kind = infer_column("a", array(head)).type
    if expected(head + tail) == kind:
        assert convert("a", array(tail), kind).type == kind
    else:
        with pytest.raises(TypeConflict):
            convert("a", array(tail), kind)


@RELAXED
@given(values)
def test_integers_print_back_as_they_were_written(items: list[str | None]) -> None:
    if infer_column("a", array(items)).type == pa.int64():
        found = convert("a", array(items), pa.int64())
        assert [None if v is None else str(v) for v in found.to_pylist()] == items


@RELAXED
@given(values)
def test_doubles_are_the_nearest_to_what_was_written(items: list[str | None]) -> None:
    if infer_column("a", array(items)).type == pa.float64():
        found = convert("a", array(items), pa.float64()).to_pylist()
        for value, text in zip(found, items, strict=True):
            assert repr(value) == repr(None if text is None else float(text))


@RELAXED
@given(values)
def test_a_slice_of_an_array_is_converted_as_the_same_values_alone(
    items: list[str | None],
) -> None:
    whole = array(["007", "x", *items, "+1", None])
    kind = infer_column("a", array(items)).type
    assert convert("a", whole.slice(2, len(items)), kind) == convert("a", array(items), kind)


def test_columns_come_in_the_order_of_their_first_appearance() -> None:
    schemas = [
        pa.schema([("b", pa.int64()), ("a", pa.null())]),
        pa.schema([("c", pa.bool_()), ("a", pa.string())]),
    ]
    joined = join_text_schemas(schemas)
    assert joined == pa.schema([("b", pa.int64()), ("a", pa.string()), ("c", pa.bool_())])
