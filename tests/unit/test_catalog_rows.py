"""A page of rows: what is cut, what is refused, in which order."""

from __future__ import annotations

from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from libs.common.errors import PermanentError
from libs.warehouse import Reader, Warehouse
from services.catalog import rows
from services.catalog.readers import OPEN, Readers
from services.catalog.rows import CELL, Ask, page
from tests.catalogs import committed

NAME = "default/t"


def reader_of(folder: Path, table: pa.Table) -> Reader:
    warehouse = Warehouse(folder.as_uri())
    committed(warehouse, NAME, "run-1", table)
    return warehouse.open(NAME)


def test_a_long_cell_is_cut_and_named(tmp_path: Path) -> None:
    table = pa.table(
        {
            "short": ["a"],
            "text": ["x" * (CELL + 1)],
            "list": [list(range(CELL))],
            "binary": [b"\0" * CELL],
        }
    )
    (row,) = orjson.loads(page(reader_of(tmp_path, table), Ask(0, 1)))["rows"]
    assert row["truncated_cells"] == ["text", "list", "binary"]
    assert row["row"]["short"] == "a"
    assert row["row"]["text"] == "x" * CELL
    assert row["row"]["list"].startswith("[0,1,2,")
    assert len(row["row"]["list"]) == CELL


def test_many_long_cells_are_cut_shorter_so_that_a_page_stays_small(tmp_path: Path) -> None:
    table = pa.table({f"c{i}": ["y" * CELL] * 100 for i in range(10)})
    content = page(reader_of(tmp_path, table), Ask(0, 100))
    assert len(content) < 2 * rows.PAGE_BYTES
    assert len(orjson.loads(content)["rows"]) == 100


def test_wide_rows_are_read_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(tmp_path, pa.table({"id": list(range(50)), "t": ["z" * 1000] * 50}))
    whole = page(reader, Ask(3, 40))
    monkeypatch.setattr(rows, "READ_BYTES", 3000)
    assert page(reader, Ask(3, 40)) == whole


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, pa.table({"a": [1], "b": [2], "c,d": [3]}))
    found = orjson.loads(page(reader, Ask(0, 1, ("b,a", "c,d", "a"))))
    assert list(found["rows"][0]["row"]) == ["b", "a", "c,d"]
    assert [f["name"] for f in found["features"]] == ["b", "a", "c,d"]


@pytest.mark.parametrize("asked", [("z",), ("a,z",), ("_row",), ("_hash",)])
def test_an_unknown_column_is_refused_and_the_known_ones_are_named(
    tmp_path: Path, asked: tuple[str, ...]
) -> None:
    reader = reader_of(tmp_path, pa.table({"a": [1]}))
    with pytest.raises(PermanentError, match="known: a") as raised:
        page(reader, Ask(0, 1, asked))
    assert raised.value.code == "unknown_column"


async def test_only_so_many_versions_stay_open(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path.as_uri())
    readers = Readers(warehouse)
    for n in range(OPEN + 3):
        committed(warehouse, f"default/t{n}", f"run-{n}", pa.table({"a": [n]}))
        found = orjson.loads(await readers.page(f"default/t{n}", 1, Ask(0, 10)))
        assert found["rows"][0]["row"] == {"a": n}
    assert readers.opened <= OPEN
    readers.close()


async def test_a_version_that_was_absent_can_be_read_once_it_is_there(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path.as_uri())
    readers = Readers(warehouse)
    with pytest.raises(PermanentError):
        await readers.page(NAME, 1, Ask(0, 1))
    committed(warehouse, NAME, "run-1", pa.table({"a": [5]}))
    assert orjson.loads(await readers.page(NAME, 1, Ask(0, 1)))["num_rows_total"] == 1
    readers.close()
