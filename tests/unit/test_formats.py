"""What every format must do: parametrised over the registry, so that a new file is tested too."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import OneBlockError, PermanentError
from libs.formats import FORMATS, FileFormat, Format, parse_options
from tests.formats import WHOLE, keys, read, splits, user, write
from tests.fuzz import relaxed, seeds

RELAXED = relaxed(40)


# Formats of whole files have a suite of their own: test_formats_files.py.
RECORDS = [key for key in FORMATS.keys() if not isinstance(FORMATS.get(key), FileFormat)]  # noqa: SIM118


@pytest.fixture(params=RECORDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def plugin(kind: str) -> Format:
    return FORMATS.get(kind)


def path(tmp_path: Path, kind: str, name: str = "part") -> Path:
    return tmp_path / f"{name}{plugin(kind).suffixes[0]}"


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "name": [
                None if i % 7 == 3 else f'name {i}, "{i}"\n{"x" * (i % 50)}' for i in range(rows)
            ],
            "score": pa.array([None if i % 5 == 1 else i + 0.5 for i in range(rows)]),
            "good": pa.array([None if i % 11 == 2 else i % 2 == 0 for i in range(rows)]),
        }
    )


def multiset(found: pa.Table) -> Counter[str]:
    return Counter(repr(row) for row in found.to_pylist())


def test_what_is_written_is_read_back(tmp_path: Path, kind: str) -> None:
    content = table(3000)
    found = read(kind, write(kind, path(tmp_path, kind), content))
    assert user(found).to_pylist() == content.to_pylist()


@pytest.mark.parametrize("target", [1, 100, 1000, 10_000, 100_000, WHOLE])
def test_splits_cover_a_file_once_whatever_their_size(
    tmp_path: Path, kind: str, target: int
) -> None:
    file = write(kind, path(tmp_path, kind), table(700), batch_rows=50)
    pieces = splits(plugin(kind), file, target)
    assert [(a.stop, a.uri) for a in pieces[:-1]] == [(b.start, b.uri) for b in pieces[1:]]
    assert pieces[0].start == 0
    whole = read(kind, file)
    assert read(kind, file, target=target).equals(whole)


def test_keys_don_t_depend_on_order_or_on_the_files_rows_are_in(tmp_path: Path, kind: str) -> None:
    content = table(400)
    order = list(range(400))
    random.Random(1).shuffle(order)
    one = write(kind, path(tmp_path, kind, "one"), content)
    shuffled = content.take(order)
    two = [
        write(kind, path(tmp_path, kind, "two"), shuffled.slice(0, 150)),
        write(kind, path(tmp_path, kind, "three"), shuffled.slice(150)),
    ]
    assert sorted(keys(read(kind, one))) == sorted(keys(read(kind, two)))
    assert len(set(keys(read(kind, one)))) == 400


def test_identical_rows_share_a_key_and_different_ones_don_t(tmp_path: Path, kind: str) -> None:
    content = pa.concat_tables([table(5), table(5)])
    found = keys(read(kind, write(kind, path(tmp_path, kind), content)))
    assert found[:5] == found[5:]
    assert len(set(found)) == 5


def test_declared_keys_are_the_same_from_every_format(tmp_path: Path) -> None:
    content = table(50)
    found = {
        kind: keys(read(kind, write(kind, path(tmp_path, kind), content), key=("id",)))
        for kind in ("csv", "parquet", "jsonl")
    }
    assert found["csv"] == found["parquet"] == found["jsonl"]


def test_a_declared_key_survives_a_change_of_content(tmp_path: Path, kind: str) -> None:
    content = table(5)
    changed = content.set_column(1, "name", pa.array(["other"] * 5))
    before = read(kind, write(kind, path(tmp_path, kind, "a"), content), key=("id",))
    after = read(kind, write(kind, path(tmp_path, kind, "b"), changed), key=("id",))
    assert keys(before) == keys(after)
    assert not set(before["_hash"].to_pylist()) & set(after["_hash"].to_pylist())


def test_without_a_declared_key_the_hash_is_the_start_of_the_key(tmp_path: Path, kind: str) -> None:
    found = read(kind, write(kind, path(tmp_path, kind), table(5)))
    assert [k[:8] for k in found["_row"].to_pylist()] == found["_hash"].to_pylist()


def test_an_absent_key_column_is_an_error_that_lists_the_columns(tmp_path: Path, kind: str) -> None:
    file = write(kind, path(tmp_path, kind), table(5))
    with pytest.raises(PermanentError, match=r"no column 'nr'.*id, name, score, good") as caught:
        read(kind, file, key=("nr",))
    assert caught.value.code == "column_missing"


def test_a_row_without_its_key_is_an_error_that_says_where(tmp_path: Path, kind: str) -> None:
    file = write(kind, path(tmp_path, kind), table(5).select(["id", "name"]).slice(0, 4))
    with pytest.raises(PermanentError, match=r"'name' is empty") as caught:
        read(kind, file, key=("id", "name"))
    assert caught.value.code == "key_null"
    assert file.name in caught.value.detail


def test_a_column_called_like_a_system_column_is_an_error(tmp_path: Path, kind: str) -> None:
    file = write(kind, path(tmp_path, kind), pa.table({"_row": ["x"], "a": ["y"]}))
    with pytest.raises(PermanentError, match="_row") as caught:
        read(kind, file)
    assert caught.value.code == "reserved_column"


def test_columns_that_a_file_lacks_are_null(tmp_path: Path, kind: str) -> None:
    files = [
        write(kind, path(tmp_path, kind, "a"), pa.table({"x": [1], "y": ["a"]})),
        write(kind, path(tmp_path, kind, "b"), pa.table({"z": [1.5], "x": [2]})),
    ]
    found = user(read(kind, files))
    assert found.schema.names == ["x", "y", "z"]
    assert found.to_pylist() == [{"x": 1, "y": "a", "z": None}, {"x": 2, "y": None, "z": 1.5}]
    assert user(read(kind, files, head=1)).equals(found)


def test_an_empty_file_is_an_error_with_its_name(tmp_path: Path, kind: str) -> None:
    file = path(tmp_path, kind, "nothing")
    file.touch()
    with pytest.raises(PermanentError, match="nothing") as caught:
        read(kind, file)
    assert caught.value.code == "empty_file"


def test_a_table_without_rows_is_written_and_read(tmp_path: Path, kind: str) -> None:
    file = write(kind, path(tmp_path, kind), table(0))
    if file.stat().st_size:  # jsonl has no way to say which columns there would be
        found = read(kind, file)
        assert found.num_rows == 0
        assert user(found).schema.names == ["id", "name", "score", "good"]


def test_an_unknown_option_is_an_error_that_lists_the_known(kind: str) -> None:
    for model in (plugin(kind).Options, plugin(kind).WriteOptions):
        with pytest.raises(PermanentError, match=r"unknown option 'hedder'.*known: ") as caught:
            parse_options(model, {"hedder": True}, "spec.source.options")
        assert caught.value.problems[0].path == "spec.source.options.hedder"


def test_all_wrong_options_are_reported_at_once() -> None:
    wrong = {"delimiter": "ab", "encoding": "utf-99", "heder": True, "skip_rows": -1}
    with pytest.raises(PermanentError, match="did you mean 'header'") as caught:
        parse_options(plugin("csv").Options, wrong, "spec.source.options")
    assert len(caught.value.problems) == 4


def test_times_and_dates_are_written(tmp_path: Path, kind: str) -> None:
    content = pa.table(
        {"day": [date(2020, 1, 2)], "at": pa.array([datetime(2020, 1, 2, 3, 4, 5, 600)])}
    )
    found = user(read(kind, write(kind, path(tmp_path, kind), content))).to_pylist()
    texts = [{"day": "2020-01-02", "at": "2020-01-02T03:04:05.000600"}]
    assert found == (texts if kind in ("jsonl", "tfrecords") else content.to_pylist())


cells = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
tables = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), cells, st.floats(allow_nan=False)))


@pytest.mark.fuzz
@RELAXED
@given(tables, st.integers(1, 200))
def test_any_values_survive_the_round_trip(
    tmp_path: Path, kind: str, rows: list[tuple[int, str | None, float]], target: int
) -> None:
    schema = pa.schema([("i", pa.int64()), ("s", pa.string()), ("f", pa.float64())])
    rows = [r for r in rows if kind != "jsonl" or abs(r[2]) != float("inf")]
    rows = [r for r in rows if kind != "tfrecords" or abs(r[2]) < 2**127]  # they are float32
    content = pa.Table.from_pylist([{"i": i, "s": s, "f": f} for i, s, f in rows], schema)
    file = write(kind, path(tmp_path, kind), content)
    if not file.stat().st_size:
        return
    found = read(kind, file, target=target)
    assert [row["i"] for row in found.to_pylist()] == [i for i, _, _ in rows]
    if user(found).schema.remove_metadata() == schema:  # a column of nulls may have left no trace
        assert user(found).to_pylist() == content.to_pylist()
    distinct = {repr(row) for row in user(found).to_pylist()}
    assert len(set(keys(found))) == len(distinct)


def mutated(data: bytes, seed: int) -> bytes:
    """The same file, somewhat broken."""
    chance = random.Random(seed)
    broken = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(broken) + 1)
        match chance.randrange(4):
            case 0:
                broken[at : at + chance.randint(1, 20)] = b""
            case 1:
                broken[at:at] = chance.randbytes(chance.randint(1, 20))
            case 2:
                broken[at : at + 1] = chance.choice([b'"', b"\n", b"\0", b",", b"\xff", b"{", b"9"])
            case _:
                broken = broken[: max(at, 1)]
    return bytes(broken)


def read_or_fault(kind: str, file: Path, target: int = WHOLE) -> str:
    """What the error says; nothing when the file could be read. Any other exception is a bug."""
    try:
        read(kind, file, target=target)
    except OneBlockError as wrong:
        return wrong.detail
    return ""


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", seeds(60))
def test_a_broken_file_gives_rows_or_an_error_with_its_name(
    tmp_path: Path, kind: str, seed: int
) -> None:
    file = write(kind, path(tmp_path, kind), table(60), batch_rows=20)
    file.write_bytes(mutated(file.read_bytes(), seed))
    said = read_or_fault(kind, file, target=500)
    assert not said or file.name in said


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", seeds(20))
def test_random_bytes_give_rows_or_an_error_with_the_files_name(
    tmp_path: Path, kind: str, seed: int
) -> None:
    chance = random.Random(seed)
    file = path(tmp_path, kind)
    file.write_bytes(chance.randbytes(chance.randint(1, 5000)))
    said = read_or_fault(kind, file, target=100)
    assert not said or file.name in said


def test_every_truncation_gives_rows_or_an_error_with_the_files_name(
    tmp_path: Path, kind: str
) -> None:
    whole = write(kind, path(tmp_path, kind, "whole"), table(8)).read_bytes()
    file = path(tmp_path, kind, "cut")
    for size in range(len(whole) - 1):
        file.write_bytes(whole[:size])
        said = read_or_fault(kind, file)
        assert not said or file.name in said
