"""Printing: tables for people, JSON and CSV for programs; cells can't command the terminal."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDEST = 60  # characters of a cell in a table on a terminal


def console() -> Console:
    """Standard output; nothing is cut off when it isn't a terminal."""
    return Console(width=None if sys.stdout.isatty() else 100_000, highlight=False)


def print_json(value: object) -> None:
    """One JSON value on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns; numbers to the right."""
    found = [list(r) for r in rows]
    right = {i for i in range(len(columns)) if found and all(_number(r[i]) for r in found)}
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for i, name in enumerate(columns):
        table.add_column(
            Text(shown(name)),
            justify="right" if i in right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    limit = WIDEST if sys.stdout.isatty() else None
    for row in found:
        table.add_row(*(Text(_cut(shown(cell), limit)) for cell in row))
    console().print(table)


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """RFC 4180, with `\\n` between lines; nested values as JSON."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_field(row.get(name)) for name in columns])


def shown(value: object) -> str:
    """A value on one line, with control characters (they command terminals) spelled out."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else _compact(value)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def size(count: float | None) -> str:
    """Bytes for people: `47.8 kB`."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value in nested objects and lists by its path, without what is empty."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from flat(inner, f"{path}[{i}]")
    elif value not in (None, "", [], {}):
        yield path, value


def _compact(value: object) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _field(value: object) -> object:
    if isinstance(value, (Mapping, list, bool)):
        return _compact(value)
    return value


def _number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
