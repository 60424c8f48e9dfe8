"""Reading files through a format as an engine does, for the tests of formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from libs.formats import (
    FORMATS,
    Format,
    ReadOptions,
    SourceFile,
    Split,
    TypeConflict,
    parse_options,
    user_schema,
)
from libs.formats._keys import full_schema

Options = Mapping[str, object]
WHOLE = 1 << 40


def open_path(uri: str) -> BinaryIO:
    """An Open for plain paths."""
    return Path(uri).open("rb")


def source(path: Path) -> SourceFile:
    return SourceFile(str(path), path.name, path.stat().st_size)


def splits(plugin: Format, path: Path, target: int = WHOLE, **options: object) -> list[Split]:
    how = parse_options(plugin.Options, options, "spec.source.options")
    return list(plugin.splits(source(path), target, open_path, how))


def read(
    kind: str,
    paths: Path | Iterable[Path],
    *,
    target: int = WHOLE,
    head: int | None = None,
    key: tuple[str, ...] = (),
    **options: object,
) -> pa.Table:
    """All rows, as an engine reads them: types from the first split's head, widened on conflict."""
    plugin = FORMATS.get(kind)
    how = parse_options(plugin.Options, options, "spec.source.options")
    files = [paths] if isinstance(paths, Path) else list(paths)
    pieces = [s for path in files for s in splits(plugin, path, target, **options)]
    first = pieces[:1] if head is not None else pieces
    schema = plugin.join((s.path, plugin.infer(s, open_path, how, head)) for s in first)
    try:
        return rows(plugin, pieces, ReadOptions(schema, how, key))
    except TypeConflict:
        if head is None:
            raise
        schema = plugin.join((s.path, plugin.infer(s, open_path, how, None)) for s in pieces)
        return rows(plugin, pieces, ReadOptions(schema, how, key))


def rows(plugin: Format, pieces: Iterable[Split], how: ReadOptions) -> pa.Table:
    """Every batch of every split; each must have the schema and the size that are promised."""
    batches = [batch for piece in pieces for batch in plugin.read(piece, open_path, how)]
    schema = full_schema(how.schema)
    for batch in batches:
        assert batch.schema == schema, f"{batch.schema} is not {schema}"
        assert 0 < batch.num_rows <= 1 << 16
        batch.validate(full=True)
    return pa.Table.from_batches(batches, schema)


def user(table: pa.Table) -> pa.Table:
    """Without the system columns."""
    return table.select(user_schema(table.schema).names)


def keys(table: pa.Table) -> list[str]:
    """Row keys in hex."""
    return [key.hex() for key in table["_row"].to_pylist()]


def write(
    kind: str, path: Path, table: pa.Table, batch_rows: int = 1000, **options: object
) -> Path:
    """A part file as a sink writes it."""
    plugin = FORMATS.get(kind)
    how = parse_options(plugin.WriteOptions, options, "spec.destination.options")
    writer = plugin.writer(str(path), table.schema, how)
    for batch in table.to_batches(batch_rows):
        writer.write(batch)
    writer.close()
    return path
