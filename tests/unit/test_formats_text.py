"""Text of every kind: what a row is, which encoding it was in, and what is refused."""

from __future__ import annotations

import random
import zipfile
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from libs.formats import FORMATS, BadRecord
from tests.files import ENCRYPTED_PDF, docx, grow, pdf, put, read_folder
from tests.formats import keys, splits, user, write
from tests.fuzz import relaxed, seeds

RELAXED = relaxed(60)


def table(tmp_path: Path, name: str, data: bytes, **options: object) -> pa.Table:
    return read_folder("text", put(tmp_path, {name: data}), **options)


def texts(tmp_path: Path, name: str, data: bytes, **options: object) -> list[str]:
    return [str(text) for text in table(tmp_path, name, data, **options)["text"].to_pylist()]


def code(tmp_path: Path, name: str, data: bytes, **options: object) -> str:
    with pytest.raises(PermanentError, match=name) as caught:
        table(tmp_path, name, data, **options)
    return caught.value.code


GERMAN = "Grüße aus Köln: schöne Straßen, große Bäume und süße Äpfel überall. " * 3
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая по-своему. " * 3


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"), (GERMAN, "utf-8-sig"), (GERMAN, "utf-16"), (GERMAN, "utf-32"),
        (GERMAN, "cp1252"), (RUSSIAN, "utf-8"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("split", ["file", "line"])
def test_the_encoding_is_found(tmp_path: Path, text: str, encoding: str, split: str) -> None:
    assert texts(tmp_path, "a.txt", text.encode(encoding), split=split) == [text]


def test_a_declared_encoding_isn_t_doubted(tmp_path: Path) -> None:
    assert texts(tmp_path, "a.txt", "é".encode("cp437"), encoding="cp437") == ["é"]
    assert code(tmp_path, "a.txt", b"ab\n\xff", encoding="utf-8") == "parse_error"


def test_markdown_stays_as_it_is(tmp_path: Path) -> None:
    assert texts(tmp_path, "a.md", b"# Title\n\n* one\n") == ["# Title\n\n* one\n"]


HTML = (
    b"<!doctype html><html><head><meta charset=iso-8859-1><title>T</title><style>p{}</style>"
    b"<script>alert(1)</script></head><body><nav><ul><li><a href=/>Home</a></ul></nav>"
    b"<article><h1>Gr\xfc\xdfe</h1><p>One <b>two</b>\n three.</p><p>Four.</p></article></body>"
)


@pytest.mark.parametrize("name", ["a.html", "a.htm", "page"])
def test_html_is_what_a_reader_sees(tmp_path: Path, name: str) -> None:
    (text,) = texts(tmp_path, name, HTML)
    assert "Grüße\n\nOne two three.\n\nFour." in text
    assert "alert" not in text
    assert "Home" in text


def test_html_may_be_its_main_content_alone(tmp_path: Path) -> None:
    (text,) = texts(tmp_path, "a.html", HTML, mainContent=True)
    assert "Four." in text
    assert "Home" not in text


def test_html_nested_without_end_is_no_trouble(tmp_path: Path) -> None:
    assert "x" in texts(tmp_path, "a.html", b"<html>" + b"<div>" * 50_000 + b"x")[0]


@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "noname"])
def test_a_pdf_is_a_row_per_page_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    found = user(table(tmp_path, name, pdf(["one", "", "three"])))
    assert found.to_pylist() == [
        {"text": "one", "path": name, "page": 1},
        {"text": "", "path": name, "page": 2},
        {"text": "three", "path": name, "page": 3},
    ]


def test_a_pdf_may_be_one_row_or_lines(tmp_path: Path) -> None:
    data = pdf(["one", "two"])
    assert texts(tmp_path, "a.pdf", data, split="file") == ["one\n\ntwo"]
    assert texts(tmp_path, "a.pdf", data, split="line") == ["one", "two"]
    assert texts(tmp_path, "a.pdf", data, split="paragraph") == ["one", "two"]


def test_an_encrypted_pdf_is_said_to_be_one(tmp_path: Path) -> None:
    assert code(tmp_path, "a.pdf", ENCRYPTED_PDF) == "encrypted_pdf"


def test_a_pdf_of_pictures_is_said_to_be_one_unless_it_is_wanted(tmp_path: Path) -> None:
    assert code(tmp_path, "a.pdf", pdf(["", ""])) == "no_text"
    assert texts(tmp_path, "a.pdf", pdf(["", ""]), noText="keep") == ["", ""]


def test_a_pdf_that_ends_early_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    data = pdf([f"page {i}" for i in range(5)])
    for cut in range(1, len(data) - 7, 37):
        assert code(tmp_path, "a.pdf", data[:cut]) in ("corrupt_file", "type_mismatch")


def test_a_docx_is_its_paragraphs_and_tables(tmp_path: Path) -> None:
    data = docx(["First.", "", "Sécond."], ["a", "b"])
    assert texts(tmp_path, "a.docx", data) == ["First.\n\nSécond.\n\na\tb"]
    assert texts(tmp_path, "a", data, split="paragraph")[1] == "Sécond."


def test_a_docx_that_is_broken_or_a_bomb_is_refused(tmp_path: Path) -> None:
    data = docx(["First."])
    for cut in range(1, len(data), 4001):
        assert code(tmp_path, "a.docx", data[:cut]) in ("corrupt_file", "type_mismatch")
    bomb = BytesIO(data)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/more.xml", bytes(50_000_000))
    assert code(tmp_path, "a.docx", bomb.getvalue()) == "decompression_limit"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n" + b"\0" * 50), ("a.txt", b"PK\x03\x04" + b"\0" * 50),
        ("a.txt", b"abc\0\0\0\1\2"), ("a.pdf", b"just text"), ("a.docx", b"just text"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 50),
    ],
)  # fmt: skip
@pytest.mark.parametrize("split", ["file", "line", "paragraph"])
def test_what_is_no_text_is_refused_by_name(
    tmp_path: Path, name: str, data: bytes, split: str
) -> None:
    assert code(tmp_path, name, data, split=split) == "type_mismatch"


@pytest.mark.fuzz
def test_random_bytes_are_refused_or_read_in_some_encoding(tmp_path: Path) -> None:
    for seed in seeds(20):
        data = random.Random(seed).randbytes(500)
        folder = tmp_path / str(seed)
        try:
            table(folder, "a.txt", data)
        except PermanentError as wrong:
            assert wrong.code in ("type_mismatch", "parse_error")  # noqa: PT017


def test_lines_are_numbered_and_blank_ones_count(tmp_path: Path) -> None:
    found = user(table(tmp_path, "a.txt", b"one\r\n\ntwo\rthree", split="line"))
    assert found.to_pylist() == [
        {"text": text, "path": "a.txt", "line": i}
        for i, text in enumerate(["one", "", "two", "three"], 1)
    ]


def test_paragraphs_lie_between_blank_lines(tmp_path: Path) -> None:
    data = b"\n\none\nmore\n \t\n\ntwo\r\n\r\nthree\n"
    found = user(table(tmp_path, "a.txt", data, split="paragraph")).to_pylist()
    assert [(row["text"], row["paragraph"]) for row in found] == [
        ("one\nmore", 1), ("two", 2), ("three", 3),
    ]  # fmt: skip


def test_pages_of_plain_text_end_at_form_feeds(tmp_path: Path) -> None:
    assert texts(tmp_path, "a.txt", b"one\ftwo", split="page") == ["one", "two"]


lines = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")))


@pytest.mark.fuzz
@RELAXED
@given(lines, st.sampled_from(["\n", "\r\n"]), st.integers(1, 50), st.booleans())
def test_lines_are_the_same_however_a_file_is_cut(
    tmp_path: Path, rows: list[str], end: str, target: int, last: bool
) -> None:
    data = "".join(row + end for row in rows) + ("end" if last else "")
    if not data or data.startswith("\ufeff"):
        return
    wanted = rows + (["end"] if last else [])
    (tmp_path / "a.txt").write_bytes(data.encode())
    found = read_folder("text", tmp_path, split="line", target=target, encoding="utf-8")
    assert found["text"].to_pylist() == wanted
    assert found["line"].to_pylist() == list(range(1, len(wanted) + 1))
    assert keys(found) == keys(read_folder("text", tmp_path, split="line", encoding="utf-8"))


def test_splits_of_lines_cover_a_file_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"".join(b"line %d\r\n" % i for i in range(500)))
    pieces = splits(FORMATS.get("text"), path, 300, split="line")
    assert len(pieces) > 10
    assert [(a.stop, a.uri) for a in pieces[:-1]] == [(b.start, b.uri) for b in pieces[1:]]
    assert (pieces[0].start, pieces[-1].stop) == (0, path.stat().st_size)


def test_lines_are_keyed_by_content_and_pages_by_place(tmp_path: Path) -> None:
    one = table(tmp_path / "1", "a.txt", b"x\ny\nx\n", split="line")
    two = table(tmp_path / "2", "b.txt", b"z\ny\nx\n", split="line")
    assert keys(one)[:2] == [keys(two)[2], keys(two)[1]]
    assert keys(one)[0] == keys(one)[2] == "0da31de0bfd1f844efda77881df319d6"
    assert keys(table(tmp_path / "3", "a.txt", b"x")) == ["1806e68c84af2323af7d45b9a1a80ecf"]
    assert keys(table(tmp_path / "4", "a.pdf", pdf(["x"]))) == ["cf521ca5e1754d525f05bb227a31cfe8"]


def test_a_line_that_isn_t_in_the_encoding_can_be_passed_over(tmp_path: Path) -> None:
    heard: list[BadRecord] = []
    put(tmp_path, {"a.txt": b"one\nt\xffo\nthree\n"})
    found = read_folder("text", tmp_path, on_bad=heard.append, split="line", encoding="utf-8")
    assert found["text"].to_pylist() == ["one", "three"]
    assert found["line"].to_pylist() == [1, 3]
    bad = heard[0]
    assert (bad.code, bad.line, bad.start, bad.stop, bad.data) == (
        "parse_error", 2, 4, 8, b"t\xffo\n",
    )  # fmt: skip
    with pytest.raises(PermanentError, match=r"a\.txt:2: not utf-8"):
        read_folder("text", tmp_path, split="line", encoding="utf-8")


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    found = code(tmp_path, "a.txt", b"x\n" + b"y" * 5000, split="line", maxBytes=1000)
    assert found == "record_too_large"


def test_files_of_nothing_may_be_rows(tmp_path: Path) -> None:
    assert texts(tmp_path, "a.txt", b"", allowEmpty=True) == [""]


def test_rows_written_as_lines_are_read_as_lines(tmp_path: Path) -> None:
    content = pa.table({"text": ["one", "", "drei ä"]})
    path = write("text", tmp_path / "part.txt", content, split="line")
    assert path.read_bytes() == "one\n\ndrei ä\n".encode()
    assert texts(tmp_path, "part.txt", path.read_bytes(), split="line") == ["one", "", "drei ä"]


@pytest.mark.parametrize("text", ["a\nb", "a\rb", None])
def test_what_is_no_line_isn_t_written_as_one(tmp_path: Path, text: str | None) -> None:
    content = pa.table({"text": pa.array(["ok", text], pa.string())})
    plugin = FORMATS.get("text")
    options = plugin.WriteOptions.model_validate({"split": "line"})
    writer = plugin.writer(str(tmp_path / "part.txt"), content.schema, options)
    with closing(writer), pytest.raises(PermanentError) as caught:
        writer.write(content.to_batches()[0])
    assert caught.value.code == "inexpressible"


def test_pages_of_a_document_are_a_file_each(tmp_path: Path) -> None:
    found = table(tmp_path / "in", "a.pdf", pdf(["one", "two"]))
    leaves = grow("text", tmp_path / "out", found)
    written = [(tmp_path / "out" / leaf.path).read_text() for leaf in leaves]
    assert written == ["one", "two"]
    assert all(leaf.path.endswith(".txt") for leaf in leaves)
