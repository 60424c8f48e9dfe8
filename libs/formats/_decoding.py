"""Which encoding a text is in, and what a file of type text really is."""

from __future__ import annotations

import codecs
import re
from io import BytesIO
from typing import Literal
from zipfile import BadZipFile, ZipFile

from libs.common.errors import PermanentError
from libs.formats._signatures import begins, kind_of

HEAD = 1 << 16  # bytes that are looked at
SAMPLE = 1 << 15  # bytes that the guess at an encoding looks at: it is slow
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins alike
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_META = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_HTML = re.compile(rb"\s*(<\?xml[^>]{0,200}>\s*)?(<!--.{0,2000}?-->\s*)*<(!doctype\s+html|html)\b",
                   re.IGNORECASE | re.DOTALL)  # fmt: skip

Document = Literal["plain", "html", "pdf", "docx"]


def document(head: bytes, path: str, *, whole: bytes | None = None) -> Document:
    """What kind of document begins like this; by content, and by name where content can't say.

    `whole` is the file, where it is at hand: a ZIP archive may be a docx. Raises `type_mismatch`.
    """
    if b"%PDF-" in head[:1024]:
        return "pdf"
    kind = kind_of(head)
    if kind is not None and kind.suffix == ".zip" and _is_docx(whole, path):
        return "docx"
    short = begins(head) if len(head) < 8 and path.lower().endswith((".pdf", ".docx")) else None
    if short is not None:
        raise _corrupt(path, f"a broken {short.name}: it ends in the middle")
    if path.lower().endswith((".pdf", ".docx")) or kind is not None:
        raise mismatch(path, f"a {kind.name}" if kind else "something else")
    if path.lower().endswith((".html", ".htm", ".xhtml")) or _HTML.match(head):
        return "html"
    return "plain"


def _is_docx(whole: bytes | None, path: str) -> bool:
    if whole is None or path.lower().endswith(".docx"):
        return path.lower().endswith(".docx")
    try:
        with ZipFile(BytesIO(whole)) as archive:
            return "word/document.xml" in archive.namelist()
    except (BadZipFile, ValueError, OSError, NotImplementedError):
        return False


def mismatch(path: str, what: str) -> PermanentError:
    """Content that can't be read as text."""
    return PermanentError(
        f"{path}: the content is {what}; text is plain text, markdown, HTML, PDF and docx. Leave "
        "it out (source.filter), or say what it is (source.type: binary takes anything)",
        code="type_mismatch",
        path=path,
    )


def _corrupt(path: str, why: str) -> PermanentError:
    return PermanentError(f"{path}: {why}", code="corrupt_file", path=path)


def encoding_of(data: bytes, path: str, *, whole: bool = True, html: bool = False) -> str:
    """The encoding of a text that begins like this; raises `type_mismatch` where nothing fits."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    wrong = _not_utf8(data, whole=whole)
    if wrong is None:
        if b"\0" in data:
            raise mismatch(path, "binary")
        return "utf-8"
    if html and (declared := _META.search(data[:4096])):
        found = _known(declared[1].decode("ascii", "replace"))
        if found:
            return found
    return _guess(data, wrong, path)


def _not_utf8(data: bytes, *, whole: bool) -> int | None:
    """Where `data` isn't UTF-8; a last character may be cut where there is more to come."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError as wrong:
        return wrong.start
    return None


def _known(name: str) -> str | None:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None


def _guess(data: bytes, wrong: int, path: str) -> str:
    """By the characters around the first byte that isn't UTF-8."""
    from charset_normalizer import from_bytes

    begin = max(0, wrong - SAMPLE // 2) & ~3  # characters of UTF-16 and UTF-32 stay whole
    best = from_bytes(data[begin : begin + SAMPLE]).best()
    if best is None or not best.encoding:
        raise mismatch(path, "binary, or text in an encoding that can't be told (option encoding)")
    return str(codecs.lookup(best.encoding).name)


def decode(data: bytes, encoding: str, path: str) -> str:
    """The text; raises `parse_error` with the place."""
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, UnicodeError) as wrong:
        start = getattr(wrong, "start", 0)
        line = data.count(b"\n", 0, start) + 1
        raise PermanentError(
            f"{path}:{line}: not {encoding} at byte {start:,}; set the option encoding to what the "
            "file is written in",
            code="parse_error",
            path=f"{path}:{line}",
        ) from wrong
