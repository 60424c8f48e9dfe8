"""Small files of every kind that people bring, and the rows that must come of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from tests.files import image, pdf

Row = dict[str, Any]
ROWS = 50
WORDS = ["plain", 'with "quotes"', "comma, inside", "line\nbreak", "ümläut ☃", "", None]


@dataclass(frozen=True)
class Kind:
    """`type` of a source, its files by path, the rows, and what they are sorted by."""

    type: str
    files: dict[str, bytes]
    rows: list[Row]
    by: tuple[str, ...]

    def wanted(self, *, folders: bool) -> list[Row]:
        """The rows; a source without folders knows the names of its files alone."""
        return self.sorted([row if folders else _named(row) for row in self.rows])

    def sorted(self, rows: Iterable[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: [str(row[name]) for name in self.by])


def _named(row: Row) -> Row:
    found = {k: _named(v) if isinstance(v, dict) else v for k, v in row.items()}
    if "path" in row:
        found["path"] = PurePosixPath(row["path"]).name
    return found


def flat(i: int) -> Row:
    """Quotes, line breaks, nulls, big numbers, dates."""
    return {
        "id": i,
        "word": WORDS[i % len(WORDS)],
        "big": 2**53 + i,
        "ratio": i / 7 if i % 11 else None,
        "day": date(2026, 1 + i % 12, 1 + i % 28),
        "at": datetime(2026, 1, 1, 3, 4, i, 123_456),
        "yes": i % 3 == 0,
    }


def nested(i: int) -> Row:
    """What only Parquet can say."""
    return flat(i) | {
        "price": Decimal(i) / 4,
        "when": datetime(2026, 1, 1, 0, i, tzinfo=UTC),
        "raw": bytes([i, 0, 255]),
        "deep": {"many": [i, None, -i], "pair": {"x": f"x{i}"} if i % 2 else None},
    }


def loose(i: int) -> Row:
    """Nested values, and a field that appears late."""
    found = {"id": i, "word": WORDS[i % 7], "deep": {"many": [i, i + 0.5], "x": f"x{i}"}}
    return found if i < ROWS - 5 else found | {"late": i}


def recorded(i: int) -> Row:
    """What an Example can say."""
    return {"id": i - 5, "word": f"w{i} ü", "raw": bytes([255, i]), "many": [i, -i, 2**40]}


def as_csv(rows: Sequence[Row]) -> bytes:
    out = io.StringIO(newline="")
    out.write(",".join(rows[0]) + "\n")
    for row in rows:
        out.write(",".join(map(_cell, row.values())) + "\n")
    text = out.getvalue()
    assert len(list(csv.reader(io.StringIO(text, newline="")))) == len(rows) + 1
    return text.encode()


def _cell(value: object) -> str:
    """Text in quotes, so that the empty one isn't a null; the rest without."""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def as_parquet(rows: Sequence[Row]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([*rows], SCHEMA), out, row_group_size=10)
    return out.getvalue()


SCHEMA = pa.Table.from_pylist([nested(i) for i in range(ROWS)]).schema
SCHEMA = SCHEMA.set(SCHEMA.get_field_index("price"), pa.field("price", pa.decimal128(12, 2)))


def as_jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_tfrecords(rows: Sequence[Row]) -> bytes:
    return b"".join(_frame(_example(row)) for row in rows)


def _example(row: Row) -> bytes:
    features = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(value)))
        for name, value in row.items()
    )
    return _field(1, features)


def _feature(value: Any) -> bytes:
    if isinstance(value, str | bytes):
        return _field(1, _field(1, value.encode() if isinstance(value, str) else value))
    numbers: list[int] = value if isinstance(value, list) else [value]
    return _field(3, _field(1, b"".join(_varint(n % 2**64) for n in numbers)))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _frame(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _crc(length) + data + _crc(data)


def _crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _table(type: str, end: str, row: Callable[[int], Row], as_file: Callable[..., bytes]) -> Kind:
    """Two files; a folder, a space and an umlaut in the second one's path."""
    rows = [row(i) for i in range(ROWS)]
    files = {f"one.{end}": as_file(rows[:20]), f"sub/two é.{end}": as_file(rows[20:])}
    columns = {name: None for found in rows for name in found}
    return Kind(type, files, [dict.fromkeys(columns) | found for found in rows], ("id",))


def _text() -> Kind:
    files = {
        "one.txt": "eins\nzwei, ümläut ☃\n".encode(),
        "sub/two é.md": b"# Title\n\n* point\n",
        "wide.txt": "Größe, Öl und Übung: äußerst schöne Wörter.\n".encode("utf-16"),
    }
    texts = {p: d.decode("utf-16" if p == "wide.txt" else "utf-8") for p, d in files.items()}
    rows = [{"text": t, "path": p, "page": None} for p, t in texts.items()]
    return Kind("text", files, rows, ("path",))


def _pdf() -> Kind:
    pages = {"one.pdf": ["first page", "second page"], "sub/two é.pdf": ["other", "last"]}
    rows = [
        {"text": text, "path": path, "page": i}
        for path, texts in pages.items()
        for i, text in enumerate(texts, 1)
    ]
    return Kind("text", {p: pdf(texts) for p, texts in pages.items()}, rows, ("path", "page"))


def _image() -> Kind:
    sizes = {"one.png": (40, 30), "cats/two é.jpg": (31, 17), "cats/three.gif": (8, 9)}
    formats = {"png": ("png", "RGB"), "jpg": ("jpeg", "RGB"), "gif": ("gif", "P")}
    files: dict[str, bytes] = {}
    rows: list[Row] = []
    for path, (width, height) in sizes.items():
        name, mode = formats[path[-3:]]
        turned = 6 if name == "jpeg" else None
        files[path] = image(name.upper(), (width, height), mode, orientation=turned)
        told = {"width": width, "height": height, "mode": mode, "format": name}
        kept = {"image": {"bytes": files[path], "path": path}}
        rows.append({**kept, **told, "orientation": turned})
    return Kind("image", files, rows, ("width",))


def _binary() -> Kind:
    files = {"one.bin": bytes(range(256)), "sub/two é": b"\x00", "three.dat": b"PK\x03\x04" * 9}
    rows = [
        {"bytes": d, "path": p, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()}
        for p, d in files.items()
    ]
    return Kind("binary", files, rows, ("sha256",))


KINDS = {
    "csv": _table("csv", "csv", flat, as_csv),
    "parquet": _table("parquet", "parquet", nested, as_parquet),
    "jsonl": _table("jsonl", "jsonl", loose, as_jsonl),
    "text": _text(),
    "pdf": _pdf(),
    "image": _image(),
    "binary": _binary(),
    "tfrecords": _table("tfrecords", "tfrecord", recorded, as_tfrecords),
}
