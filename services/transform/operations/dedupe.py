"""dedupe: [a, b]: of rows that agree in these columns (or in all), the first in source order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import JsonValue

from services.transform.operations import AT, Batches, Exchange, Scatter, column, names
from services.transform.operations._digests import DIGEST, as_array, digests, first_of_each
from services.transform.tasks import Chunk, Slice

KEY = "_oneblock_digest"  # rides in exchange files, so that reducers hash nothing again
PART_BYTES = 32 * 1024 * 1024  # of the source; a reducer holds 24 bytes per row of its part
MOST_PARTS = 512


class Dedupe:
    rowwise: ClassVar[bool] = False

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        _columns(arguments, schema)
        return schema

    def parts(self, arguments: JsonValue, total: int) -> int:
        return max(1, min(MOST_PARTS, -(-total // PART_BYTES)))

    def scatter(self, arguments: JsonValue, schema: pa.Schema, parts: int) -> Scatter:
        wanted = _columns(arguments, schema)

        def scatter(batch: pa.RecordBatch) -> Iterable[tuple[int, pa.RecordBatch]]:
            found = digests(batch, wanted)
            keep = first_of_each(found, np.arange(len(found), dtype=np.int64))
            carried = batch.append_column(pa.field(KEY, DIGEST), as_array(found))
            part = found[:, 1] % np.uint64(parts)
            for number in range(parts):
                mask = keep & (part == number)
                if mask.any():
                    yield number, carried.filter(pa.array(mask))

        return scatter

    def assign(self, arguments: JsonValue, chunks: Sequence[Chunk]) -> list[list[Slice]]:
        found: dict[int, list[Slice]] = {}
        for c in chunks:
            whole = Slice(path=c.path, chunk=c.chunk, start=0, stop=c.rows)
            found.setdefault(c.partition, []).append(whole)
        return [found[number] for number in sorted(found)]

    def gather(
        self, arguments: JsonValue, schema: pa.Schema, batches: Batches
    ) -> Iterator[pa.RecordBatch]:
        """Two passes: digests and positions of all rows decide; then the kept rows stream by."""
        keys, at = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
        for batch in batches():
            keys.append(_pairs(batch.column(KEY)))
            at.append(batch.column(AT).to_numpy())
        keep = first_of_each(np.concatenate(keys), np.concatenate(at))
        passed = 0
        for batch in batches():
            mask = keep[passed : passed + batch.num_rows]
            passed += batch.num_rows
            if mask.any():
                yield batch.drop_columns([KEY]).filter(pa.array(mask))


def _pairs(values: pa.Array) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    data = np.frombuffer(values.buffers()[1], np.uint64).reshape(-1, 2)
    return data[values.offset : values.offset + len(values)]


def _columns(arguments: JsonValue, schema: pa.Schema) -> list[str]:
    """The columns that decide; [] means the whole record."""
    wanted = names(arguments) or schema.names
    return [column("dedupe", schema, name).name for name in wanted]


PLUGIN: Exchange = Dedupe()
