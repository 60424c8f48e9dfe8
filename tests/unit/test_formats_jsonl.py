"""JSON Lines: exact values, late fields, faults by line."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from tests.formats import keys, read, user, write
from tests.fuzz import relaxed

RELAXED = relaxed(60)


def file(tmp_path: Path, text: str | bytes, name: str = "in.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(tmp_path: Path, *values: object) -> Path:
    return file(tmp_path, "".join(json.dumps(value) + "\n" for value in values))


def rows(path: Path, **how: object) -> list[dict[str, object]]:
    return user(read("jsonl", path, **how)).to_pylist()  # type: ignore[arg-type]


def fault(tmp_path: Path, text: str | bytes) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        read("jsonl", file(tmp_path, text), target=100)
    return caught.value


def test_nested_values_are_kept(tmp_path: Path) -> None:
    values = [
        {"a": {"b": [1, None, 3], "c": None}, "d": [{"e": "x"}, {"f": True}]},
        {"a": None, "d": []},
    ]
    path = lines(tmp_path, *values)
    assert rows(path) == [
        {"a": {"b": [1, None, 3], "c": None}, "d": [{"e": "x", "f": None}, {"e": None, "f": True}]},
        {"a": None, "d": []},
    ]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([1, "x"], pa.string(), ["1", "x"]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([True, "x", None], pa.string(), ["true", "x", None]),
        ([2**63 - 1, -(2**63)], pa.int64(), [2**63 - 1, -(2**63)]),
        ([1, 2**63], pa.string(), ["1", str(2**63)]),
        ([1, 10**30], pa.string(), ["1", str(10**30)]),
        ([2**53 + 1, 0.5], pa.string(), [str(2**53 + 1), "0.5"]),
        ([[1], [2.5]], pa.list_(pa.float64()), [[1.0], [2.5]]),
        ([[1], "x"], pa.string(), ["[1]", "x"]),
        ([{"a": 1}, [1]], pa.string(), ['{"a":1}', "[1]"]),
        ([{"a": 1}, {"b": 2}], pa.struct({"a": pa.int64(), "b": pa.int64()}),
         [{"a": 1, "b": None}, {"a": None, "b": 2}]),
        ([{}, {"a": 1}], pa.struct({"a": pa.int64()}), [{"a": None}, {"a": 1}]),
        ([{}, None], pa.null(), [None, None]),
        ([{}, 1], pa.string(), ["{}", "1"]),
        ([[], [None]], pa.list_(pa.null()), [[], [None]]),
        (["2020-01-01"], pa.string(), ["2020-01-01"]),
    ],
)  # fmt: skip
def test_values_of_several_types_have_the_narrowest_common_one(
    tmp_path: Path, values: list[object], kind: pa.DataType, expected: list[object]
) -> None:
    path = lines(tmp_path, *({"v": value} for value in values))
    for head, target in ((None, 1 << 20), (1, 1), (1, 1 << 20)):
        found = read("jsonl", path, head=head, target=target)
        assert found["v"].type == kind
        assert found["v"].to_pylist() == expected


def test_a_field_that_comes_late_is_kept(tmp_path: Path) -> None:
    values = [{"a": i} for i in range(5000)] + [{"b": "x"}, {"a": 1, "c": [1]}]
    found = read("jsonl", lines(tmp_path, *values), head=100, target=1000)
    assert user(found).schema.names == ["a", "b", "c"]
    assert user(found).to_pylist()[-2:] == [
        {"a": None, "b": "x", "c": None},
        {"a": 1, "b": None, "c": [1]},
    ]


GOOD = '{"a": 1}\n' * 150


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ('{"a": 1', "not JSON at column"),
        ('{"a": NaN}', "not JSON at column"),
        ("[1, 2]", "not a JSON object but a list"),
        ("17", "not a JSON object but a int"),
        ('{"a": 1} {"a": 2}', "not JSON at column 10"),
        ('{"a": 1e999}', "infinity"),
        ('{"a": ' + "[" * 2000 + "]" * 2000 + "}", "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        ('{"a": "\\ud800"}', "not JSON"),
        ('{"a": 1\0}', "not JSON"),
    ],
)
def test_a_broken_line_is_told_with_its_number(tmp_path: Path, bad: str | bytes, says: str) -> None:
    line = bad.encode() if isinstance(bad, str) else bad
    wrong = fault(tmp_path, (GOOD + "\n \r\n").encode() + line + b"\n" + GOOD.encode())
    assert wrong.code == "parse_error"
    assert wrong.detail.startswith("in.jsonl:153: "), wrong.detail
    assert says in wrong.detail


def test_a_pretty_printed_file_is_told_how_it_should_be(tmp_path: Path) -> None:
    assert "one whole object per line" in fault(tmp_path, '{\n  "a": 1\n}\n').detail


def test_blank_lines_carriage_returns_and_a_byte_order_mark_don_t_matter(tmp_path: Path) -> None:
    text = '\ufeff{"a":1}\r\n\r\n  \n{"a":2}'
    assert rows(file(tmp_path, text)) == [{"a": 1}, {"a": 2}]


def test_of_a_field_that_appears_twice_the_last_value_counts(tmp_path: Path) -> None:
    assert rows(file(tmp_path, '{"a":1,"a":2}\n')) == [{"a": 2}]


def test_deep_nesting_becomes_text_and_never_exhausts_the_stack(tmp_path: Path) -> None:
    for depth in (31, 32, 33, 200, 300, 900):
        text = '{"a":' + "[" * depth + "]" * depth + "}"
        try:
            found = read("jsonl", file(tmp_path, text))
        except PermanentError as wrong:
            assert "in.jsonl:1" in wrong.detail  # noqa: PT017
            assert depth >= 300
        else:
            assert found.num_rows == 1


def test_keys_don_t_depend_on_the_order_of_fields_or_on_blanks(tmp_path: Path) -> None:
    text = '{"a": 1, "b": {"d": "é", "c": 2.50}}\n{ "b":{"c":2.5,"d":"\\u00e9"},"a":1 }\n'
    one, two = keys(read("jsonl", file(tmp_path, text)))
    assert one == two


def test_keys_tell_integers_apart_that_no_double_can(tmp_path: Path) -> None:
    found = keys(read("jsonl", lines(tmp_path, {"a": 10**30}, {"a": 10**30 + 1})))
    assert len(set(found)) == 2


def test_a_declared_key_doesn_t_depend_on_the_other_values_types(tmp_path: Path) -> None:
    alone = keys(read("jsonl", lines(tmp_path, {"id": 5}), key=("id",)))
    for other in ("x", 2.5):
        assert (
            keys(read("jsonl", lines(tmp_path, {"id": 5}, {"id": other}), key=("id",)))[0]
            == alone[0]
        )
    assert keys(read("jsonl", lines(tmp_path, {"id": "5"}), key=("id",))) == alone
    assert keys(read("jsonl", lines(tmp_path, {"id": 5.0}), key=("id",))) == alone


def test_a_nested_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="'id' can't be a key") as caught:
        read("jsonl", lines(tmp_path, {"id": [1]}), key=("id",))
    assert caught.value.code == "invalid_key"


def test_a_late_row_without_its_key_is_told_with_its_line(tmp_path: Path) -> None:
    path = file(tmp_path, '{"id":1}\n\n{"id":2}\n{"x":1}\n')
    with pytest.raises(PermanentError, match=r"in.jsonl:4: the key column 'id' is empty"):
        read("jsonl", path, key=("id",))


def test_what_json_has_no_form_for_is_written_as_text(tmp_path: Path) -> None:
    content = pa.table(
        {
            "blob": [b"\x00\xff"],
            "price": [Decimal("1.50")],
            "span": [timedelta(seconds=1.5)],
            "at": pa.array([0], pa.timestamp("us", "UTC")),
            "tags": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        }
    )
    path = write("jsonl", tmp_path / "out.jsonl", content)
    row = orjson.loads(path.read_bytes())
    assert base64.b64decode(row["blob"]) == b"\x00\xff"
    assert (row["price"], row["span"], row["at"]) == ("1.50", 1.5, "1970-01-01T00:00:00Z")
    assert row["tags"] == {"k": 1}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "é"]), inner, max_size=2)
    ),
    max_leaves=6,
)
objects = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values, max_size=3), max_size=8
)


@pytest.mark.fuzz
@RELAXED
@given(objects, st.integers(1, 100), st.integers(1, 100))
def test_any_head_and_any_split_give_the_table_of_the_whole_file(
    tmp_path: Path, values: list[dict[str, object]], target: int, head: int
) -> None:
    path = lines(tmp_path, *values)
    if not path.stat().st_size:
        return
    whole = read("jsonl", path)
    assert whole.num_rows == len(values)
    assert read("jsonl", path, target=target, head=head).equals(whole)


@pytest.mark.fuzz
@RELAXED
@given(objects)
def test_rows_have_one_key_exactly_if_they_are_the_same_json(
    tmp_path: Path, values: list[dict[str, object]]
) -> None:
    path = lines(tmp_path, *values)
    if not values:
        return
    distinct = {json.dumps(value, sort_keys=True) for value in values}
    assert len(set(keys(read("jsonl", path)))) == len(distinct)
