"""Reading the rows of one version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from libs.formats import HASH, ROW, SOURCE, user_schema
from libs.warehouse._lance import lance
from libs.warehouse.versions import Version

SYSTEM = (ROW, HASH, SOURCE)
RANGE = 64 * 1024  # rows that one scan reads


class Reader:
    """One version, opened. Safe to share between threads; blocks, so call it off the event loop."""

    def __init__(self, dataset: lance.LanceDataset, version: Version) -> None:
        self._dataset = dataset
        self.version = version
        self.schema: pa.Schema = dataset.schema
        self.user_schema = user_schema(self.schema)
        self.rows: int = dataset.count_rows()

    def page(
        self,
        offset: int,
        limit: int,
        columns: Sequence[str] | None = None,
        *,
        system: bool = False,
    ) -> pa.Table:
        """Rows [offset, offset + limit) in the version's order; past the end: no rows."""
        chosen = self.columns(columns, system=system)
        start, stop = min(offset, self.rows), min(offset + limit, self.rows)
        if start == stop or not chosen:
            return self.schema.empty_table().select(chosen)
        page: pa.Table = self._dataset.take(range(start, stop), columns=chosen)
        return page

    def batches(
        self,
        columns: Sequence[str] | None = None,
        *,
        system: bool = False,
        batch_rows: int = RANGE,
        batch_bytes: int = 16 * 1024 * 1024,
    ) -> Iterator[pa.RecordBatch]:
        """All rows in order, read ahead by little: memory stays flat whatever the size.

        A scan decodes ahead by a whole fragment, whatever it is told (100 MB of 4 Mi rows), so
        that there is one for each range of rows: it takes 2 ms to begin.
        """
        for offset in range(0, self.rows, RANGE):
            scanner = self._dataset.scanner(
                columns=self.columns(columns, system=system),
                offset=offset,
                limit=RANGE,
                batch_size=batch_rows,
                batch_size_bytes=batch_bytes,
                batch_readahead=2,
                fragment_readahead=1,
                io_buffer_size=4 * batch_bytes,
                scan_in_order=True,
            )
            yield from scanner.to_batches()

    def by_key(self, key: bytes, *, system: bool = True) -> pa.Table:
        """Every row with this 16-byte key: usually one; identical records share a key."""
        found: pa.Table = self._dataset.to_table(
            columns=self.columns(None, system=system), filter=f"{ROW} = x'{key.hex()}'"
        )
        return found

    def columns(self, asked: Sequence[str] | None, *, system: bool) -> list[str]:
        """Columns to read: those asked for, or all of the user's, and the system's on demand."""
        names = list(asked) if asked is not None else self.user_schema.names
        return names + [n for n in SYSTEM if system and n not in names]
