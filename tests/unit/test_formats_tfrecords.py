"""TFRecords: framing, checksums, Examples of every shape; TensorFlow reads and writes the same."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
import tracemalloc
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from libs.formats import FORMATS
from libs.formats._tf_frames import length_crc, masked
from libs.formats._tf_wire import decoded, encoded
from tests.formats import keys, read, splits, user, write
from tests.fuzz import relaxed

RELAXED = relaxed(40)
KINDS = pa.table(
    {
        "i": pa.array([1, -1, 2**63 - 1, -(2**63), None, 0], pa.int64()),
        "f": pa.array([0.5, -2.25, 3e38, None, float("inf"), 0.0], pa.float32()),
        "t": ["a", "ü", None, "", "b", "c"],
        "b": pa.array([b"\xff", b"", b"x" * 300, None, b"1", b"2"], pa.binary()),
        "is": pa.array([[1, 2], [], None, [-1], [2**40, 0], [7]], pa.list_(pa.int64())),
        "fs": pa.array([[1.5], [2.5, 3.5], None, [], [0], [1]], pa.list_(pa.float32())),
        "ts": pa.array([["x", "y"], [], None, [""], ["z"], ["é"]], pa.list_(pa.string())),
    }
)


def frame(data: bytes, length: int | None = None) -> bytes:
    """A record as it stands in a file; `length`: what it says instead of the truth."""
    import google_crc32c

    said = len(data) if length is None else length
    return (
        struct.pack("<QI", said, length_crc(said))
        + data
        + struct.pack("<I", masked(google_crc32c.value(data)))
    )


def varint(value: int) -> bytes:
    return encoded(np.array([value], np.uint64))[0].tobytes()


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(kind: int, *values: bytes) -> bytes:
    return field(kind, b"".join(field(1, v) for v in values))


def features(**named: bytes) -> bytes:
    return b"".join(field(1, field(1, k.encode()) + field(2, v)) for k, v in named.items())


def example(**named: bytes) -> bytes:
    return field(1, features(**named))


def saved(path: Path, *records: bytes) -> Path:
    path.write_bytes(b"".join(frame(r) for r in records))
    return path


def test_the_checksum_is_that_of_the_specification() -> None:
    """RFC 3720's example, and a length that TensorFlow wrote."""
    import google_crc32c

    assert google_crc32c.value(bytes(32)) == 0x8A9136AA
    assert masked(0) == 0xA282EAD8


@pytest.mark.parametrize("compression", ["none", "gzip", "zlib"])
def test_every_kind_survives_a_round_trip(tmp_path: Path, compression: str) -> None:
    file = write("tfrecords", tmp_path / "a.tfrecord", KINDS, 4, compression=compression)
    plain = {"none": bytes, "gzip": gzip.decompress, "zlib": zlib.decompress}[compression]
    assert plain(file.read_bytes())[8:12] == struct.pack(
        "<I", length_crc(plain(file.read_bytes())[0])
    )
    assert user(read("tfrecords", file)).select(KINDS.schema.names).to_pylist() == KINDS.to_pylist()


def test_a_value_per_record_is_a_scalar_unless_said(tmp_path: Path) -> None:
    file = saved(tmp_path / "a", example(x=feature(3, varint(5))))
    assert user(read("tfrecords", file)).to_pylist() == [{"x": 5}]
    assert user(read("tfrecords", file, lists=["x"])).to_pylist() == [{"x": [5]}]


def test_text_can_stay_bytes(tmp_path: Path) -> None:
    file = saved(tmp_path / "a", example(x=feature(1, b"abc")))
    assert user(read("tfrecords", file)).to_pylist() == [{"x": "abc"}]
    assert user(read("tfrecords", file, text=False)).to_pylist() == [{"x": b"abc"}]


def test_values_that_are_not_packed_are_read(tmp_path: Path) -> None:
    floats = b"".join(b"\x0d" + struct.pack("<f", v) for v in (1.5, 2.5))
    ints = b"".join(b"\x08" + varint(v) for v in (3, 300))
    file = saved(tmp_path / "a", example(f=field(2, floats), i=field(3, ints)))
    assert user(read("tfrecords", file)).to_pylist() == [{"f": [1.5, 2.5], "i": [3, 300]}]


def test_missing_and_empty_features_are_null(tmp_path: Path) -> None:
    records = [example(a=feature(3, varint(1)), b=b""), example(b=feature(3)), b""]
    file = saved(tmp_path / "a", *records)
    found = user(read("tfrecords", file)).to_pylist()
    assert found == [{"a": 1, "b": None}, {"a": None, "b": None}, {"a": None, "b": None}]


def test_the_last_of_a_name_wins_as_protobuf_says(tmp_path: Path) -> None:
    twice = field(1, features(x=feature(3, varint(1))) + features(x=feature(3, varint(2))))
    assert user(read("tfrecords", saved(tmp_path / "a", twice))).to_pylist() == [{"x": 2}]


def test_sequence_examples_are_columns_of_lists(tmp_path: Path) -> None:
    def steps(*found: bytes) -> bytes:
        return b"".join(field(1, f) for f in found)

    def sequence(context: bytes, **lists: bytes) -> bytes:
        return field(1, context) + field(2, features(**lists))

    one = [feature(3, varint(v)) for v in (1, 2)]
    several = [feature(1, b"a", b"b"), feature(1)]
    file = saved(
        tmp_path / "a",
        sequence(features(id=feature(3, varint(7))), x=steps(*one), y=steps(*several)),
        sequence(b"", x=steps()),
    )
    found = user(read("tfrecords", file, records="sequence")).to_pylist()
    assert found == [
        {"id": 7, "x": [1, 2], "y": [["a", "b"], []]},
        {"id": None, "x": [], "y": None},
    ]


def test_raw_records_are_a_column_of_bytes(tmp_path: Path) -> None:
    file = saved(tmp_path / "a", b"\xff\xff", b"", b"abc")
    assert user(read("tfrecords", file, records="raw"))["record"].to_pylist() == [
        b"\xff\xff", b"", b"abc"
    ]  # fmt: skip
    with pytest.raises(PermanentError, match=r"a: record at byte 0: not a tf.train.Example.*raw"):
        read("tfrecords", file)


def test_keys_depend_on_what_a_record_holds_alone(tmp_path: Path) -> None:
    """Neither on the order of features, nor on packing, nor on what other records hold."""
    a, b = feature(3, varint(1)), feature(1, b"x")
    unpacked = field(3, b"\x08\x01")
    first = keys(read("tfrecords", saved(tmp_path / "a", example(a=a, b=b))))
    other = [example(b=b, a=unpacked), example(c=a), example(a=feature(3, varint(1) * 2), d=a)]
    found = keys(read("tfrecords", saved(tmp_path / "b", *other)))
    assert found[0] == first[0]
    assert len(set(found)) == 3


def test_a_golden_key_never_changes(tmp_path: Path) -> None:
    file = write("tfrecords", tmp_path / "a.tfrecord", KINDS)
    assert keys(read("tfrecords", file))[:2] == GOLDEN


GOLDEN = ["28d15cfd2bc70039106302668bbab365", "7e0170e0b0c66669a9e7575a562ab4a4"]


@pytest.mark.parametrize("length", [2**60, 2**40, (64 << 20) + 1])
def test_a_length_beyond_the_limit_is_refused_without_memory(tmp_path: Path, length: int) -> None:
    file = tmp_path / "a.tfrecord"
    file.write_bytes(frame(b"") + frame(b"abc", length))
    tracemalloc.start()
    try:
        with pytest.raises(PermanentError, match=r"a\.tfrecord: record at byte 16: .*max_record"):
            read("tfrecords", file)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("at", [0, 9, 13, -1])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, at: int) -> None:
    record = bytearray(frame(example(x=feature(3, varint(5)))))
    record[at] ^= 4
    file = tmp_path / "a.tfrecord"
    file.write_bytes(frame(b"") + bytes(record))
    with pytest.raises(PermanentError, match=r"a\.tfrecord: record at byte 16: ") as caught:
        read("tfrecords", file)
    assert caught.value.code == "checksum_mismatch"


def test_a_broken_compressed_file_is_said_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "a.tfrecord.gz"
    packed = gzip.compress(b"".join(frame(example(x=feature(3, varint(i)))) for i in range(1000)))
    file.write_bytes(packed[:-200])
    with pytest.raises(PermanentError, match="compressed data ends early") as caught:
        read("tfrecords", file)
    assert caught.value.code == "corrupt_file"


def test_one_feature_of_two_kinds_is_refused_with_its_name(tmp_path: Path) -> None:
    file = saved(tmp_path / "a", example(x=feature(3, varint(5))), example(x=feature(1, b"a")))
    with pytest.raises(PermanentError, match="'x' has bytes where others have int64") as caught:
        read("tfrecords", file)
    assert caught.value.code == "schema_mismatch"


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([{"a": 1}]), "no form for struct"),
        (pa.array([[[1]]]), "no form for list"),
        (pa.array([[1, None]]), "a null in it"),
        (pa.array([1e300]), "beyond float32"),
        (pa.array([2**64 - 1], pa.uint64()), "doesn't fit int64"),
    ],
)
def test_what_an_example_can_not_say_is_refused(tmp_path: Path, column: Any, said: str) -> None:
    with pytest.raises(PermanentError, match=rf"column 'x': .*{said}") as caught:
        write("tfrecords", tmp_path / "a", pa.table({"x": column}))
    assert caught.value.code == "inexpressible"


def test_large_values_and_many_splits(tmp_path: Path) -> None:
    table = pa.table({"b": [bytes([i]) * (3 << 20) for i in range(5)], "i": range(5)})
    file = write("tfrecords", tmp_path / "a.tfrecord", table)
    assert len(splits(FORMATS.get("tfrecords"), file, 1 << 20)) == 5
    assert user(read("tfrecords", file, target=1 << 20))["i"].to_pylist() == list(range(5))


@pytest.mark.fuzz
@RELAXED
@given(st.lists(st.integers(0, 2**64 - 1)))
def test_varints_survive_a_round_trip(numbers: list[int]) -> None:
    content, lengths = encoded(np.array(numbers, np.uint64))
    offsets = np.array([0, int(lengths.sum())])
    values, counts, bad = decoded(content, offsets)
    assert values.view(np.uint64).tolist() == numbers
    assert (counts.tolist(), bad.any()) == ([len(numbers)], False)


small = st.integers(-(2**63), 2**63 - 1)
some_rows = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "i": st.lists(small, max_size=4),
            "f": st.lists(st.floats(width=32, allow_nan=False), max_size=4),
            "b": st.lists(st.binary(max_size=80), max_size=4),
            "a long name": st.lists(small, max_size=1),
        },
    ),
    min_size=1,
    max_size=60,
)
TYPES = pa.schema(
    [
        ("i", pa.list_(pa.int64())),
        ("f", pa.list_(pa.float32())),
        ("b", pa.list_(pa.binary())),
        ("a long name", pa.list_(pa.int64())),
    ]
)


@pytest.mark.fuzz
@RELAXED
@given(some_rows, st.integers(1, 400))
def test_any_lists_survive_a_round_trip(
    tmp_path: Path, rows: list[dict[str, list[Any]]], target: int
) -> None:
    table = pa.Table.from_pylist(rows, TYPES)
    file = write("tfrecords", tmp_path / "a", table, 7)
    found = user(read("tfrecords", file, target=target, text=False, lists=TYPES.names))
    want = [{k: v for k, v in row.items() if v is not None} for row in table.to_pylist()]
    assert [{k: v for k, v in row.items() if v is not None} for row in found.to_pylist()] == want


TENSORFLOW = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
source, target = sys.argv[1:]
ours = [r.numpy() for r in tf.data.TFRecordDataset(source)]
zipped = [r.numpy() for r in tf.data.TFRecordDataset(source + ".gz", compression_type="GZIP")]
assert ours == zipped
with (
    tf.io.TFRecordWriter(target) as out,
    tf.io.TFRecordWriter(target + ".gz", tf.io.TFRecordOptions(compression_type="GZIP")) as gz,
    tf.io.TFRecordWriter(target + ".z", tf.io.TFRecordOptions(compression_type="ZLIB")) as z,
):
    for record in ours:
        example = tf.train.Example.FromString(record)
        features = dict(example.features.feature)
        print(sorted((k, list((v.int64_list.value or v.float_list.value or v.bytes_list.value)))
                     for k, v in features.items()))
        again = tf.train.Example(features=tf.train.Features(feature=features))
        for file in (out, gz, z):
            file.write(again.SerializeToString())
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorflow") is None, reason="the extra tensorflow: Linux, x86-64")
def test_tensorflow_reads_what_we_write_and_writes_what_we_read(tmp_path: Path) -> None:
    ours, theirs = write("tfrecords", tmp_path / "ours", KINDS), tmp_path / "theirs"
    write("tfrecords", tmp_path / "ours.gz", KINDS, compression="gzip")
    done = subprocess.run(
        [sys.executable, "-c", TENSORFLOW, str(ours), str(theirs)],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == str(
        [("b", [b"\xff"]), ("f", [0.5]), ("fs", [1.5]), ("i", [1]), ("is", [1, 2]),
         ("t", [b"a"]), ("ts", [b"x", b"y"])]
    )  # fmt: skip
    for name in ("theirs", "theirs.gz", "theirs.z"):
        back = read("tfrecords", tmp_path / name)
        assert keys(back) == keys(read("tfrecords", ours))
        assert user(back).select(KINDS.schema.names).to_pylist() == KINDS.to_pylist()
