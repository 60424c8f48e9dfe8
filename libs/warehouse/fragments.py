"""Phase one of a commit: workers write fragments that nobody sees yet."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import pyarrow as pa

from libs.warehouse._lance import write_fragments as lance_write_fragments

# Rows a fragment file may hold. To take 100 rows of a column that is one value, or long runs of
# one, Lance reads the whole column of the fragment: 12 ms of 4 Mi rows, 3 ms of 1 Mi.
MAX_ROWS = 1024 * 1024


def write_fragments(
    uri: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    storage_options: dict[str, str] | None = None,
) -> list[str]:
    """Writes the batches below the dataset at `uri`; returns JSON metadata of each fragment.

    Memory is bounded by one batch and the writer's pages. Nothing becomes visible, and no batch
    at all gives no fragment.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return []
    reader = pa.RecordBatchReader.from_batches(schema, _chain(first, iterator))
    written = lance_write_fragments(
        reader,
        uri,
        schema=schema,
        mode="overwrite",  # the schema of what stands there doesn't bind a new version
        max_rows_per_file=MAX_ROWS,
        storage_options=storage_options,
        enable_stable_row_ids=True,
    )
    return [orjson.dumps(f.to_json()).decode() for f in written if f.num_rows]


def _chain(first: pa.RecordBatch, rest: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    yield first
    yield from rest
