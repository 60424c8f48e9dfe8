"""Text out of documents: PDF by page, docx and HTML as one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from libs.common.errors import PermanentError

if TYPE_CHECKING:
    import pypdfium2 as pdfium

PASSWORD = 4  # FPDF_ERR_PASSWORD
MAX_PAGES = 100_000
MAX_RATIO = 200  # of a docx: XML packs well, but not so well
_END = re.compile(r"\r\n?|\x02")


def pdf_pages(data: bytes, path: str) -> Iterator[str]:
    """Each page's text, in reading order; empty where a page is but a picture.

    By PDFium, which is not thread-safe: one thread of a process at a time. Raises `encrypted_pdf`,
    `corrupt_file`.
    """
    import pypdfium2 as pdfium

    if b"%%EOF" not in data[-2048:]:
        raise corrupt(path, "PDF", "it is cut short: its end is missing")
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as wrong:
        if wrong.err_code == PASSWORD:
            raise PermanentError(
                f"{path}: the PDF is encrypted and needs a password; decrypt it first",
                code="encrypted_pdf",
                path=path,
            ) from wrong
        raise corrupt(path, "PDF", str(wrong)) from wrong
    try:
        yield from _pages(document, path)
    finally:
        document.close()


def _pages(document: pdfium.PdfDocument, path: str) -> Iterator[str]:
    import pypdfium2 as pdfium

    if not 0 < len(document) <= MAX_PAGES:
        raise corrupt(path, "PDF", f"it has {len(document):,} pages; 1 to {MAX_PAGES:,} are read")
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage()
            found = text.get_text_bounded(errors="replace")
            text.close()
            page.close()
        except pdfium.PdfiumError as wrong:
            raise corrupt(path, "PDF", f"page {number + 1}: {wrong}") from wrong
        yield _END.sub(_plain_end, found).encode("utf-8", "replace").decode()


def _plain_end(found: re.Match[str]) -> str:
    """Line ends as \\n; PDFium's mark of a hyphen at a line's end as a hyphen."""
    return "-" if found[0] == "\x02" else "\n"


def docx_text(data: bytes, path: str, limit: int) -> str:
    """Paragraphs, and tables with tabs between cells, in their order. Raises `corrupt_file`."""
    from docx import Document
    from docx.table import Table

    _check_zip(data, path, limit)
    try:
        parts = []
        for block in Document(BytesIO(data)).iter_inner_content():
            if isinstance(block, Table):
                rows = ("\t".join(cell.text for cell in row.cells) for row in block.rows)
                parts.append("\n".join(rows))
            else:
                parts.append(block.text)
    except Exception as wrong:  # whatever python-docx and lxml stumble over
        raise corrupt(path, "docx", f"{type(wrong).__name__}: {wrong}") from wrong
    return "\n\n".join(part for part in parts if part.strip())


def _check_zip(data: bytes, path: str, limit: int) -> None:
    """zipfile never inflates more of a member than is declared, so what is declared is checked."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, ValueError, OSError, NotImplementedError) as wrong:
        raise corrupt(path, "docx", str(wrong)) from wrong
    if size > limit or size > max(len(data) * MAX_RATIO, 1 << 20):
        raise PermanentError(
            f"{path}: unpacked it would have {size:,} bytes, which is too much for a docx of "
            f"{len(data):,}",
            code="decompression_limit",
            path=path,
        )


def html_text(text: str, *, main: bool) -> str:
    """What a reader sees, with its paragraphs; with `main` without menus and the like."""
    from resiliparse.extract.html2text import extract_plain_text

    found = extract_plain_text(text, preserve_formatting=True, main_content=main)
    return str(found)


def corrupt(path: str, kind: str, why: str) -> PermanentError:
    """A document that can't be read."""
    return PermanentError(f"{path}: a broken {kind}: {why}", code="corrupt_file", path=path)
