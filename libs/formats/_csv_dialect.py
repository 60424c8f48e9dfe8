"""How a CSV file is written: its options, its delimiter and its header."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import islice
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from libs.common.errors import PermanentError
from libs.formats import Open
from libs.formats._blocks import Mask, Rules
from libs.formats._csv_errors import check_quotes, parse_error
from libs.formats._encodings import splittable, transcoded, utf8_open
from libs.formats._keys import refuse_reserved
from libs.formats._types import NUMBER

DELIMITERS = (",", ";", "\t", "|")
HEAD = 1 << 18  # bytes from the file's start that decide the dialect
SNIFFED, SNIFFED_BYTES = 20, 1 << 14  # records that the delimiter is found from


def one_ascii(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in "\r\n\0":
        raise ValueError("must be one ASCII character, and no line end")
    return value


def known_encoding(value: str) -> str:
    try:
        name = codecs.lookup(value).name
        "".encode(name)
    except LookupError:
        raise ValueError(
            f"unknown encoding {value!r}; for instance utf-8, latin-1, utf-16"
        ) from None
    return "utf-8" if name == "utf-8-sig" else name


Char = Annotated[str, AfterValidator(one_ascii)]


class CsvOptions(BaseModel):
    """Reader options of csv."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: Char | None = None  # None: found out among , ; tab |
    quote: Char | Literal[""] = '"'  # "": quotes are ordinary characters
    escape: Char | None = None
    header: bool | None = None  # None: a header, refused when it looks like data
    columns: list[str] | None = None  # names to use instead of the header's
    encoding: Annotated[str, AfterValidator(known_encoding)] = "utf-8"
    null_values: list[str] = []  # texts that mean null beside the empty one
    skip_rows: Annotated[int, Field(ge=0)] = 0  # lines before the header
    max_record_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 64 << 20

    @model_validator(mode="after")
    def _distinct(self) -> CsvOptions:
        given = [c for c in (self.delimiter, self.quote, self.escape) if c]
        if len(set(given)) < len(given):
            raise ValueError("delimiter, quote and escape must differ")
        return self

    @property
    def rules(self) -> Rules:
        """How records end."""
        mask = _mask(self.escape.encode()) if self.escape else None
        return Rules(self.quote.encode(), mask)


@cache
def _mask(escape: bytes) -> Mask:
    """Blanks the escape character and the one after it."""
    pattern = re.compile(re.escape(escape) + b".", re.DOTALL)
    return lambda data: pattern.sub(b"xx", data) if escape in data else data


@dataclass(frozen=True)
class Dialect:
    """What reading a split of one file needs to know of the file's head."""

    names: tuple[str, ...]
    delimiter: str
    body: int  # where the first data record begins


def dialect_of(open: Open, uri: str, path: str, options: CsvOptions) -> Dialect:
    """Reads the head; raises `empty_file`, `parse_error`, `no_header`, `duplicate_columns`, ….

    `open` gives UTF-8 for encodings that can't be cut before they are decoded.
    """
    with open(uri) as stream:
        head = stream.read(HEAD)
    at = _begin(head, path, options)
    end = at + _record_end(head[at:], options)
    if end == len(head) == HEAD:
        raise parse_error(path, 1, f"the first record is longer than {HEAD:,} bytes")
    delimiter = options.delimiter or _sniff(_text(head[at : at + SNIFFED_BYTES], options), options)
    check_quotes(head[at:end], options.rules, delimiter, path, lambda: options.skip_rows + 1)
    cells = next(_reader(_text(head[at:end], options), delimiter, options), [""])
    body = at if options.header is False else end
    return Dialect(_names(cells, path, options), delimiter, body)


def _begin(head: bytes, path: str, options: CsvOptions) -> int:
    """Where the header begins: after byte order mark, skipped and blank lines."""
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise parse_error(path, 1, "the file is UTF-16; set the option encoding: utf-16")
    at = 3 if head.startswith(codecs.BOM_UTF8) else 0
    for _ in range(options.skip_rows):
        at = head.find(b"\n", at) + 1 or len(head)
    text = head[at:].lstrip(b"\r\n")
    if not text:
        raise PermanentError(f"{path}: the file is empty", code="empty_file", path=path)
    return len(head) - len(text)


def _record_end(head: bytes, options: CsvOptions) -> int:
    """End of the first record, or of the head."""
    quotes = options.rules.quotes(head)
    seen = options.rules.mask(head) if options.rules.mask else head
    inside = 0
    for found in re.finditer(rb"\r\n|\n|\r", seen):
        inside = int(quotes.searchsorted(found.start()))
        if inside % 2 == 0:
            return found.end()
    return len(head)


def _text(head: bytes, options: CsvOptions) -> str:
    """The head as text; what is cut off at its end is dropped, and reported with its line later."""
    encoding = options.encoding if splittable(options.encoding) else "utf-8"
    return head.decode(encoding, "replace")


def _sniff(text: str, options: CsvOptions) -> str:
    """The candidate that cuts all records into the same number of cells, and into most."""

    def score(delimiter: str) -> tuple[bool, int]:
        rows = [len(row) for row in islice(_reader(text, delimiter, options), SNIFFED) if row]
        return len(set(rows[:-1] or rows)) == 1 and rows[0] > 1, rows[0] if rows else 0

    return max(DELIMITERS, key=score)


def _reader(text: str, delimiter: str, options: CsvOptions) -> Iterator[list[str]]:
    return csv.reader(
        StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=options.quote or None,
        escapechar=options.escape,
        quoting=csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE,
    )


def _names(cells: list[str], path: str, options: CsvOptions) -> tuple[str, ...]:
    numbered = [f"column_{i}" for i in range(1, len(cells) + 1)]
    if options.columns:
        if len(options.columns) != len(cells):
            detail = f"{len(options.columns)} names in the option columns for {len(cells)} columns"
            raise parse_error(path, options.skip_rows + 1, detail)
        return _checked(options.columns, path)
    if options.header is False:
        return _checked(numbered, path)
    if options.header is None and all(NUMBER.fullmatch(cell) for cell in cells):
        raise PermanentError(
            f"{path}: the first line looks like data, not like column names: {','.join(cells)[:80]}"
            "; set the option header: false (columns are then column_1, …), or header: true "
            "if these are names",
            code="no_header",
            path=path,
        )
    return _checked([cell or name for cell, name in zip(cells, numbered, strict=True)], path)


def _checked(names: list[str], path: str) -> tuple[str, ...]:
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise PermanentError(
            f"{path}: column names appear more than once: {', '.join(map(repr, twice))}; "
            "rename them, or give all names with the option columns",
            code="duplicate_columns",
            path=path,
        )
    if any("\ufffd" in name for name in names):
        raise parse_error(path, 1, "the header isn't UTF-8; set the option encoding, e.g. latin-1")
    refuse_reserved(names, path)
    return tuple(names)


__all__ = ["CsvOptions", "Dialect", "dialect_of", "transcoded", "utf8_open"]
