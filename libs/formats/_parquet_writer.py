"""Writing parquet parts."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from libs.common.errors import PermanentError
from libs.formats import FEATURE

GROUP_BYTES = 8 << 20  # what waits in memory until a row group is written; a service has 256 MB
GROUP_ROWS = 1 << 20
DICTIONARY_BYTES = 64 << 10  # of a column's values; a column with more does better without


class ParquetWriteOptions(BaseModel):
    """Writer options of parquet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compression: Literal["zstd", "snappy", "gzip", "lz4", "none"] = "zstd"
    row_group_rows: Annotated[int, Field(gt=0, le=GROUP_ROWS)] = GROUP_ROWS


class ParquetWriter:
    """Collects batches into row groups of a sensible size."""

    def __init__(self, path: str, schema: pa.Schema, options: ParquetWriteOptions) -> None:
        _check(schema)
        schema = _featured(schema)
        self._options = options
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression=options.compression,
            dictionary_pagesize_limit=DICTIONARY_BYTES,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._bytes >= GROUP_BYTES or self._rows >= self._options.row_group_rows:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._waiting, self._schema)
            self._writer.write_table(table, row_group_size=self._options.row_group_rows)
        self._waiting, self._rows, self._bytes = [], 0, 0


def _featured(schema: pa.Schema) -> pa.Schema:
    """With what `datasets` of Hugging Face reads: which columns are images."""
    found = {
        f.name: json.loads(f.metadata[FEATURE]) for f in schema if FEATURE in (f.metadata or {})
    }
    if not found:
        return schema
    plain = pa.schema([field.remove_metadata() for field in schema])
    return plain.with_metadata({FEATURE: json.dumps({"info": {"features": found}})})


def _check(schema: pa.Schema) -> None:
    for field in schema:
        kind = field.type
        if (
            pa.types.is_union(kind)
            or pa.types.is_interval(kind)
            or (pa.types.is_struct(kind) and not kind.num_fields)
        ):
            raise PermanentError(
                f"column {field.name!r}: parquet has no form for {kind}", code="inexpressible"
            )
