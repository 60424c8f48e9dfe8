"""The warehouse: versions are whole or absent, made once, and read back in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from libs.common.errors import LeaseLost, PermanentError
from libs.formats import SYSTEM_FIELDS
from libs.warehouse import Commit, InventoryFile, Version, Warehouse, write_fragments
from libs.warehouse._lance import FragmentMetadata, lance

DATASET = "default/fruit"
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string()), *SYSTEM_FIELDS])


def rows(start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """One batch of numbered rows with their system columns."""
    numbers = range(start, stop)
    yield pa.record_batch(
        [
            pa.array(numbers, pa.int64()),
            pa.array([f"s{n}" for n in numbers]),
            pa.array([n.to_bytes(16, "big") for n in numbers], pa.binary(16)),
            pa.array([n.to_bytes(8, "big") for n in numbers], pa.binary(8)),
            pa.array([7] * len(numbers), pa.int64()),
        ],
        schema=SCHEMA,
    )


def commit_of(warehouse: Warehouse, run: str, count: int) -> Commit:
    return Commit(
        run=run,
        run_dir=warehouse.run_dir(DATASET, run),
        attempt=1,
        plan_digest="p",
        inventory_digest="i",
        engine="local",
        rows=count,
        bytes=count * 8,
    )


def make_version(warehouse: Warehouse, run: str, *spans: tuple[int, int]) -> Version:
    uri = warehouse.dataset_uri(DATASET)
    fragments = [f for span in spans for f in write_fragments(uri, rows(*span), SCHEMA)]
    count = sum(stop - start for start, stop in spans)
    return warehouse.commit(DATASET, fragments, SCHEMA, commit_of(warehouse, run, count))


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse((tmp_path / "wh").as_uri())


def test_a_dataset_that_never_was_has_no_versions(warehouse: Warehouse) -> None:
    assert warehouse.versions(DATASET) == []
    assert warehouse.version(DATASET) is None
    assert warehouse.committed(DATASET, "run-1") is None
    with pytest.raises(PermanentError, match="no version yet"):
        warehouse.open(DATASET)


def test_versions_are_numbered_and_each_keeps_its_own_rows(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1", (0, 10), (10, 25))
    make_version(warehouse, "run-2", (100, 103))
    assert [v.name for v in warehouse.versions(DATASET)] == ["v2", "v1"]
    assert warehouse.open(DATASET, 1).page(8, 4).to_pydict() == {
        "n": [8, 9, 10, 11],
        "s": ["s8", "s9", "s10", "s11"],
    }
    assert warehouse.open(DATASET).page(0, 100, ["n"])["n"].to_pylist() == [100, 101, 102]


def test_a_page_past_the_end_is_empty_and_keeps_its_columns(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1", (0, 3))
    page = warehouse.open(DATASET).page(3, 10)
    assert (page.num_rows, page.column_names) == (0, ["n", "s"])


def test_a_version_without_rows_is_a_version(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1")
    reader = warehouse.open(DATASET)
    assert (reader.rows, reader.user_schema.names) == (0, ["n", "s"])
    assert list(reader.batches()) == [] or sum(b.num_rows for b in reader.batches()) == 0


def test_all_rows_come_in_order_in_small_batches(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1", (0, 1000), (1000, 2500))
    batches = list(warehouse.open(DATASET).batches(["n"], batch_rows=300))
    assert max(b.num_rows for b in batches) <= 300
    assert [n for b in batches for n in b["n"].to_pylist()] == list(range(2500))


def test_a_row_is_found_by_its_key(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1", (0, 50))
    assert warehouse.open(DATASET).by_key((42).to_bytes(16, "big"))["n"].to_pylist() == [42]


def test_the_run_that_made_a_version_is_found_again(warehouse: Warehouse) -> None:
    made = make_version(warehouse, "run-1", (0, 5))
    make_version(warehouse, "run-2", (0, 6))
    assert warehouse.committed(DATASET, "run-1") == made
    assert warehouse.committed(DATASET, "run-9") is None


def leave_untagged(warehouse: Warehouse, run: str) -> None:
    """As a process killed between commit and tag leaves it."""
    uri = warehouse.dataset_uri(DATASET)
    fragments = [FragmentMetadata.from_json(f) for f in write_fragments(uri, rows(0, 9), SCHEMA)]
    head = lance.dataset(uri).version
    operation = lance.LanceOperation.Overwrite(SCHEMA, fragments)
    properties = commit_of(warehouse, run, 9).properties()
    lance.LanceDataset.commit(
        uri,
        lance.Transaction(head, operation, transaction_properties=properties),
        enable_stable_row_ids=True,
    )


def test_a_commit_without_its_tag_is_invisible_and_finished_by_its_own_run(
    warehouse: Warehouse,
) -> None:
    make_version(warehouse, "run-1", (0, 5))
    leave_untagged(warehouse, "run-2")
    assert warehouse.open(DATASET).rows == 5
    finished = warehouse.committed(DATASET, "run-2")
    assert finished is not None
    assert (finished.number, warehouse.open(DATASET).rows) == (2, 9)


def test_a_commit_without_its_tag_is_rolled_back_by_the_next_run(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1", (0, 5))
    leave_untagged(warehouse, "run-2")
    warehouse.begin(DATASET)
    warehouse.begin(DATASET)
    assert lance.dataset(warehouse.dataset_uri(DATASET)).count_rows() == 5
    assert make_version(warehouse, "run-3", (0, 7)).number == 2
    assert warehouse.committed(DATASET, "run-2") is None


def test_a_sweep_removes_what_no_version_uses_and_nothing_else(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1", (0, 5))
    write_fragments(warehouse.dataset_uri(DATASET), rows(0, 1000), SCHEMA)  # of a killed attempt
    make_version(warehouse, "run-2", (0, 7))
    assert warehouse.sweep(DATASET) > 0
    assert warehouse.sweep(DATASET) == 0
    assert [v.commit.run for v in warehouse.versions(DATASET)] == ["run-2", "run-1"]
    assert [warehouse.open(DATASET, n).page(4, 1)["n"].to_pylist() for n in (1, 2)] == [[4], [4]]


def test_an_attempt_that_lost_its_lease_commits_nothing(warehouse: Warehouse) -> None:
    make_version(warehouse, "run-1", (0, 5))

    def lost() -> None:
        raise LeaseLost("run-2")

    fragments = write_fragments(warehouse.dataset_uri(DATASET), rows(0, 9), SCHEMA)
    with pytest.raises(LeaseLost):
        warehouse.commit(DATASET, fragments, SCHEMA, commit_of(warehouse, "run-2", 9), lost)
    assert [v.number for v in warehouse.versions(DATASET)] == [1]


def test_an_inventory_comes_back_as_it_was_and_has_a_digest(warehouse: Warehouse) -> None:
    files = [InventoryFile(f"file:///d/{i}.csv", f"{i}.csv", i, etag=f"e{i}") for i in range(12345)]
    with warehouse.inventory_writer("default/fruit.runs/run-1") as writer:
        for file in files:
            writer.add(file)
    assert (writer.files, writer.bytes) == (12345, sum(f.size for f in files))
    assert list(warehouse.inventory("default/fruit.runs/run-1")) == files
    with warehouse.inventory_writer("default/fruit.runs/run-2") as again:
        for file in files[:-1]:
            again.add(file)
    assert again.digest != writer.digest


def test_an_inventory_cut_short_is_not_there(warehouse: Warehouse) -> None:
    run_dir = "default/fruit.runs/run-1"
    with pytest.raises(KeyboardInterrupt), warehouse.inventory_writer(run_dir) as writer:
        writer.add(InventoryFile("file:///d/1.csv", "1.csv", 1))
        raise KeyboardInterrupt
    assert list(warehouse.path(run_dir).iterdir()) == []


def test_nothing_outside_the_warehouse_is_reached(warehouse: Warehouse) -> None:
    with pytest.raises(PermanentError, match="outside the warehouse"):
        warehouse.path("../../etc/passwd")
    with pytest.raises(PermanentError, match="not supported"):
        Warehouse("ftp://somewhere/else")


def test_the_log_of_a_run_is_read_in_order_and_half_a_line_is_left_out(
    warehouse: Warehouse,
) -> None:
    log = warehouse.log("default/fruit.runs/run-1")
    log.append("ingest", 0, "listed", files=3)
    log.append("transform", 1, "split_done", rows=10)
    path = warehouse.path("default/fruit.runs/run-1") / "log" / "transform.0001.jsonl"
    with path.open("ab") as file:
        file.write(b'{"time": "20')
    assert [(line["stage"], line["event"]) for line in log.read()] == [
        ("ingest", "listed"),
        ("transform", "split_done"),
    ]
