"""Text: plain, markdown, HTML, PDF and docx; a row per file, page, paragraph or line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, cast

import pyarrow as pa
from pydantic import AfterValidator, BaseModel

from libs.common.errors import PermanentError
from libs.formats import OnBad, Open, ReadOptions, SourceFile, Split, Writer
from libs.formats import _documents as documents
from libs.formats import _files as files
from libs.formats import _keys as keys
from libs.formats._csv_dialect import known_encoding
from libs.formats._decoding import HEAD, decode, document, encoding_of
from libs.formats._encodings import splittable
from libs.formats._text_lines import MARK, line_rows, line_splits, read_lines, split_lines
from libs.formats._text_writer import TextWriteOptions, tree, writer
from libs.formats._trees import Tree

NUMBERS = {None: "page", "page": "page", "line": "line", "paragraph": "paragraph"}
BLANK = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")  # what lies between paragraphs
GAP = "\n\n"  # between pages that become one text


class TextOptions(files.FileOptions):
    """Reader options of text."""

    # Without: PDFs by page, everything else by file.
    split: Literal["file", "page", "paragraph", "line"] | None = None
    encoding: Annotated[str, AfterValidator(known_encoding)] | None = None
    mainContent: bool = False  # of HTML: without menus, footers and the like
    noText: Literal["fail", "keep"] = "fail"  # PDFs that are pictures alone
    allowEmpty: bool = False  # files of no bytes are rows of no text


class Text:
    """The format text."""

    suffixes: tuple[str, ...] = (".txt", ".md", ".html", ".htm", ".pdf", ".docx")
    Options: type[BaseModel] = TextOptions
    WriteOptions: type[BaseModel] = TextWriteOptions

    def __init__(self, on_bad: OnBad | None = None) -> None:
        self._on_bad = on_bad

    def tolerating(self, on_bad: OnBad) -> Text:
        return Text(on_bad)

    def splits(
        self, file: SourceFile, target: int, open: Open, options: BaseModel
    ) -> Iterable[Split]:
        how = cast(TextOptions, options)
        if how.split == "line" and file.size > target:
            encoding = _plain_encoding(file.uri, file.path, open, how)
            if encoding is not None and splittable(encoding):
                return line_splits(file, target, open)
        return [files.whole(file)]

    def infer(self, split: Split, open: Open, options: BaseModel, limit: int | None) -> pa.Schema:
        number = NUMBERS.get(cast(TextOptions, options).split)
        fields = [pa.field("text", pa.string()), pa.field("path", pa.string())]
        return pa.schema([*fields, pa.field(number, pa.int64())] if number else fields)

    def join(self, schemas: Iterable[tuple[str, pa.Schema]]) -> pa.Schema:
        return next(schema for _, schema in schemas)

    def read(self, split: Split, open: Open, how: ReadOptions) -> Iterator[pa.RecordBatch]:
        return self.read_many([split], open, how)

    def read_many(
        self, splits: Sequence[Split], open: Open, how: ReadOptions
    ) -> Iterator[pa.RecordBatch]:
        if splits:
            keys.require_columns(how.key, how.schema.names, splits[0].path)
        if cast(TextOptions, how.options).split in ("line", "paragraph"):
            return keys.gathered(_records(splits, open, how, self._on_bad))
        return _texts(splits, open, how, self._on_bad)

    def writer(self, path: str, schema: pa.Schema, options: BaseModel) -> Writer:
        return writer(path, schema, cast(TextWriteOptions, options))

    def tree(self, folder: str, schema: pa.Schema, options: BaseModel, rows: int) -> Tree | None:
        return tree(folder, schema, cast(TextWriteOptions, options), rows)


def _plain_encoding(uri: str, path: str, open: Open, options: TextOptions) -> str | None:
    """Of plain text, by its head; None for other documents."""
    with open(uri) as file:
        head = file.read(HEAD)
        more = bool(file.read(1))
    if not head:
        raise files.empty(path)
    if document(head, path) != "plain":
        return None
    return options.encoding or encoding_of(head, path, whole=not more)


def _texts(
    splits: Sequence[Split], open: Open, how: ReadOptions, on_bad: OnBad | None
) -> Iterator[pa.RecordBatch]:
    """Rows of files and pages, keyed by path and page."""
    options, rows = cast(TextOptions, how.options), files.Gathering(how)
    for split, data in files.contents(splits, open, options.maxBytes):
        try:
            texts = _pieces(split, data, options)
        except PermanentError as wrong:
            files.told(wrong, split, data, on_bad)
            continue
        for page, text in texts:
            raw = text.encode()
            if not rows.fits(len(raw)):
                yield from rows.flush()
            name = (split.path,) if page is None else (split.path, str(page))
            values = (text, split.path, page)
            rows.add(split, name, raw, values if options.split != "file" else values[:2])
    yield from rows.flush()


def _pieces(
    split: Split, data: bytes | PermanentError, options: TextOptions
) -> list[tuple[int | None, str]]:
    pages, paged = _pages(split, data, options)
    if options.split == "file" or (options.split is None and not paged):
        return [(None, GAP.join(pages))]
    return list(enumerate(pages, 1))


def _pages(
    split: Split, data: bytes | PermanentError, options: TextOptions
) -> tuple[list[str], bool]:
    """A document's text by page, and whether it is of a kind that has pages."""
    if isinstance(data, PermanentError):
        if data.code != "empty_file" or not options.allowEmpty:
            raise data
        data = b""
    kind = document(data[:HEAD], split.path, whole=data) if data else "plain"
    if kind == "pdf":
        return _pdf(data, split.path, options), True
    if kind == "docx":
        return [documents.docx_text(data, split.path, options.maxBytes)], False
    encoding = options.encoding or encoding_of(data, split.path, html=kind == "html")
    text = decode(data, encoding, split.path).removeprefix(MARK)
    if kind == "html":
        return [documents.html_text(text, main=options.mainContent)], False
    return text.split("\f") if options.split == "page" else [text], False


def _pdf(data: bytes, path: str, options: TextOptions) -> list[str]:
    pages = list(documents.pdf_pages(data, path))
    if options.noText == "fail" and not any(page.strip() for page in pages):
        raise PermanentError(
            f"{path}: the PDF has no text, only pictures ({len(pages)} pages); recognise its text "
            "first (OCR), or keep it with empty texts (option noText: keep)",
            code="no_text",
            path=path,
        )
    return pages


def _records(
    splits: Sequence[Split], open: Open, how: ReadOptions, on_bad: OnBad | None
) -> Iterator[pa.RecordBatch]:
    """Rows of lines and paragraphs, keyed by their text."""
    for split in splits:
        try:
            yield from _lines_of(split, open, how, on_bad)
        except PermanentError as wrong:
            files.told(wrong, split, b"", on_bad)


def _lines_of(
    split: Split, open: Open, how: ReadOptions, on_bad: OnBad | None
) -> Iterator[pa.RecordBatch]:
    options = cast(TextOptions, how.options)
    if options.split == "line" and (split.size or not options.allowEmpty):
        encoding = _plain_encoding(split.uri, split.path, open, options)
        if encoding is not None:
            yield from read_lines(split, open, encoding, how, options.maxBytes, on_bad)
            return
    pages, _ = _pages(split, files.content(split, open, options.maxBytes), options)
    cut = split_lines if options.split == "line" else _paragraphs
    yield from line_rows(split, [piece for page in pages for piece in cut(page)], 1, how)


def _paragraphs(text: str) -> list[str]:
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return [piece for piece in (p.strip("\n") for p in BLANK.split(plain)) if piece.strip()]


PLUGIN = Text()
