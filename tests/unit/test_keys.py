"""Row keys: a golden table that must never change, and what keys may not depend on."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from libs.common.ids import source_id
from libs.formats._key_texts import key_texts
from libs.formats._keys import (
    array_digests,
    declared_keys,
    digests,
    encode_texts,
    escaped,
    line_digests,
    names_seed,
    text_digests,
    with_system_columns,
)
from libs.formats._row_bytes import row_bytes
from tests.formats import keys, read, write

RELAXED = settings(deadline=None)
GOLDEN = Path(__file__).with_name("golden_keys.json")
CSV = 'id,name,note\n1,Ann,\n2,"Bo, Jr","said ""hi"""\n03,"",é\n'
JSONL = '{"id": 1, "tags": ["x", null], "big": 123456789012345678901234567890}\n{"id": 2.50}\n'


def typed() -> pa.Table:
    """One row of each kind of value, and one of nulls."""
    schema = pa.schema(
        {
            "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string(),
            "blob": pa.binary(), "day": pa.date32(), "at": pa.timestamp("us"),
            "instant": pa.timestamp("us", "UTC"), "price": pa.decimal128(9, 2),
            "list": pa.list_(pa.int64()), "object": pa.struct({"x": pa.string()}),
            "vector": pa.list_(pa.float32(), 2),
        }
    )  # fmt: skip
    row = {
        "bool": True, "int": -5, "float": 2.5, "text": "é", "blob": b"\x00",
        "day": date(2020, 1, 2),
        "at": datetime(1960, 1, 2, 3, 4, 5, 6), "instant": datetime(2020, 1, 2, tzinfo=UTC),
        "price": Decimal("1.50"), "list": [1, None], "object": {"x": "y"}, "vector": [0.5, 1],
    }  # fmt: skip
    return pa.Table.from_pylist([row, {}], schema)


def current(folder: Path) -> dict[str, list[str]]:
    """The keys as they are made now."""
    csv, jsonl = folder / "g.csv", folder / "g.jsonl"
    csv.write_text(CSV, encoding="utf-8")
    jsonl.write_text(JSONL, encoding="utf-8")
    parquet = write("parquet", folder / "g.parquet", typed())
    scalars = [n for n in typed().schema.names if n not in ("list", "object", "vector")]
    columns = {n: typed()[n].combine_chunks().slice(0, 1) for n in scalars}
    return {
        "csv content": keys(read("csv", csv)),
        "csv id": keys(read("csv", csv, key=("id",))),
        "csv id, name": keys(read("csv", csv, key=("id", "name"))),
        "jsonl content": keys(read("jsonl", jsonl)),
        "jsonl id": keys(read("jsonl", jsonl, key=("id",))),
        "parquet content": keys(read("parquet", parquet)),
        **{
            f"declared {name}": [declared_keys(columns, (name,), str).tobytes().hex()]
            for name in scalars
        },
        "source file:///a/b.csv": [str(source_id("file:///a/b.csv"))],
    }


def test_keys_are_what_they_always_were(tmp_path: Path) -> None:
    assert current(tmp_path) == json.loads(GOLDEN.read_text())


def test_a_key_is_the_published_hash_of_what_the_docs_say() -> None:
    table = {"id": pa.array([5])}
    assert declared_keys(table, ("id",), str).tobytes() == xxh3_128_digest(b"5\n")
    two = {"a": pa.array(["x,y"]), "b": pa.array(["\x1b"])}
    assert declared_keys(two, ("a", "b"), str).tobytes() == xxh3_128_digest(b"x\x1b,y,\x1b\x1b\n")
    assert names_seed(["a", "b"]) == xxh3_64_intdigest(b"a,b\n")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([5], pa.int8()), "5"),
        (pa.array([5], pa.uint64()), "5"),
        (pa.array(["5"]), "5"),
        (pa.array(["5"], pa.large_string()), "5"),
        (pa.array([5.0]), "5"),
        (pa.array([-0.0]), "0"),
        (pa.array([5.5]), "5.5"),
        (pa.array([5.5], pa.float32()), "5.5"),
        (pa.array([1e300]), "1e+300"),
        (pa.array(["5.0"]), "5.0"),
        (pa.array([True]), "true"),
        (pa.array([b"\x01\xff"]), "01ff"),
        (pa.array([Decimal("5.00")]), "5"),
        (pa.array([Decimal("5.10")]), "5.1"),
        (pa.array([date(2020, 1, 2)]), "2020-01-02"),
        (pa.array([datetime(2020, 1, 2)]), "2020-01-02T00:00:00"),
        (pa.array([10**15], pa.timestamp("ns")), "1970-01-12T13:46:40"),
        (pa.array([1], pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
        (pa.array([0], pa.timestamp("ms", "UTC")), "1970-01-01T00:00:00Z"),
        (pa.array(["a"]).dictionary_encode().cast(pa.string()), "a"),
    ],
)
def test_the_same_value_has_the_same_text_from_every_type(column: pa.Array, text: str) -> None:
    assert key_texts("k", column).to_pylist() == [text]


texts = st.text(st.sampled_from('ab,\x1b"\n\x1fe'), max_size=4)
lists = st.lists(st.lists(texts, min_size=2, max_size=2), min_size=1, max_size=6)


@RELAXED
@given(lists)
def test_different_lists_of_texts_have_different_encodings(rows: list[list[str]]) -> None:
    distinct = {tuple(row) for row in rows}
    assert len({encode_texts(row) for row in distinct}) == len(distinct)


@RELAXED
@given(lists)
def test_the_vectorised_encoding_is_the_plain_one(rows: list[list[str]]) -> None:
    columns = [escaped(pa.array([row[i] for row in rows])) for i in (0, 1)]
    assert np.array_equal(text_digests(columns), digests(encode_texts(row) for row in rows))
    alone = text_digests(columns[:1])
    assert np.array_equal(alone, digests(encode_texts(row[:1]) for row in rows))


@RELAXED
@given(st.lists(st.binary(max_size=6)), st.integers(0, 3))
def test_digests_of_an_array_are_those_of_its_values(values: list[bytes], begin: int) -> None:
    begin = min(begin, len(values))
    array = pa.array(values, pa.binary()).slice(begin)
    assert np.array_equal(array_digests(array, 7), digests(values[begin:], 7))


def test_many_lines_have_the_digests_of_each() -> None:
    lines = [b"%d\n" % i for i in range(10_000)]
    assert np.array_equal(line_digests(b"".join(lines), 3), digests(lines, 3))


value = st.recursive(
    st.none() | st.integers(0, 3), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
nested = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-2, 2),
            "s": st.none() | st.sampled_from(["", "a", "\0", "\0\0"]),
            "l": st.none() | st.lists(st.none() | st.sampled_from(["", "a", "\0"]), max_size=3),
            "o": st.none() | st.fixed_dictionaries({"x": st.none() | st.integers(0, 1)}),
            "m": st.none()
            | st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1)), max_size=2),
            "f": st.none() | st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=2),
        }
    ),
    min_size=1,
    max_size=8,
)
SCHEMA = pa.schema(
    {
        "i": pa.int32(), "s": pa.string(), "l": pa.list_(pa.string()),
        "o": pa.struct({"x": pa.int8()}), "m": pa.map_(pa.string(), pa.int64()),
        "f": pa.list_(pa.float32(), 2),
    }
)  # fmt: skip


def encoded(batch: pa.RecordBatch) -> list[bytes]:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    return row_bytes(columns, batch.num_rows).to_pylist()


@RELAXED
@given(nested, st.integers(0, 7))
def test_bytes_of_a_row_depend_on_its_values_alone(
    rows: list[dict[str, object]], begin: int
) -> None:
    batch = pa.RecordBatch.from_pylist(rows, SCHEMA)
    found = encoded(batch)
    assert len(set(found)) == len({repr(sorted(row.items())) for row in rows})
    begin = min(begin, len(rows) - 1)
    assert encoded(batch.slice(begin)) == found[begin:]
    assert encoded(pa.RecordBatch.from_pylist(rows[begin : begin + 1], SCHEMA)) == [found[begin]]


def test_batches_are_bounded_in_rows_and_bytes() -> None:
    n = 150_000
    keys16 = np.zeros((n, 16), np.uint8)
    text = pa.array(["x" * 300] * n)
    schema = pa.schema([("a", pa.string())])
    batches = list(with_system_columns([text], schema, keys16, keys16, 1))
    assert sum(b.num_rows for b in batches) == n
    assert all(b.num_rows <= 1 << 16 and b.nbytes < 17 << 20 for b in batches)
