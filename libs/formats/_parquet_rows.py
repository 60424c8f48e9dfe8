"""Decoding row groups in batches that can't surprise: few bytes may mean very many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 1 << 16
BATCH_BYTES = 16 << 20  # of a batch as the footer lets expect it …
WORST_BYTES = 128 << 20  # … and as long as its longest dictionary values could make it
SMALL = WORST_BYTES // BATCH_ROWS  # a chunk of so few bytes has no value that could hurt

Reopen = Callable[[list[str]], pq.ParquetFile]  # the file with these columns as dictionaries


def batches(
    parquet: pq.ParquetFile, groups: Iterable[int], reopen: Reopen
) -> Iterator[pa.RecordBatch]:
    """Batches of at most BATCH_ROWS rows and of bounded memory."""
    for group in groups:
        if parquet.metadata.row_group(group).num_rows:
            rows = _batch_rows(parquet, group, reopen)
            yield from parquet.iter_batches(rows, row_groups=[group], use_threads=False)


def _batch_rows(parquet: pq.ParquetFile, group: int, reopen: Reopen) -> int:
    """How many rows are surely no more than WORST_BYTES.

    A dictionary value is stored once and may appear in each row: 900 bytes of file can be 200 GB.
    """
    metadata = parquet.metadata.row_group(group)
    chunks = [metadata.column(i) for i in range(metadata.num_columns)]
    rows = metadata.num_rows
    values = sum(chunk.num_values for chunk in chunks) / rows
    width = metadata.total_byte_size / rows + 8 * values
    suspects = [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.has_dictionary_page
        and chunk.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
        and chunk.total_uncompressed_size * (chunk.num_values / rows) > SMALL
    ]
    worst = width
    if suspects:
        longest = _longest(reopen(suspects), group, suspects)
        worst += longest * sum(c.num_values / rows for c in chunks if c.path_in_schema in suspects)
    fitting = min(BATCH_BYTES / max(width, 1), WORST_BYTES / max(worst, 1))
    return int(min(max(fitting, 1), BATCH_ROWS))


def _longest(parquet: pq.ParquetFile, group: int, columns: list[str]) -> int:
    """Bytes of the longest dictionary value of these columns: reading one row decodes them all."""
    longest = 0
    for batch in parquet.iter_batches(1, row_groups=[group], columns=columns, use_threads=False):
        for dictionary in _dictionaries(batch.to_struct_array()):
            if len(dictionary):
                longest = max(longest, pc.max(pc.binary_length(dictionary)).as_py() or 0)
        break
    return longest


def _dictionaries(column: pa.Array) -> Iterator[pa.Array]:
    """The dictionaries at any depth of a column."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not pa.types.is_fixed_size_binary(kind.value_type):
            yield column.dictionary
    elif pa.types.is_struct(kind):
        for child in column.flatten():
            yield from _dictionaries(child)
    elif pa.types.is_map(kind):
        yield from _dictionaries(column.keys)
        yield from _dictionaries(column.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _dictionaries(column.values)
