"""How a CSV file is written: its options, its delimiter and its header."""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass
from io import StringIO
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from libs.common.errors import PermanentError
from libs.formats import Open
from libs.formats._blocks import Rules, single_byte
from libs.formats._keys import refuse_reserved
from libs.formats._types import NUMBER

DELIMITERS = (",", ";", "\t", "|")
HEAD = 1 << 16  # bytes from the file's start that decide the dialect


def one_ascii(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in "\r\n\0":
        raise ValueError("must be one ASCII character, and no line end")
    return value


def known_encoding(value: str) -> str:
    try:
        return codecs.lookup(value).name
    except LookupError:
        raise ValueError(f"unknown encoding {value!r}; for instance utf-8, latin-1, utf-16") from None


Char = Annotated[str, AfterValidator(one_ascii)]


class CsvOptions(BaseModel):
    """Reader options of csv."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: Char | None = None  # None: found out among , ; tab |
    quote: Char | Literal[""] = '"'  # "": quotes are ordinary characters
    escape: Char | None = None
    header: bool | None = None  # None: a header, refused when it looks like data
    columns: list[str] | None = None  # names to use instead
    encoding: Annotated[str, AfterValidator(known_encoding)] = "utf-8"
    null_values: list[str] = []  # texts that mean null beside the empty one
    skip_rows: Annotated[int, Field(ge=0)] = 0  # lines before the header
    max_record_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 64 << 20


@dataclass(frozen=True)
class Dialect:
    """What reading a split of one file needs to know of the file's head."""

    names: tuple[str, ...]
    delimiter: str
    body: int  # where the first data record begins
    rules: Rules


def dialect_of(open: Open, uri: str, path: str, options: CsvOptions) -> Dialect:
    """Reads the file's head; raises `empty_file`, `parse_error`, `duplicate_columns`, …."""
    with open(uri) as stream:
        head = stream.read(HEAD)
    bom = 3 if head.startswith(codecs.BOM_UTF8) else 0
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and options.encoding == "utf-8":
        raise parse_error(path, 1, "the file is UTF-16; set the option encoding: utf-16")
    rules = rules_of(options)
    at = bom
    for _ in range(options.skip_rows):
        at = head.find(b"\n", at) + 1 or len(head)
    text = head[at:]
    if not text.strip(b"\r\n"):
        raise PermanentError(f"{path}: the file is empty", code="empty_file", path=path)
    at += len(text) - len(text.lstrip(b"\r\n"))
    end = _first_end(head[at:], rules, path, options)
    line = head[at : at + end].rstrip(b"\r\n").decode(options.encoding, "replace")
    delimiter = options.delimiter or _sniff(line, options.quote)
    cells = _cells(line, delimiter, options)
    if options.header is False:
        names = options.columns or [f"column_{i}" for i in range(1, len(cells) + 1)]
        return Dialect(checked(names, path, len(cells)), delimiter, at, rules)
    if options.header is None and all(NUMBER.fullmatch(cell) for cell in cells):
        raise PermanentError(
            f"{path}: the first line looks like data, not like column names: {line[:80]!r}; "
            "set the option header: false (columns are then column_1, …) or header: true",
            code="no_header", path=path,
        )  # fmt: skip
    names = options.columns or [cell or f"column_{i}" for i, cell in enumerate(cells, 1)]
    return Dialect(checked(names, path, len(cells)), delimiter, at + end, rules)


def rules_of(options: CsvOptions) -> Rules:
    return Rules(options.quote.encode())


def checked(names: list[str], path: str, cells: int) -> tuple[str, ...]:
    if len(names) != cells:
        raise parse_error(path, 1, f"{len(names)} column names for {cells} columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PermanentError(
            f"{path}: column names appear more than once: {', '.join(map(repr, twice))}; "
            "rename them, or give names with the option columns",
            code="duplicate_columns", path=path,
        )  # fmt: skip
    refuse_reserved(names, path)
    return tuple(names)


def parse_error(path: str, line: int, detail: str) -> PermanentError:
    return PermanentError(f"{path}:{line}: {detail}", code="parse_error", path=f"{path}:{line}")


def _first_end(head: bytes, rules: Rules, path: str, options: CsvOptions) -> int:
    """End of the first record."""
    quotes = rules.quotes(head)
    at = 0
    while at < len(head):
        ends = [p for p in (head.find(b"\n", at), head.find(b"\r", at)) if p >= 0]
        if not ends:
            break
        found = min(ends)
        if int((quotes < found).sum()) % 2 == 0:
            return found + 2 if head[found : found + 2] == b"\r\n" else found + 1
        at = found + 1
    if len(head) >= HEAD - 4096:
        raise parse_error(path, 1, f"the header is longer than {HEAD:,} bytes")
    return len(head)


def _sniff(line: str, quote: str) -> str:
    """The candidate that cuts the header into most cells; a comma when none does."""
    return max(DELIMITERS, key=lambda d: len(_split(line, d, quote)))


def _split(line: str, delimiter: str, quote: str) -> list[str]:
    rows = csv.reader(
        StringIO(line, newline=""), delimiter=delimiter, quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )  # fmt: skip
    return next(rows, [""])


def _cells(line: str, delimiter: str, options: CsvOptions) -> list[str]:
    return _split(line, delimiter, options.quote)


__all__ = ["CsvOptions", "Dialect", "dialect_of", "parse_error", "rules_of", "single_byte"]
