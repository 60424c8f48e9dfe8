"""What every format of whole files must do: parametrised over the registry."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pytest

from libs.common.errors import OneBlockError, PermanentError
from libs.formats import FORMATS, BadRecord, FileFormat, Split, parse_options
from libs.formats import _files as files
from tests.files import grow, put, read_folder, samples
from tests.formats import keys, open_path
from tests.fuzz import seeds

KINDS = [key for key in FORMATS.keys() if isinstance(FORMATS.get(key), FileFormat)]  # noqa: SIM118


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def contents(table: pa.Table) -> list[bytes]:
    """What the files held, row by row."""
    first = table.column(0).to_pylist()
    return [v["bytes"] if isinstance(v, dict) else v.encode() if isinstance(v, str) else v
            for v in first]  # fmt: skip


def test_every_file_is_a_row_with_its_content_and_path(tmp_path: Path, kind: str) -> None:
    found = samples(kind, 30)
    table = read_folder(kind, put(tmp_path, found))
    assert contents(table) == [found[path] for path in sorted(found)]


def test_keys_come_from_the_path_and_the_hash_from_the_content(tmp_path: Path, kind: str) -> None:
    found = samples(kind, 12)
    before = read_folder(kind, put(tmp_path / "a", found))
    paths = sorted(found)
    changed = found | {paths[0]: found[paths[1]]}
    after = read_folder(kind, put(tmp_path / "b", changed))
    assert keys(before) == keys(after)
    assert len(set(keys(before))) == 12
    same = [
        a == b for a, b in zip(before["_hash"].to_pylist(), after["_hash"].to_pylist(), strict=True)
    ]
    assert same == [False] + [True] * 11


def test_files_read_together_are_as_files_read_alone(tmp_path: Path, kind: str) -> None:
    found = samples(kind, 9)
    together = read_folder(kind, put(tmp_path / "all", found))
    alone = []
    for path in sorted(found):
        folder = tmp_path / "alone" / path.replace("/", "-")
        alone.append(read_folder(kind, put(folder, {path: found[path]})))
    apart = pa.concat_tables(alone)
    assert apart.drop_columns(["_source"]).equals(together.drop_columns(["_source"]))


def test_a_batch_is_bounded_by_bytes_and_by_rows(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BYTES", 1000)
    monkeypatch.setattr(files, "ROWS", 5)
    table = read_folder(kind, put(tmp_path, samples(kind, 40)))
    sizes = [batch.num_rows for batch in table.to_batches()]
    assert max(sizes) <= 5
    for batch in table.to_batches():
        assert batch.num_rows == 1 or sum(map(len, contents(pa.table(batch)))) <= 1000


@pytest.mark.parametrize("broken", [b"", b"\0\1\2\xfe\xff" * 400])
def test_one_bad_file_among_many_is_named(tmp_path: Path, kind: str, broken: bytes) -> None:
    if kind == "binary" and broken:
        return  # anything is good there
    put(tmp_path, samples(kind, 100) | {"1/bad.png": broken})
    with pytest.raises(PermanentError, match=r"1/bad\.png") as caught:
        read_folder(kind, tmp_path)
    assert caught.value.code in ("empty_file", "type_mismatch")


def test_bad_files_can_be_told_of_and_passed_over(tmp_path: Path, kind: str) -> None:
    heard: list[BadRecord] = []
    put(tmp_path, samples(kind, 100) | {"0/none": b"", "2/none": b""})
    assert read_folder(kind, tmp_path, on_bad=heard.append).num_rows == 100
    assert [(bad.path, bad.code) for bad in heard] == [
        ("0/none", "empty_file"), ("2/none", "empty_file"),
    ]  # fmt: skip


def test_a_file_that_is_gone_or_changed_is_never_passed_over(tmp_path: Path, kind: str) -> None:
    gone = PermanentError("x changed", code="source_changed")
    split = Split("x", "x", 0, 5, 5)
    with pytest.raises(PermanentError, match="changed"):
        files.told(gone, split, b"", lambda bad: None)


def test_a_file_above_the_limit_is_an_error_that_names_the_option(
    tmp_path: Path, kind: str
) -> None:
    put(tmp_path, samples(kind, 3))
    with pytest.raises(PermanentError, match=r"larger than 1 bytes; raise the option maxBytes"):
        read_folder(kind, tmp_path, maxBytes=1)


def test_a_file_that_is_larger_than_it_was_listed_is_read_whole(tmp_path: Path, kind: str) -> None:
    """As compressed ones are: their size isn't known beforehand."""
    (path, data), *_ = samples(kind, 1).items()
    put(tmp_path, {path: data})
    split = Split(str(tmp_path / path), path, 0, 1, 1)
    assert files.content(split, open_path, 1 << 20) == data
    small = files.content(split, open_path, 2)
    assert isinstance(small, PermanentError)
    assert small.code == "file_too_large"


def test_remote_files_are_read_ahead_and_come_in_order(tmp_path: Path, kind: str) -> None:
    found = samples(kind, 50)
    splits = [Split(f"s3://bucket/{p}", p, 0, len(d), len(d)) for p, d in found.items()]
    put(tmp_path, found)
    opened = lambda uri: (tmp_path / uri.removeprefix("s3://bucket/")).open("rb")  # noqa: E731
    got = list(files.contents(splits, opened, 1 << 20))
    assert got == list(zip(splits, found.values(), strict=True))


def test_an_absent_key_column_is_an_error_that_lists_the_columns(tmp_path: Path, kind: str) -> None:
    put(tmp_path, samples(kind, 3))
    with pytest.raises(PermanentError, match=r"no column 'nr'") as caught:
        read_folder(kind, tmp_path, key=("nr",))
    assert caught.value.code == "column_missing"


def test_an_unknown_option_is_an_error_that_lists_the_known(kind: str) -> None:
    for model in (FORMATS.get(kind).Options, FORMATS.get(kind).WriteOptions):
        with pytest.raises(PermanentError, match=r"unknown option 'hedder'.*known: "):
            parse_options(model, {"hedder": True}, "spec.source.options")


def test_what_is_read_is_written_as_it_was(tmp_path: Path, kind: str) -> None:
    found = samples(kind, 30)
    table = read_folder(kind, put(tmp_path / "in", found))
    leaves = grow(kind, tmp_path / "out", table)
    written = {leaf.path: (tmp_path / "out" / leaf.path).read_bytes() for leaf in leaves}
    assert sorted(written.values()) == sorted(found.values())
    assert [path.partition(".")[0] for path in written] == keys(table)
    for leaf in leaves:
        data = written[leaf.path]
        assert (leaf.size, leaf.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_past_ten_thousand_files_lie_in_folders(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.formats._trees.FLAT", 10)
    table = read_folder(kind, put(tmp_path / "in", samples(kind, 30)))
    leaves = grow(kind, tmp_path / "out", table)
    assert [leaf.path.partition(".")[0] for leaf in leaves] == [f"{k[:2]}/{k}" for k in keys(table)]
    assert read_folder(kind, tmp_path / "out").num_rows == 30


def test_rows_with_one_key_are_as_many_files(tmp_path: Path, kind: str) -> None:
    table = read_folder(kind, put(tmp_path / "in", samples(kind, 1)))
    leaves = grow(kind, tmp_path / "out", pa.concat_tables([table] * 3))
    assert [leaf.path.partition(".")[0] for leaf in leaves] == [
        keys(table)[0] + end for end in ("", "-2", "-3")
    ]


def test_a_column_that_would_be_lost_is_refused_unless_one_is_chosen(
    tmp_path: Path, kind: str
) -> None:
    table = read_folder(kind, put(tmp_path / "in", samples(kind, 3)))
    more = table.append_column("score", pa.array([1, 2, 3]))
    with pytest.raises(PermanentError, match=r"'score' would be lost.*parquet") as caught:
        grow(kind, tmp_path / "out", more)
    assert caught.value.code == "inexpressible"
    assert len(grow(kind, tmp_path / "out", more, column=table.schema.names[0])) == 3


def test_a_table_without_fitting_columns_is_refused_with_what_can_hold_it(
    tmp_path: Path, kind: str
) -> None:
    table = read_folder(kind, put(tmp_path / "in", samples(kind, 3)))
    numbers = table.select(["_row", "_hash", "_source"]).append_column("n", pa.array([1, 2, 3]))
    with pytest.raises(PermanentError, match=r"n \(int64\).*parquet, jsonl and tfrecords"):
        grow(kind, tmp_path / "out", numbers)


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../x", ".x", "a//b", "a\0b", "x" * 260])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    table = read_folder(kind, put(tmp_path / "in", samples(kind, 1)))
    named = table.append_column("name", pa.array([name]))
    with pytest.raises(PermanentError) as caught:
        grow(kind, tmp_path / "out", named, name="name")
    assert caught.value.code == "invalid_name"
    assert list((tmp_path / "out").iterdir()) == []


def test_two_rows_of_one_name_are_refused(tmp_path: Path, kind: str) -> None:
    table = read_folder(kind, put(tmp_path / "in", samples(kind, 2)))
    for number, names in enumerate((["x.e", "x.e"], ["x.e", "x.e/b"], ["x.e/b", "x.e"])):
        named = table.append_column("name", pa.array(names))
        named = named.append_column("end", pa.array([".e", "e"]))
        with pytest.raises(PermanentError, match="two rows have the name") as caught:
            grow(kind, tmp_path / f"out{number}", named, name="name", extension="end")
        assert caught.value.code == "duplicate_name"


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The same file, somewhat broken."""
    broken = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(broken) + 1)
        match chance.randrange(3):
            case 0:
                broken[at : at + chance.randint(1, 20)] = b""
            case 1:
                broken[at : at + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, chance.randbytes(4)])
            case _:
                broken = broken[: max(at, 1)]
    return bytes(broken)


def error_of(kind: str, folder: Path, nothing: str) -> str:
    """What the error says, `nothing` where there is none. Any other exception is a bug."""
    try:
        read_folder(kind, folder)
    except OneBlockError as wrong:
        return wrong.detail
    return nothing


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", seeds(20))
def test_broken_files_give_rows_or_an_error_with_their_name(
    tmp_path: Path, kind: str, seed: int
) -> None:
    chance = random.Random(seed)
    for path, data in samples(kind, 6).items():
        put(tmp_path / path.replace("/", "-"), {path: mutated(data, chance)})
        assert path in error_of(kind, tmp_path / path.replace("/", "-"), path)
