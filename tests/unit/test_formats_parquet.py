"""Parquet: hostile and broken files, types between files, nested and dictionary columns."""

from __future__ import annotations

import base64
import resource
import struct
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.common.errors import PermanentError
from libs.formats import FORMATS, ReadOptions
from libs.formats._parquet_footer import extension_names
from tests.formats import keys, open_path, read, splits, user, write


def file(tmp_path: Path, table: pa.Table, name: str = "in.parquet", **how: object) -> Path:
    path = tmp_path / name
    pq.write_table(table, path, **how)  # type: ignore[arg-type]
    return path


def fault(paths: Path | list[Path], **how: object) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        read("parquet", paths, **how)  # type: ignore[arg-type]
    return caught.value


NESTED = pa.table(
    {
        "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
        "struct": pa.array([{"a": "x", "b": None}, None, {"a": None, "b": [1.5]}],
                           pa.struct({"a": pa.string(), "b": pa.list_(pa.float64())})),
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        "vector": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
        "decimal": pa.array([Decimal("1.50"), None, Decimal("-2.00")], pa.decimal128(9, 2)),
        "blob": [b"\x00\xff", None, b""],
        "day": [date(2020, 1, 1), None, date(1, 1, 1)],
        "at": pa.array([datetime(2020, 1, 1, 2, 3, 4, 5), None, datetime(1960, 1, 1)]),
        "instant": pa.array([0, None, -1], pa.timestamp("ms", "UTC")),
        "time": pa.array([1, None, 86399], pa.time32("s")),
        "small": pa.array([1, None, -1], pa.int8()),
        "nothing": pa.nulls(3),
        "half": pa.array([0.5, None, float("nan")], pa.float16()),
    }
)  # fmt: skip


def test_values_of_all_types_are_kept(tmp_path: Path) -> None:
    found = read("parquet", file(tmp_path, NESTED))
    assert str(user(found).to_pylist()) == str(NESTED.to_pylist())
    assert len(set(keys(found))) == 3


def test_each_single_value_counts_for_the_key(tmp_path: Path) -> None:
    whole = keys(read("parquet", file(tmp_path, NESTED)))
    for name in NESTED.schema.names:
        if name == "nothing":
            continue
        index = NESTED.schema.get_field_index(name)
        changed = NESTED.set_column(index, name, NESTED[name].take([1, 0, 0]))
        other = keys(read("parquet", file(tmp_path, changed)))
        assert not set(other) & set(whole), name


def test_keys_don_t_depend_on_the_order_of_columns_or_the_width_of_types(tmp_path: Path) -> None:
    narrow = pa.table(
        {
            "i": pa.array([1, None], pa.int16()),
            "f": pa.array([0.5, 2], pa.float32()),
            "s": pa.array(["x", "y"]).dictionary_encode(),
            "t": pa.array([1000, 2000], pa.timestamp("ms")),
            "l": pa.array([[1], [2, 3]], pa.list_(pa.int8())),
        }
    )
    wide = pa.table(
        {
            "l": pa.array([[1], [2, 3]], pa.large_list(pa.int64())),
            "t": pa.array([10**9, 2 * 10**9], pa.timestamp("ns")),
            "s": pa.array(["x", "y"], pa.large_string()),
            "f": pa.array([0.5, 2], pa.float64()),
            "i": pa.array([1, None], pa.int64()),
        }
    )
    one = keys(read("parquet", file(tmp_path, narrow)))
    assert one == keys(read("parquet", file(tmp_path, wide)))


def test_dictionary_columns_become_plain(tmp_path: Path) -> None:
    table = pa.table({"s": pa.array(["a", None, "a"]).dictionary_encode()})
    found = read("parquet", file(tmp_path, table))
    assert found["s"].type == pa.string()
    assert found["s"].to_pylist() == ["a", None, "a"]


def test_small_row_groups_are_read_together_and_big_ones_alone(tmp_path: Path) -> None:
    table = pa.table({"a": np.arange(10_000)})
    path = file(tmp_path, table, row_group_size=1000)
    assert len(splits(FORMATS.get("parquet"), path, 1)) == 10
    assert len(splits(FORMATS.get("parquet"), path, 1 << 30)) == 1
    assert 2 <= len(splits(FORMATS.get("parquet"), path, 30_000)) <= 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"OOPS" + data[4:],
        lambda data: data[:-4] + b"PARE",
        lambda data: data[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        lambda data: data[:-8] + struct.pack("<I", 3) + b"PAR1",
        lambda data: data[:4] + b"\xff" * (len(data) // 2) + data[4 + len(data) // 2 :],
        lambda data: b"PAR1PAR1",
        lambda data: b"a,b\n1,2\n" * 10,
        lambda data: b"\0" * 1000,
    ],
)
def test_a_broken_file_is_told_with_its_name(tmp_path: Path, damage: object) -> None:
    path = file(tmp_path, pa.table({"a": np.arange(5000), "b": ["x"] * 5000}))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    wrong = fault(path)
    assert wrong.code == "corrupt_file"
    assert "in.parquet" in wrong.detail


def tagged(table: pa.Table, name: str) -> pa.Table:
    """As a file of a library that this process doesn't have: the type is only named."""
    fields = [f.with_metadata({"ARROW:extension:name": name}) for f in table.schema]
    return table.cast(pa.schema(fields))


@pytest.mark.parametrize("name", ["ray.data.arrow_pickled_object", "acme.surprise"])
def test_an_extension_type_that_isn_t_allowed_is_refused(tmp_path: Path, name: str) -> None:
    for column in ([b"x"], [[b"x"]], [{"deep": [b"x"]}]):
        table = tagged(pa.table({"a": column}), name)
        wrong = fault(file(tmp_path, table))
        assert wrong.code == "unsafe_column_type"
        assert name in wrong.detail


def test_a_nested_extension_type_is_refused(tmp_path: Path) -> None:
    inner = pa.field("x", pa.binary(), metadata={"ARROW:extension:name": "acme.surprise"})
    table = pa.table({"a": pa.array([{"x": b"1"}], pa.struct([inner]))})
    assert fault(file(tmp_path, table)).code == "unsafe_column_type"


def test_allowed_extension_types_are_read_as_their_values(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([b"0" * 16, None], pa.uuid()), "n": [1, 2]})
    found = read("parquet", file(tmp_path, table))
    assert found["id"].to_pylist() == [b"0" * 16, None]


HOSTILE = """
import sys, pathlib, pyarrow as pa
class Evil(pa.ExtensionType):
    def __init__(self): super().__init__(pa.binary(), "evil.type")
    def __arrow_ext_serialize__(self): return b""
    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        pathlib.Path(sys.argv[2]).touch()
        return cls()
pa.register_extension_type(Evil())
from libs.common.errors import PermanentError
from tests.formats import read
try:
    read("parquet", pathlib.Path(sys.argv[1]))
except PermanentError as wrong:
    print(wrong.code)
"""


def test_a_registered_extension_type_runs_no_code_before_it_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, tagged(pa.table({"a": [b"x"]}), "evil.type"))
    command = [sys.executable, "-c", HOSTILE, str(path), str(tmp_path / "ran")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "unsafe_column_type\n"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [b"\x00", b"\x18", b"\x18\xff\xff\xff\xff\xff\xff", b"\x18\x04AAAA", b"\x18\x05!!!!!",
     b"\x18\x08" + base64.b64encode(b"\xff" * 6)],
)  # fmt: skip
def test_an_arrow_schema_that_can_t_be_read_is_refused(value: bytes) -> None:
    with pytest.raises(PermanentError, match=r"x\.parquet") as caught:
        extension_names(b"ARROW:schema" + value, "x.parquet")
    assert caught.value.code == "corrupt_file"


@pytest.mark.parametrize("nested", [False, True])
def test_a_dictionary_bomb_is_read_in_small_batches(tmp_path: Path, nested: bool) -> None:
    codes = pa.array(np.where(np.arange(100_000) % 1000 == 7, 1, 0).astype(np.int32))
    column: pa.Array = pa.DictionaryArray.from_arrays(codes, pa.array(["a", "x" * 1_000_000]))
    if nested:
        column = pa.ListArray.from_arrays(pa.array(np.arange(100_001), pa.int32()), column)
    path = file(
        tmp_path, pa.table({"s": column}), compression="zstd",
        dictionary_pagesize_limit=1 << 24, store_schema=False, write_statistics=False,
    )  # fmt: skip
    assert path.stat().st_size < 10_000
    plugin = FORMATS.get("parquet")
    how = plugin.Options()
    piece = splits(plugin, path)[0]
    schema = plugin.infer(piece, open_path, how, None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = 0
    for batch in plugin.read(piece, open_path, ReadOptions(schema, how)):
        rows += batch.num_rows
        if rows > 20_000:
            break
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_more_rows_than_allowed_are_refused_before_reading(tmp_path: Path) -> None:
    wrong = fault(file(tmp_path, pa.table({"a": np.zeros(1001)})), max_rows=1000)
    assert wrong.code == "too_many_rows"
    assert "max_rows" in wrong.detail


@pytest.mark.parametrize(
    ("a", "b", "joined"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint32(), pa.int32(), pa.int64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.int32(), pa.float32(), pa.float64()),
        (pa.int16(), pa.float32(), pa.float32()),
        (pa.null(), pa.string(), pa.string()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.decimal128(5, 2), pa.decimal128(9, 3), pa.decimal128(9, 3)),
        (pa.list_(pa.int32()), pa.list_(pa.int64()), pa.list_(pa.int64())),
        (pa.struct({"x": pa.int32()}), pa.struct({"y": pa.string()}),
         pa.struct({"x": pa.int32(), "y": pa.string()})),
    ],
)  # fmt: skip
def test_types_of_two_files_widen_where_nothing_is_lost(
    tmp_path: Path, a: pa.DataType, b: pa.DataType, joined: pa.DataType
) -> None:
    files = [
        file(tmp_path, pa.table({"v": pa.nulls(1, kind)}), f"{i}.parquet")
        for i, kind in enumerate((a, b))
    ]
    for head in (None, 1):
        assert read("parquet", files, head=head)["v"].type == joined
        assert read("parquet", files[::-1], head=head).num_rows == 2


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (pa.int64(), pa.string()),
        (pa.int64(), pa.float64()),
        (pa.uint64(), pa.int64()),
        (pa.bool_(), pa.int8()),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.string(), pa.binary()),
        (pa.date32(), pa.timestamp("us")),
        (pa.list_(pa.int64()), pa.int64()),
        (pa.struct({"x": pa.int64()}), pa.struct({"x": pa.string()})),
    ],
)
def test_types_that_don_t_fit_are_an_error_with_both_sides(
    tmp_path: Path, a: pa.DataType, b: pa.DataType
) -> None:
    files = [
        file(tmp_path, pa.table({"v": pa.nulls(1, kind)}), f"{i}.parquet")
        for i, kind in enumerate((a, b))
    ]
    for head in (None, 1):
        wrong = fault(files, head=head)
        assert wrong.code == "schema_mismatch"
        for part in ("'v'", "0.parquet", "1.parquet", str(a), str(b)):
            assert part in wrong.detail


def test_duplicate_columns_are_an_error_that_names_them(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    wrong = fault(file(tmp_path, table))
    assert (wrong.code, "'a'" in wrong.detail) == ("duplicate_columns", True)


def test_written_parts_have_sensible_row_groups(tmp_path: Path) -> None:
    table = pa.table({"a": np.arange(50_000)})
    path = write("parquet", tmp_path / "out.parquet", table, row_group_rows=20_000)
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [
        20_000,
        20_000,
        10_000,
    ]
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.row_group(0).column(0).statistics.max == 19_999


def test_what_parquet_has_no_form_for_is_refused_by_schema(tmp_path: Path) -> None:
    plugin = FORMATS.get("parquet")
    schema = pa.schema([("v", pa.month_day_nano_interval())])
    with pytest.raises(PermanentError, match="'v'") as caught:
        plugin.writer(str(tmp_path / "x.parquet"), schema, plugin.WriteOptions())
    assert caught.value.code == "inexpressible"
