"""Writing text: a file per row, or a line per row in part files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.errors import PermanentError
from libs.formats import user_schema
from libs.formats._trees import Leaves, Tree, TreeOptions, content_column

MADE = ("text", "path", "page", "line", "paragraph")  # what reading text makes
LINE_END = "[\r\n]"


class TextWriteOptions(TreeOptions):
    """Writer options of text."""

    split: Literal["file", "line"] = "file"  # what a row becomes


def _suffix(_data: bytes, _path: str | None) -> str:
    return ".txt"


LEAVES = Leaves("text", ("text",), MADE, _suffix, texts=True)


def tree(folder: str, schema: pa.Schema, options: TextWriteOptions, rows: int) -> Tree | None:
    """A file per row, where that was asked for."""
    return Tree(folder, schema, options, LEAVES, rows) if options.split == "file" else None


def writer(path: str, schema: pa.Schema, options: TextWriteOptions) -> LineWriter:
    """A line per row."""
    if options.name or options.extension:
        raise PermanentError(
            "with split: line rows have no names; leave out the options name and extension",
            code="invalid_options",
        )
    return LineWriter(path, content_column(user_schema(schema), options, LEAVES))


class LineWriter:
    """Part files of lines, ended by \\n. A row that has line ends itself is refused."""

    def __init__(self, path: str, column: str) -> None:
        self._column = column
        self._file = Path(path).open("wb")  # noqa: SIM115

    def write(self, batch: pa.RecordBatch) -> None:
        texts = batch.column(self._column).cast(pa.large_string())
        if texts.null_count:
            raise _inexpressible(f"a row has nothing in {self._column!r}; filter such rows out")
        broken = pc.match_substring_regex(texts, LINE_END)
        if pc.any(broken).as_py():
            text = texts[pc.index(broken, True).as_py()].as_py()
            raise _inexpressible(
                f"a text of several lines can't be one line: {text[:60]!r}…; write a file per row "
                "(option split: file), or jsonl"
            )
        end = pa.scalar("\n", pa.large_string())
        lines = pc.binary_join_element_wise(texts, end, pa.scalar("", pa.large_string()))
        data = lines.buffers()[2]
        if data is not None:
            self._file.write(data)

    def close(self) -> None:
        self._file.close()


def _inexpressible(text: str) -> PermanentError:
    return PermanentError(text, code="inexpressible")
