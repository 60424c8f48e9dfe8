"""Every operation: what comes out, and what is refused before work begins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import time
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from libs.common.errors import PermanentError
from libs.common.manifest.operations import OPERATIONS as CONTRACT
from libs.common.manifest.operations import Later
from libs.formats import SYSTEM_FIELDS
from services.transform.operations import AT, OPERATIONS, SYSTEM, Exchange, Rowwise
from services.transform.operations._digests import digests, first_of_each
from services.transform.operations.cast import TYPES
from services.transform.operations.repartition import PLUGIN as REPARTITION
from services.transform.pipeline import after, segments, stored
from services.transform.plan import Step
from services.transform.tasks import Chunk

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())])


def batch(rows: int = 3) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array(range(rows), pa.int64()),
            pa.array([str(i) for i in range(rows)]),
            pa.array([i / 2 for i in range(rows)]),
            pa.array([bytes([i]) * 16 for i in range(rows)], pa.binary(16)),
            pa.array([bytes([i]) * 8 for i in range(rows)], pa.binary(8)),
            pa.array([7] * rows, pa.int64()),
        ],
        schema=pa.schema([*SCHEMA, *SYSTEM_FIELDS]),
    )


def rowwise(name: str) -> Rowwise:
    plugin = OPERATIONS.get(name)
    assert isinstance(plugin, Rowwise)
    return plugin


def exchange(name: str) -> Exchange:
    plugin = OPERATIONS.get(name)
    assert isinstance(plugin, Exchange)
    return plugin


def test_every_operation_of_the_contract_that_is_built_is_here() -> None:
    built = [name for name, model in CONTRACT.items() if not issubclass(model, Later)]
    assert sorted(built) == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS.keys())
def test_an_operation_is_either_row_wise_or_an_exchange(name: str) -> None:
    plugin = OPERATIONS.get(name)
    assert isinstance(plugin, Rowwise) == plugin.rowwise
    assert isinstance(plugin, Exchange) != plugin.rowwise


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("filter", "a > 1"),
        ("select", ["c", "a"]),
        ("rename", {"a": "x", "b": "a"}),
        ("cast", {"a": "string", "c": "decimal(10,2)"}),
    ],
)
def test_rows_come_out_as_the_schema_said_with_system_columns(
    name: str, arguments: JsonValue
) -> None:
    plugin = rowwise(name)
    out = plugin.bind(arguments, SCHEMA)(batch())
    assert out.schema.names[: -len(SYSTEM)] == plugin.schema(arguments, SCHEMA).names
    assert out.schema.types[: -len(SYSTEM)] == plugin.schema(arguments, SCHEMA).types
    assert tuple(out.schema.names[-len(SYSTEM) :]) == SYSTEM
    assert set(out["_row"].to_pylist()) <= set(batch()["_row"].to_pylist())


def test_a_rename_swaps_names() -> None:
    out = rowwise("rename").bind({"a": "b", "b": "a"}, SCHEMA)(batch())
    assert out["b"].to_pylist() == [0, 1, 2]
    assert out["a"].to_pylist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Step(name="select", arguments=["nope"]), "column_missing"),
        (Step(name="select", arguments=["_row"]), "system_column"),
        (Step(name="rename", arguments={"a": "b"}), "invalid_argument"),
        (Step(name="rename", arguments={"_source": "x"}), "system_column"),
        (Step(name="cast", arguments={"d": "int64"}), "column_missing"),
        (Step(name="cast", arguments={"_hash": "string"}), "system_column"),
        (Step(name="cast", arguments={"c": "date"}), "type_mismatch"),
        (Step(name="dedupe", arguments=["d"]), "column_missing"),
        (Step(name="filter", arguments="d > 1"), "column_missing"),
        (Step(name="explode", arguments=None), "unknown_operation"),
    ],
)
def test_what_does_not_fit_the_columns_is_told_with_its_place(step: Step, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        after([Step(name="select", arguments=["a", "b", "c"]), step], SCHEMA)
    assert caught.value.code == code
    assert caught.value.path == f"spec.transform[1].{step.name}"


@pytest.mark.parametrize("kind", TYPES)
def test_texts_can_be_cast_to_every_type(kind: str) -> None:
    schema = pa.schema([("x", pa.string())])
    out = rowwise("cast").bind({"x": kind}, schema)(
        pa.record_batch({"x": pa.array([None, None], pa.string())})
    )
    assert out["x"].type == TYPES[kind]


def test_a_time_is_read_from_text() -> None:
    schema = pa.schema([("x", pa.string())])
    out = rowwise("cast").bind({"x": "time"}, schema)(pa.record_batch({"x": ["10:20:30", None]}))
    assert out["x"].to_pylist() == [time(10, 20, 30), None]


def test_a_value_that_does_not_fit_is_named() -> None:
    schema = pa.schema([("x", pa.string())])
    values = [str(i) for i in range(1000)] + ["12x"] + ["oops"]
    with pytest.raises(PermanentError, match=r"column 'x': '12x' can't become int64"):
        rowwise("cast").bind({"x": "int64"}, schema)(pa.record_batch({"x": values}))


def test_a_cast_never_rounds_silently() -> None:
    with pytest.raises(PermanentError, match=r"0\.5 can't become int64"):
        rowwise("cast").bind({"c": "int64"}, SCHEMA)(batch())


def test_row_wise_steps_are_one_segment_and_exchanges_end_one() -> None:
    steps = [Step(name=n) for n in ("filter", "dedupe", "select", "rename", "repartition")]
    found = [([s.name for s in seg.rowwise], seg.exchange and seg.exchange.name)
             for seg in segments(steps)]  # fmt: skip
    assert found == [(["filter"], "dedupe"), (["select", "rename"], "repartition"), ([], None)]
    assert len(segments([])) == 1


def test_a_column_without_values_is_kept_as_text() -> None:
    kept = stored(pa.schema([("a", pa.null()), ("b", pa.list_(pa.null()))]))
    assert kept.field("a").type == pa.string()
    assert kept.field("b").type == pa.list_(pa.string())


def chunks(*rows: int) -> list[Chunk]:
    return [Chunk(path=f"{i}", chunk=0, partition=0, rows=n) for i, n in enumerate(rows)]


@given(st.lists(st.integers(1, 50), max_size=8), st.integers(1, 12))
def test_repartition_takes_every_row_once_in_order_in_even_parts(
    rows: list[int], parts: int
) -> None:
    found = REPARTITION.assign(parts, chunks(*rows))
    sizes = [sum(s.stop - s.start for s in slices) for slices in found]
    flat = [(s.path, i) for slices in found for s in slices for i in range(s.start, s.stop)]
    assert flat == [(str(c), i) for c, n in enumerate(rows) for i in range(n)]
    assert len(found) == min(parts, sum(rows))
    assert not sizes or max(sizes) - min(sizes) <= 1


def reduced(rows: pa.RecordBatch, columns: list[JsonValue], parts: int) -> list[int]:
    """Scatter in two tasks, gather all partitions; the values of `at` that are kept."""
    plugin, schema = exchange("dedupe"), pa.schema([f for f in rows.schema if f.name != AT])
    found: dict[int, list[pa.RecordBatch]] = {}
    half = rows.num_rows // 2
    for task in (rows.slice(0, half), rows.slice(half)):
        for part, piece in plugin.scatter(columns, schema, parts)(task):
            found.setdefault(part, []).append(piece)
    kept: list[int] = []
    for pieces in found.values():

        def again(pieces: list[pa.RecordBatch] = pieces) -> Iterator[pa.RecordBatch]:
            return iter(pieces)

        for out in plugin.gather(columns, schema, again):
            assert out.schema == rows.schema
            kept += out[AT].to_pylist()
    return sorted(kept)


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from("xyz")),
             min_size=1, max_size=40),
    st.integers(1, 5),
)  # fmt: skip
def test_dedupe_keeps_the_first_of_each(
    rows: list[tuple[int | None, str | None]], parts: int
) -> None:
    table = pa.record_batch(
        {
            "a": pa.array([a for a, _ in rows], pa.int64()),
            "b": pa.array([b for _, b in rows], pa.string()),
            AT: pa.array(range(len(rows)), pa.int64()),
        }
    )
    assert reduced(table, [], parts) == sorted(rows.index(r) for r in set(rows))
    keys = [a for a, _ in rows]
    assert reduced(table, ["a"], parts) == sorted(keys.index(k) for k in set(keys))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([0.0, -0.0]),
        pa.array([float("nan"), float("nan")]),
        pa.array([[1, 2], [1, 2]]),
        pa.array([{"a": 1}, {"a": 1}]),
        pa.array([b"x", b"x"]),
        pa.array([True, True]),
        pa.nulls(2),
    ],
)
def test_equal_values_have_equal_digests(values: pa.Array) -> None:
    found = digests(pa.record_batch({"x": values}), ["x"])
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "b"), ("ab", "")],
        [("", None), (None, "")],
        [("a", "b"), ("b", "a")],
        [(None, None), ("", "")],
    ],
)
def test_different_rows_have_different_digests(rows: list[tuple[str | None, str | None]]) -> None:
    columns = [pa.array(list(c), pa.string()) for c in zip(*rows, strict=True)]
    found = digests(pa.record_batch(columns, names=["x", "y"]), ["x", "y"])
    assert len(np.unique(found, axis=0)) == 2


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30), st.randoms())
def test_the_first_is_found_also_when_digests_share_a_lane(
    pairs: list[tuple[int, int]], random: Random
) -> None:
    at = list(range(len(pairs)))
    for positions in (at, random.sample(at, len(at))):
        found = np.array(pairs, np.uint64).reshape(-1, 2)
        keep = first_of_each(found, np.array(positions, np.int64))
        best = {p: min(a for q, a in zip(pairs, positions, strict=True) if q == p) for p in pairs}
        wanted = [best[p] == a for p, a in zip(pairs, positions, strict=True)]
        assert keep.tolist() == wanted
