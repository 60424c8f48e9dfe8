"""Which type reads a file: by its name, else by how it begins.

Ingest asks, so no format is loaded for it: what their suffixes are stands here once more, and a
test compares.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import struct

from libs.formats._signatures import kind_of

SUFFIXES: dict[str, tuple[str, ...]] = {
    "binary": (".bin",),
    "csv": (".csv", ".tsv"),
    "image": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
    "text": (".txt", ".md", ".html", ".htm", ".pdf", ".docx"),
    "tfrecords": (".tfrecord", ".tfrecords", ".tfrec"),
}
HEAD = 1 << 16  # bytes of a file's beginning that are enough

_TYPES = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_HTML = re.compile(r"\s*(<!doctype html|<html)\b", re.IGNORECASE)
_COLUMN = re.compile(r"[^\W\d][\w .()/-]{0,63}")  # numbers and dates head no column
_RECORDS = 3  # a header and two rows: what two lines have in common may be chance
_PREFIX = struct.Struct("<QI")


def by_name(path: str) -> str:
    """The type; empty where the name doesn't tell."""
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return _TYPES.get(dot + ending.lower(), "")


def by_content(head: bytes) -> tuple[str, str]:
    """The type of a file that begins like this, empty where it doesn't tell; what people call it.

    `head`: HEAD bytes, or the whole of a shorter file.
    """
    if kind := kind_of(head):
        known = {".parquet": "parquet", ".pdf": "text"}
        return "image" if kind.image else known.get(kind.suffix, ""), kind.name
    if _is_record(head):
        return "tfrecords", "TFRecord file"
    text = _text(head)
    if text is None:
        return "", "data of no known kind"
    if _HTML.match(text):
        return "text", "HTML document"
    lines = _lines(text, whole=len(head) < HEAD)
    if text.lstrip().startswith("{"):
        return (
            ("jsonl", "JSON lines") if _is_object(lines) else ("", "JSON, but not an object a line")
        )
    return ("csv", "CSV file") if _is_table(lines) else ("", "plain text")


def _is_record(head: bytes) -> bool:
    """A TFRecord's length carries a checksum, which nothing else has by chance."""
    if len(head) < _PREFIX.size:
        return False
    _, stored = _PREFIX.unpack_from(head)
    crc = 0xFFFFFFFF  # CRC-32C; ingest has no library for it, and eight bytes need none
    for byte in head[:8]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return bool(stored == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _text(head: bytes) -> str | None:
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8-sig")()
    try:
        text = decoder.decode(head)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _lines(text: str, *, whole: bool) -> list[str]:
    """Those that are there in full, with their ends."""
    lines = text.splitlines(keepends=True)
    return [line for line in (lines if whole else lines[:-1]) if line.strip()]


def _is_object(lines: list[str]) -> bool:
    try:
        return bool(lines) and isinstance(json.loads(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def _is_table(lines: list[str]) -> bool:
    """A header of names, and as many cells in every record: of one delimiter."""
    return any(_is_cut_by(delimiter, lines) for delimiter in ",;\t|")


def _is_cut_by(delimiter: str, lines: list[str]) -> bool:
    try:
        records = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    if len(records) < _RECORDS or len(records[0]) < 2:
        return False
    names = [name.strip() for name in records[0]]
    distinct = len(set(names)) == len(names) and all(map(_COLUMN.fullmatch, names))
    return distinct and all(len(record) == len(names) for record in records)
