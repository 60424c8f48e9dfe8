"""Part files: together every row once and in order, each of a sensible size."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from libs.formats import Writer
from services.sink.contents import DeliveredFile
from services.sink.parts import Parts, pieces

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


class LinesWriter:
    """One line per row."""

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = Path(path).open("xb", buffering=0)  # noqa: SIM115

    def write(self, batch: pa.RecordBatch) -> None:
        rows = batch.to_pylist()
        self._file.write("".join(f"{row['n']},{row['text']}\n" for row in rows).encode())

    def close(self) -> None:
        self._file.close()


class NoOptions(BaseModel):
    """None."""


@dataclass
class Lines:
    """The smallest format that can be written."""

    suffixes = (".txt",)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return LinesWriter(path)


def batch(start: int, rows: int, width: int) -> pa.RecordBatch:
    numbers = range(start, start + rows)
    return pa.record_batch([list(numbers), ["x" * width] * rows], schema=SCHEMA)


def write(folder: Path, shape: list[int], width: int, size: int) -> tuple[DeliveredFile, ...]:
    with Parts(folder, Lines(), NoOptions(), SCHEMA, size=size) as parts:  # type: ignore[arg-type]
        start = 0
        for rows in shape:
            parts.write(batch(start, rows, width), lambda *_: None)
            start += rows
        return parts.finish("v1-abc")


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3000), max_size=6),
    width=st.integers(0, 40),
    size=st.integers(1024, 60_000),
)
def test_any_batches_become_parts_that_hold_every_row_once_in_order(
    shape: list[int], width: int, size: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write(folder, shape, width, size)
        contents = [(folder / file.path).read_bytes() for file in files]
        lines = b"".join(contents).splitlines()
        assert lines == [f"{n},{'x' * width}".encode() for n in range(sum(shape))]
        assert sorted(p.name for p in folder.iterdir()) == sorted(file.path for file in files)
        for file, content in zip(files, contents, strict=True):
            assert file.bytes == len(content) < 2 * size
            assert file.rows == len(content.splitlines())
            assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert all(file.bytes >= size for file in files[:-1])


def test_one_part_keeps_its_plain_name_and_many_carry_the_tag(tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    assert [f.path for f in write(one, [10], 5, 10_000)] == ["part-00000.txt"]
    names = [f.path for f in write(many, [500], 5, 2_000)]
    assert names[:2] == ["part-00000-v1-abc.txt", "part-00001-v1-abc.txt"]


def test_a_version_without_rows_is_one_part_without_rows(tmp_path: Path) -> None:
    assert [(f.path, f.rows) for f in write(tmp_path, [], 1, 2000)] == [("part-00000.txt", 0)]


def test_no_piece_is_larger_than_a_quarter_of_a_part() -> None:
    cut = list(pieces(batch(0, 10_000, 20), 64_000))
    assert sum(piece.num_rows for piece in cut) == 10_000
    assert max(piece.nbytes for piece in cut) <= 16_000


def test_the_error_of_a_part_that_could_not_be_sealed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, rows: int) -> DeliveredFile:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.sink.parts.seal", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, [100, 100, 100], 20, 1024)
