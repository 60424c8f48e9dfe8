"""repartition: N: the version in N parts of equal size, in source order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pyarrow as pa
from pydantic import JsonValue

from services.transform.operations import Batches, Exchange, Scatter
from services.transform.tasks import Chunk, Slice


class Repartition:
    rowwise: ClassVar[bool] = False

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        return schema

    def parts(self, arguments: JsonValue, total: int) -> int:
        return 1  # rows are told apart by their position, later

    def scatter(self, arguments: JsonValue, schema: pa.Schema, parts: int) -> Scatter:
        return lambda batch: [(0, batch)]

    def assign(self, arguments: JsonValue, chunks: Sequence[Chunk]) -> list[list[Slice]]:
        wanted, rows = _wanted(arguments), sum(c.rows for c in chunks)
        ends = [rows * (i + 1) // wanted for i in range(wanted)]
        found: list[list[Slice]] = [[] for _ in ends]
        part, passed = 0, 0
        for chunk in chunks:
            taken = 0
            while taken < chunk.rows:
                while ends[part] <= passed + taken:
                    part += 1
                stop = min(chunk.rows, ends[part] - passed)
                found[part].append(
                    Slice(path=chunk.path, chunk=chunk.chunk, start=taken, stop=stop)
                )
                taken = stop
            passed += chunk.rows
        return [slices for slices in found if slices]

    def gather(
        self, arguments: JsonValue, schema: pa.Schema, batches: Batches
    ) -> Iterator[pa.RecordBatch]:
        return batches()


def _wanted(arguments: JsonValue) -> int:
    assert isinstance(arguments, int)
    return arguments


PLUGIN: Exchange = Repartition()
