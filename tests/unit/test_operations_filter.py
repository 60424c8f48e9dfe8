"""SQL conditions: three-valued logic as DuckDB has it, and nothing beyond the allow-list."""

from __future__ import annotations

from datetime import date

import duckdb
import pyarrow as pa
import pytest

from libs.common.errors import PermanentError
from services.transform.operations import OPERATIONS, Rowwise

TABLE = pa.table(
    {
        "n": pa.array(range(8), pa.int64()),
        "i": pa.array([1, 2, None, -3, 0, 7, 2**40, 10], pa.int64()),
        "f": pa.array([0.5, None, -1.5, 2.0, 3.25, 0.0, 1e10, 2.5], pa.float64()),
        "s": pa.array(["abc", "Abd", None, "", "a%c", "x_y", " pad ", "naïve"]),
        "b": pa.array([True, False, None, True, False, None, True, True]),
        "d": pa.array([date(2024, m, 28) if m else None for m in (1, 2, 3, 0, 5, 6, 7, 8)]),
        "t": pa.array([i * 86_400_000_000 for i in range(8)], pa.timestamp("us")),
        "a b": pa.array([1, 2, 3, 4, 5, 6, 7, 8], pa.int32()),
        "nothing": pa.nulls(8),
    }
)

CONDITIONS = [
    "i > 1", "i >= 2 AND f < 3", "i = 2 OR s = 'abc'", "NOT (i > 1)", "i <> 2", "i = f",
    "i IS NULL", "i IS NOT NULL", "s IS NULL OR i > 5", "b", "NOT b", "b IS TRUE",
    "b IS NOT TRUE", "b IS FALSE", "b = (i > 0)", "i BETWEEN 0 AND 7", "i NOT BETWEEN 0 AND 7",
    "i IN (1, 2, 7)", "i NOT IN (1, 2)", "i IN (1, NULL)", "i NOT IN (1, NULL)",
    "s IN ('abc', 'x_y')", "i IN (-3)", "s LIKE 'a%'", "s NOT LIKE 'a%'", "s ILIKE 'A%'",
    "s LIKE '_b_'", "s LIKE ''", "lower(s) = 'abd'", "upper(s) = 'ABC'", "length(s) = 3",
    "length(s) > 4", "trim(s) = 'pad'", "starts_with(s, 'a')", "ends_with(s, 'c')",
    "contains(s, 'a')", "regexp_matches(s, '^[a-c]+$')", "i + 1 > 2", "i - 1 = 1", "i * 2 = 4",
    "i / 2 = 0.5", "i <> 0 AND i / 0 > 1",
    "1 / i > 0.4", "i % 2 = 1", "i % 2 = -1", "i // 2 = 1",
    "-i > 0", "abs(i) = 3", "round(f) = 3", "round(f, 1) = 0.5", "floor(f) = 2", "ceil(f) = 4",
    "coalesce(i, 0) = 0", "coalesce(f, i, 1) > 2", "i IS DISTINCT FROM 2",
    "i IS NOT DISTINCT FROM NULL", "CASE WHEN i > 5 THEN true WHEN b THEN false END",
    "CASE WHEN i > 1 THEN 1 ELSE 0 END = 1", "d > '2024-03-01'", "d = DATE '2024-01-28'",
    "t >= '1970-01-03'", "t < TIMESTAMP '1970-01-02 12:00:00'", "year(d) = 2024",
    "month(d) = 5 OR day(t) = 1", "CAST(i AS VARCHAR) = '2'", "i::double > 1.5",
    "CAST(s = 'abc' AS INTEGER) = 1", "\"a b\" > 6", "true", "false", "NULL", "i = NULL",
    "i > NULL OR b", "nothing IS NULL", "nothing > 1", "(i > 1) = b", "f BETWEEN -2 AND i",
    "s = 'it''s' OR s < 'b'", "i > 1e0 AND i < 1.5e1", "i == 2", "i != 2", "not i in (1,2,3)",
]  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_keeps_the_rows_that_duckdb_keeps(condition: str) -> None:
    expected = _duckdb(condition)
    assert _kept(condition) == expected


REFUSED = {
    "select 1": "invalid_expression",
    "i > (select 1)": "invalid_expression",
    "i in (select n)": "invalid_expression",
    "i > 1; drop table x": "invalid_expression",
    "drop table x": "invalid_expression",
    "attach 'x'": "invalid_expression",
    "read_csv('/etc/passwd')": "invalid_expression",
    "getenv('HOME') = 'x'": "invalid_expression",
    "i >": "invalid_expression",
    "'x": "invalid_expression",
    "": "invalid_expression",
    "*": "invalid_expression",
    "t.i > 1": "invalid_expression",
    "i > ?": "invalid_expression",
    "random() > 0.5": "invalid_expression",
    "sum(i) > 1": "invalid_expression",
    "row_number() over () > 1": "invalid_expression",
    "s like s": "invalid_expression",
    "(" * 3000 + "true" + ")" * 3000: "invalid_expression",
    "i > 1 " + "and i > 1 " * 3000: "invalid_expression",
    "price > 10": "column_missing",
    "I > 1": "column_missing",
    "_row = 'x'": "system_column",
    "s > 1": "type_mismatch",
    "i + s > 1": "type_mismatch",
    "i": "type_mismatch",
    "d > 'soon'": "type_mismatch",
    "s and b": "type_mismatch",
    "i::nonsense > 1": "invalid_argument",
}


@pytest.mark.parametrize("condition", REFUSED, ids=lambda c: c[:30])
def test_what_is_not_allowed_is_refused_before_any_work(condition: str) -> None:
    with pytest.raises(PermanentError) as caught:
        _filter().schema(condition, TABLE.schema)
    assert caught.value.code == REFUSED[condition]


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(PermanentError, match=r"no column 'nothin' \(did you mean 'nothing'\?\)"):
        _filter().schema("nothin > 1", TABLE.schema)


def test_whole_division_by_zero_is_unknown() -> None:
    assert _kept("i // 0 IS NULL AND i % 0 IS NULL") == list(range(8))


def test_an_overflow_is_an_error_and_no_wrong_row() -> None:
    with pytest.raises(PermanentError, match="overflow") as caught:
        _kept(f"i * {2**62} > 0")
    assert caught.value.code == "filter_failed"


def _filter() -> Rowwise:
    plugin = OPERATIONS.get("filter")
    assert isinstance(plugin, Rowwise)
    return plugin


def _kept(condition: str) -> list[int]:
    apply = _filter().bind(condition, TABLE.schema)
    kept = [row for batch in TABLE.to_batches(3) for row in apply(batch)["n"].to_pylist()]
    return [int(row) for row in kept]


def _duckdb(condition: str) -> list[int]:
    with duckdb.connect() as connection:
        connection.register("rows", TABLE.set_column(8, "nothing", pa.nulls(8, pa.int32())))
        found = connection.execute(f"SELECT n FROM rows WHERE {condition} ORDER BY n").fetchall()
    return [int(row[0]) for row in found]
