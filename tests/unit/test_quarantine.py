"""Bad input: the run fails with file and position, or exactly the bad is set aside."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from libs.formats import FORMATS, BadRecord, ReadOptions, Split, Tolerant, parse_options
from libs.warehouse.quarantine import Item, read_items
from services.transform.driver import Output, execute
from services.transform.plan import Plan
from services.transform.work import answer
from tests.formats import open_path, source, write
from tests.fuzz import relaxed
from tests.plans import Bench, ignore

ROWS = 1000
RELAXED = relaxed(60)


def here(lines: Sequence[str]) -> Generator[tuple[int, str]]:
    """A mapper without processes."""
    for at, line in enumerate(lines):
        yield at, answer(line)


def good(kind: str, path: Path, rows: int = ROWS) -> Path:
    table = pa.table({"id": range(rows), "name": [f"name {i}" for i in range(rows)]})
    return write(kind, path, table, batch_rows=100)


def spoil_line(line: bytes) -> bytes:
    return b'{"id": 500, "name":' if line.startswith(b"{") else line.rstrip() + b",more"


def spoil(kind: str, path: Path) -> tuple[int, bytes]:
    """Breaks record 500; where it is, and its bytes."""
    data = path.read_bytes()
    if kind == "tfrecords":
        at = data.index(b"name 500")
        path.write_bytes(data.replace(b"name 500", b"nama 500"))
        start = data.rindex(b"name 499", 0, at) + len("name 499") + 4
        return start, b""
    lines = data.split(b"\n")
    row = next(i for i, line in enumerate(lines) if b"name 500" in line)
    lines[row] = spoil_line(lines[row])
    path.write_bytes(b"\n".join(lines))
    return sum(len(line) + 1 for line in lines[:row]), lines[row]


def plan(bench: Bench, kind: str, **spec: object) -> Plan:
    source = {"type": kind, "url": (bench.folder / "sources").as_uri()}
    return bench.plan(source=source, **spec)


def quarantine(bench: Bench, kind: str, **spec: object) -> tuple[pa.Table, list[Item], Output]:
    """The version's rows and what is set aside."""
    output = execute(plan(bench, kind, onError="quarantine", **spec), here, ignore)
    found = bench.quarantine()
    items = list(read_items(found)) if found.exists() else []
    return bench.commit(output), items, output


def bench_of(tmp_path: Path, kind: str) -> tuple[Bench, Path]:
    bench = Bench(tmp_path)
    bench.write(f"a{FORMATS.get(kind).suffixes[0]}", b"")
    bench.files[0].unlink()
    return bench, good(kind, bench.files[0])


RECORDS = ["csv", "jsonl", "tfrecords"]


@pytest.mark.parametrize("kind", RECORDS)
def test_one_bad_record_among_a_thousand_fails_the_run(tmp_path: Path, kind: str) -> None:
    bench, file = bench_of(tmp_path, kind)
    start, _ = spoil(kind, file)
    with pytest.raises(PermanentError) as caught:
        execute(plan(bench, kind), here, ignore)
    place = f":{502 if kind == 'csv' else 501}:" if kind != "tfrecords" else f"byte {start:,}"
    assert file.name in caught.value.detail
    assert place in caught.value.detail


@pytest.mark.parametrize("kind", RECORDS)
def test_one_bad_record_among_a_thousand_is_set_aside_alone(tmp_path: Path, kind: str) -> None:
    bench, file = bench_of(tmp_path, kind)
    start, record = spoil(kind, file)
    rows, (item,), output = quarantine(bench, kind)
    assert rows["id"].to_pylist() == [i for i in range(ROWS) if i != 500]
    assert (item.path, item.start, item.whole) == (file.name, start, False)
    assert item.code == ("checksum_mismatch" if kind == "tfrecords" else "parse_error")
    assert item.bytes.rstrip(b"\n") == record or b"nama 500" in item.bytes
    assert item.line == (None if kind == "tfrecords" else 502 if kind == "csv" else 501)
    assert (output.bad_rows, output.bad_files) == (1, 0)


def test_one_bad_row_group_is_set_aside_alone(tmp_path: Path) -> None:
    bench, file = Bench(tmp_path), tmp_path / "sources" / "a.parquet"
    file.parent.mkdir()
    table = pa.table({"id": range(ROWS), "name": [f"name {i}" for i in range(ROWS)]})
    write("parquet", file, table, row_group_rows=100, compression="none")
    bench.files.append(file)
    data = file.read_bytes()
    at = data.index(b"name 500") - 30
    file.write_bytes(data[:at] + b"\xff" * 200 + data[at + 200 :])
    with pytest.raises(PermanentError, match=r"a\.parquet"):
        execute(plan(bench, "parquet"), here, ignore)
    rows, (item,), _ = quarantine(bench, "parquet", maxBadRatio=0.12)
    assert rows["id"].to_pylist() == [i for i in range(ROWS) if not 500 <= i < 600]
    assert item.whole
    assert "row groups 5 to 5" in item.detail


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "tfrecords"])
def test_a_file_of_another_kind_is_set_aside_whole(tmp_path: Path, kind: str) -> None:
    bench, _ = bench_of(tmp_path, kind)
    wrong = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0" + bytes(range(256)) * 4
    bench.write(f"b{FORMATS.get(kind).suffixes[0]}", wrong)
    with pytest.raises(PermanentError, match=r"b\."):
        execute(plan(bench, kind), here, ignore)
    rows, items, output = quarantine(bench, kind, maxBadRatio=0.5)
    assert rows.num_rows == ROWS
    assert {item.path for item in items} == {bench.files[1].name}
    assert output.bad_rows == len(items) > 0


def test_empty_and_truncated_files_are_set_aside(tmp_path: Path) -> None:
    bench, file = bench_of(tmp_path, "tfrecords")
    bench.write("b.tfrecord", b"")
    bench.write("c.tfrecord", file.read_bytes()[:-10])
    rows, items, _ = quarantine(bench, "tfrecords", maxBadRatio=0.5)
    assert rows.num_rows == 2 * ROWS - 1
    assert [(i.path, i.code) for i in items] == [
        ("b.tfrecord", "empty_file"), ("c.tfrecord", "truncated_file")
    ]  # fmt: skip


def test_more_bad_rows_than_allowed_fail_the_run_with_counts(tmp_path: Path) -> None:
    bench, file = bench_of(tmp_path, "csv")
    spoil("csv", file)
    with pytest.raises(
        PermanentError, match=r"1 of 1,000 rows .*0\.10%.*at most 0\.05%.*:502:"
    ) as caught:
        quarantine(bench, "csv", maxBadRatio=0.0005)
    assert caught.value.code == "too_many_bad"
    assert bench.quarantine().exists()


def test_a_source_without_faults_has_no_quarantine(tmp_path: Path) -> None:
    bench, _ = bench_of(tmp_path, "csv")
    rows, items, output = quarantine(bench, "csv")
    assert (rows.num_rows, items, output.bad_rows) == (ROWS, [], 0)


def test_a_manifest_that_does_not_fit_fails_all_the_same(tmp_path: Path) -> None:
    bench, file = bench_of(tmp_path, "csv")
    with pytest.raises(PermanentError, match="no column 'nope'"):
        where = {"type": "csv", "url": file.parent.as_uri(), "key": "nope"}
        execute(bench.plan(source=where, onError="quarantine"), here, ignore)


def test_rows_that_were_written_before_a_late_fault_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.transform.salvage.HELD", 1000)
    bench, file = Bench(tmp_path), tmp_path / "sources" / "a.parquet"
    file.parent.mkdir()
    table = pa.table({"id": range(200_000), "name": [f"name {i}" for i in range(200_000)]})
    write("parquet", file, table, batch_rows=200_000, compression="none")
    good("parquet", file.with_name("b.parquet"))
    bench.files += [file, file.with_name("b.parquet")]
    data = file.read_bytes()
    at = data.index(b"name 150000")
    file.write_bytes(data[:at] + b"\xff" * 1000 + data[at + 1000 :])
    rows, items, _ = quarantine(bench, "parquet", maxBadRatio=1.0)
    assert rows.num_rows == ROWS
    assert [i.path for i in items] == ["a.parquet"]


def salvaged(kind: str, path: Path, target: int) -> tuple[list[object], list[BadRecord]]:
    """All good rows and all bad records of a file."""
    bad: list[BadRecord] = []
    form = FORMATS.get(kind)
    assert isinstance(form, Tolerant)
    how = parse_options(form.Options, {}, "spec.source.options")
    silent, telling = form.tolerating(lambda _: None), form.tolerating(bad.append)
    pieces: list[Split] = list(silent.splits(source(path), target, open_path, how))
    schema = silent.join((s.path, silent.infer(s, open_path, how, None)) for s in pieces)
    options = ReadOptions(schema, how)
    rows = [
        row for piece in pieces for batch in telling.read(piece, open_path, options)
        for row in batch.to_pylist()
    ]  # fmt: skip
    return rows, bad


texts = st.text(st.sampled_from('ab,"\n;é'), max_size=6)
BROKEN_CSV = [b'x,"y', b'x"y,z', b"x", b"x,y,z", b"\xff,y", b'"x"y,z', b"a\0b,c"]


@pytest.mark.fuzz
@RELAXED
@given(
    st.lists(texts.map(lambda t: ("row", t)) | st.sampled_from([("bad", b) for b in BROKEN_CSV])),
    st.integers(8, 200),
)
def test_csv_rows_and_quarantine_are_the_input(
    tmp_path: Path, parts: list[tuple[str, str | bytes]], target: int
) -> None:
    """Texts are quoted always, so whatever a bad line opens is closed by no good row alone."""
    lines = [b'"i","t"\n']
    for i, (_, part) in enumerate(parts):
        if isinstance(part, bytes):
            lines.append(part + b"\n")
        else:
            lines.append(f'"{i}","{part.replace(chr(34), chr(34) * 2)}"\n'.encode())
    path = tmp_path / "a.csv"
    path.write_bytes(b"".join(lines))
    rows, bad = salvaged("csv", path, target)
    assert salvaged("csv", path, 1 << 30) == (rows, bad)
    wanted = {str(i): part for i, (_, part) in enumerate(parts) if isinstance(part, str)}
    lost = b"".join(record.data for record in bad)
    for i in wanted:
        assert any(str(r["i"]) == i for r in rows) or f'"{i}"'.encode() in lost  # type: ignore[index]
    for row in rows:
        assert str(row["i"]) in wanted  # type: ignore[index]
    data = path.read_bytes()
    for record in bad:
        assert record.stop is not None
        assert data[record.start : record.stop].rstrip(b"\n") == record.data.rstrip(b"\n")


@pytest.mark.fuzz
@RELAXED
@given(
    st.lists(st.integers(0, 10**6) | st.sampled_from([b"{", b"[1]", b"nul", b'{"i":}', b"\xff"])),
    st.integers(1, 200),
)
def test_jsonl_rows_and_quarantine_are_the_input(
    tmp_path: Path, parts: list[int | bytes], target: int
) -> None:
    lines = [p if isinstance(p, bytes) else json.dumps({"i": p}).encode() for p in [7, *parts]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    rows, bad = salvaged("jsonl", path, target)
    assert [r["i"] for r in rows] == [p for p in [7, *parts] if isinstance(p, int)]  # type: ignore[index]
    assert [r.data for r in bad] == [p for p in parts if isinstance(p, bytes)]
    assert [r.line for r in bad] == [i for i, p in enumerate(parts, 2) if isinstance(p, bytes)]
