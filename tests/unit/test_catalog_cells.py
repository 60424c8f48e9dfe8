"""Arrow columns as JSON values, for every type that a version can hold."""

from __future__ import annotations

import decimal
import math

import orjson
import pyarrow as pa
import pytest

from services.catalog.cells import values
from services.catalog.features import feature

DAY = 86_400_000
CASES: list[tuple[pa.Array, str]] = [
    (pa.array([1, None, 2**63 - 1, -(2**63)]), "[1,null,9223372036854775807,-9223372036854775808]"),
    (pa.array([2**64 - 1], pa.uint64()), "[18446744073709551615]"),
    (pa.array([math.nan, math.inf, -math.inf, 1.5]), "[null,null,null,1.5]"),
    (pa.array([1.5, None], pa.float16()), "[1.5,null]"),
    (pa.array([True, None]), "[true,null]"),
    (pa.nulls(2), "[null,null]"),
    (pa.array(["a", None, "ü\0"]), '["a",null,"ü\\u0000"]'),
    (pa.array(["a", None], pa.string_view()), '["a",null]'),
    (pa.array([b"\xff\x00", None]), '["/wA=",null]'),
    (pa.array([b"ab"], pa.binary(2)), '["YWI="]'),
    (pa.array([b"ab"], pa.binary_view()), '["YWI="]'),
    (pa.array([decimal.Decimal("1.50"), None], pa.decimal128(9, 2)), '["1.50",null]'),
    (pa.array([0, None], pa.timestamp("us")), '["1970-01-01T00:00:00.000000",null]'),
    (pa.array([1], pa.timestamp("ns")), '["1970-01-01T00:00:00.000000001"]'),
    (pa.array([0], pa.timestamp("s", "Europe/Berlin")), '["1970-01-01T00:00:00Z"]'),
    (pa.array([2**62], pa.timestamp("s")), '["<value out of range: 4611686018427387904>"]'),
    (pa.array([-719_163 * DAY], pa.date64()), '["0000-12-31"]'),
    (pa.array([1], pa.date32()), '["1970-01-02"]'),
    (pa.array([1], pa.time64("us")), '["00:00:00.000001"]'),
    (pa.array([1500, -1, 0, None], pa.duration("ms")), '["PT1.5S","-PT0.001S","PT0S",null]'),
    (pa.array([[1, 2], None, []]), "[[1,2],null,[]]"),
    (pa.array([[9], [1, 2], None, []])[1:], "[[1,2],null,[]]"),
    (pa.array([None, [1, 2]], pa.list_(pa.int8(), 2)), "[null,[1,2]]"),
    (pa.array([[1], None, [3]], pa.list_view(pa.int64())), "[[1],null,[3]]"),
    (pa.array([[[1.5, math.nan]], [None]]), "[[[1.5,null]],[null]]"),
    (pa.array([{"a": 1, "b": [b"x"]}, None, {"a": None}])[1:], '[null,{"a":null,"b":null}]'),
    (pa.array([{}, None], pa.struct([])), "[{},null]"),
    (
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        '[[{"key":"k","value":1}],null,[]]',
    ),
    (pa.array(["a", "b", None, "a"]).dictionary_encode(), '["a","b",null,"a"]'),
    (pa.RunEndEncodedArray.from_arrays([2, 3], ["x", None]), '["x","x",null]'),
    (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16, None], pa.binary(16))),
        '["30303030-3030-3030-3030-303030303030",null]',
    ),
    (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])), '["{}"]'),
    (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), None),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("column", "expected"), CASES, ids=lambda v: str(getattr(v, "type", "")))
def test_a_column_of_each_type_becomes_json(column: pa.Array, expected: str | None) -> None:
    written = orjson.dumps(values(column)).decode()
    assert expected is None or written == expected
    assert orjson.dumps(values(pa.chunked_array([column, column]))).count(b"[") >= 1


@pytest.mark.parametrize("column", [c for c, _ in CASES], ids=lambda c: str(c.type))
def test_every_type_has_a_feature(column: pa.Array) -> None:
    found = feature(column.type)
    assert orjson.loads(orjson.dumps(found)) == found


def test_text_that_is_not_utf8_is_shown_all_the_same() -> None:
    buffers = [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")]
    assert values(pa.Array.from_buffers(pa.string(), 1, buffers)) == ["\N{REPLACEMENT CHARACTER}a"]


class _Evil(pa.ExtensionType):  # type: ignore[misc]  # pyarrow's stubs call it Any
    """Stands for a type whose Python side would run code."""

    def __init__(self) -> None:
        super().__init__(pa.large_binary(), "ray.data.arrow_pickled_object")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> _Evil:
        return cls()

    def __arrow_ext_scalar_class__(self) -> type[pa.ExtensionScalar]:
        raise AssertionError("the extension's own code ran")


def test_an_extension_type_is_shown_by_its_storage_and_none_of_its_code_runs() -> None:
    column = pa.ExtensionArray.from_storage(_Evil(), pa.array([b"x"], pa.large_binary()))
    assert values(column) == ["eA=="]


def test_features_are_those_of_the_dataset_viewer() -> None:
    assert feature(pa.float64()) == {"dtype": "float64", "_type": "Value"}
    assert feature(pa.list_(pa.float32(), 3)) == {
        "feature": {"dtype": "float32", "_type": "Value"}, "length": 3, "_type": "List",
    }  # fmt: skip
    assert feature(pa.struct([("a", pa.string())])) == {"a": {"dtype": "string", "_type": "Value"}}
