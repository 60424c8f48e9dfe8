"""Writing CSV parts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pacsv
from pydantic import BaseModel, ConfigDict


class CsvWriteOptions(BaseModel):
    """Writer options of csv."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: bool = True
    delimiter: str = ","


class CsvWriter:
    """Writes batches as RFC 4180."""

    def __init__(self, path: str, schema: pa.Schema, options: CsvWriteOptions) -> None:
        self._writer = pacsv.CSVWriter(
            path,
            schema,
            write_options=pacsv.WriteOptions(
                include_header=options.header, delimiter=options.delimiter
            ),
        )

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()
