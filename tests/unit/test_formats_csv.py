"""CSV: dialects, quoting, faults by line, and inference that never loses the tail."""

from __future__ import annotations

import csv
import io
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import PermanentError
from libs.formats import FORMATS
from tests.formats import keys, read, splits, user, write
from tests.fuzz import relaxed

RELAXED = relaxed(60)


def file(tmp_path: Path, text: str | bytes, name: str = "in.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(tmp_path: Path, text: str | bytes, **how: object) -> list[dict[str, object]]:
    return user(read("csv", file(tmp_path, text), **how)).to_pylist()  # type: ignore[arg-type]


def fault(tmp_path: Path, text: str | bytes, **how: object) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        read("csv", file(tmp_path, text), **how)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out(tmp_path: Path, delimiter: str) -> None:
    text = "a,b,c\n1,x y,2.5\n2,z,3\n".replace(",", delimiter)
    assert rows(tmp_path, text) == [{"a": 1, "b": "x y", "c": 2.5}, {"a": 2, "b": "z", "c": 3.0}]


def test_a_delimiter_that_cuts_every_line_alike_is_preferred(tmp_path: Path) -> None:
    text = "name, first;age\nA;1\nB;2\n"
    assert rows(tmp_path, text) == [{"name, first": "A", "age": 1}, {"name, first": "B", "age": 2}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_don_t_matter(tmp_path: Path, end: str, bom: str) -> None:
    text = bom + end.join(["a,b", "1,x", "", "2,y", ""])
    found = read("csv", file(tmp_path, text))
    assert user(found).to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert keys(found) == keys(read("csv", file(tmp_path, "a,b\n1,x\n2,y")))


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "utf-8-sig"]
)
def test_other_encodings_are_read_by_option(tmp_path: Path, encoding: str) -> None:
    text = "név;ár\n" + "".join(f"ö{i};{i}\n" for i in range(500))
    found = read(
        "csv", file(tmp_path, text.encode(encoding, "replace")), encoding=encoding, target=99
    )
    utf8 = read("csv", file(tmp_path, text.encode(encoding, "replace").decode(encoding)))
    assert user(found).equals(user(utf8))
    assert keys(found) == keys(utf8)


def test_quotes_keep_delimiters_and_line_ends(tmp_path: Path) -> None:
    text = 'a,b\n"1","x, ""y""\nz"\n2,"\r\n"\n'
    assert rows(tmp_path, text) == [{"a": 1, "b": 'x, "y"\nz'}, {"a": 2, "b": "\r\n"}]


def test_an_empty_cell_is_null_and_a_quoted_one_is_an_empty_text(tmp_path: Path) -> None:
    text = 'a,b\n1,x\n,\n"",""\n'
    assert rows(tmp_path, text) == [
        {"a": 1, "b": "x"},
        {"a": None, "b": None},
        {"a": None, "b": ""},
    ]


def test_declared_null_values_are_null(tmp_path: Path) -> None:
    text = "a,b\n1,NA\nNA,x\n-,\n"
    found = rows(tmp_path, text, null_values=["NA", "-"])
    assert found == [{"a": 1, "b": None}, {"a": None, "b": "x"}, {"a": None, "b": None}]


def test_an_escape_character_works_in_front_of_quotes_and_line_ends(tmp_path: Path) -> None:
    text = 'a,b\n1,"say \\"hi\\", then\nleave"\n2,c\\,d\n' * 1
    expected = [{"a": 1, "b": 'say "hi", then\nleave'}, {"a": 2, "b": "c,d"}]
    for target in (1, 5, 1 << 20):
        assert rows(tmp_path, text, escape="\\", target=target) == expected


def test_without_quoting_quotes_are_ordinary_characters(tmp_path: Path) -> None:
    text = 'a,b\n5" pipe,"x\ny,z"\n'
    assert rows(tmp_path, text, quote="") == [{"a": '5" pipe', "b": '"x'}, {"a": "y", "b": 'z"'}]


def test_lines_before_the_header_can_be_skipped(tmp_path: Path) -> None:
    text = 'made by "us\n\na,b\n1,2\n'
    for target in (1, 1000):
        assert rows(tmp_path, text, skip_rows=1, target=target) == [{"a": 1, "b": 2}]


def test_without_header_columns_are_numbered_or_named(tmp_path: Path) -> None:
    text = "1,x\n2,y\n"
    numbered = [{"column_1": 1, "column_2": "x"}, {"column_1": 2, "column_2": "y"}]
    assert rows(tmp_path, text, header=False) == numbered
    named = rows(tmp_path, text, header=False, columns=["n", "t"])
    assert named == [{"n": 1, "t": "x"}, {"n": 2, "t": "y"}]
    assert rows(tmp_path, "x,y\n1,2\n", columns=["n", "t"]) == [{"n": 1, "t": 2}]


def test_a_first_line_of_numbers_is_no_header(tmp_path: Path) -> None:
    wrong = fault(tmp_path, "1,2.5\n3,4\n")
    assert wrong.code == "no_header"
    assert "in.csv" in wrong.detail
    assert "header: false" in wrong.detail
    assert rows(tmp_path, "2019,2020\n3,4\n", header=True) == [{"2019": 3, "2020": 4}]


def test_unnamed_columns_of_a_header_are_numbered(tmp_path: Path) -> None:
    assert rows(tmp_path, ",a\n0,x\n") == [{"column_1": 0, "a": "x"}]


def test_duplicate_headers_are_an_error_that_names_them(tmp_path: Path) -> None:
    wrong = fault(tmp_path, "a,b,a,c,b\n1,2,3,4,5\n")
    assert wrong.code == "duplicate_columns"
    assert "'a', 'b'" in wrong.detail


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "\r\n"])
def test_a_file_without_records_is_empty(tmp_path: Path, text: str) -> None:
    assert fault(tmp_path, text).code == "empty_file"


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    found = read("csv", file(tmp_path, "a,b\n"))
    assert (found.num_rows, user(found).schema.names) == (0, ["a", "b"])


BODY = "".join(f'{i},"line\nbreak {i}"\n' for i in range(200))


@pytest.mark.parametrize("target", [50, 1 << 20])
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("1,2,3\n", "expected 2 cells, found 3: '1,2,3'"),
        ("1\n", "expected 2 cells, found 1: '1'"),
        ('1,"a\nb",3\n', "expected 2 cells, found 3"),
        ('1,ab"c\n', "a stray quote, inside a cell"),
        ('1,"a"b\n', "a stray quote, closed before"),
        ("1,a\0b\n", "a NUL byte"),
        (b"1,\xff\n", "0xff isn't UTF-8"),
        (b"1,caf\xe9\n", "0xe9 isn't UTF-8"),
    ],
)
def test_a_fault_is_told_with_its_line(
    tmp_path: Path, bad: str | bytes, says: str, target: int
) -> None:
    bad = bad.encode() if isinstance(bad, str) else bad
    text = b"a,b\r\n" + BODY.encode() + bad + BODY.encode()
    wrong = fault(tmp_path, text, target=target)
    assert wrong.code == "parse_error"
    assert wrong.detail.startswith("in.csv:402: "), wrong.detail
    assert says in wrong.detail


def test_a_quote_that_is_never_closed_is_told_with_its_line(tmp_path: Path) -> None:
    wrong = fault(tmp_path, 'a,b\n1,x\n2,"y\n3,z\n')
    assert wrong.detail.startswith("in.csv:3: a stray quote, opened and never closed")


def test_a_wrong_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    assert "encoding: utf-16" in fault(tmp_path, "a,b\n1,2\n".encode("utf-16")).detail
    wrong = fault(tmp_path, b"a,b\n1,2\n1,\xd8\n", encoding="ascii")
    assert wrong.detail.startswith("in.csv:3: the byte 0xd8 isn't")
    odd = "a,b\n1,2\n".encode("utf-16") + b"x"
    assert fault(tmp_path, odd, encoding="utf-16").detail.startswith("in.csv:")


def test_a_record_beyond_the_limit_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    with path.open("wb") as out:
        out.write(b"a,b\n1,")
        for _ in range(100):
            out.write(b"x" * 1_000_000)
    tracemalloc.start()
    with pytest.raises(
        PermanentError, match=r"long.csv: the record that begins at byte 4 "
    ) as caught:
        read("csv", path, head=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "record_too_large"
    assert peak < 400_000_000


def test_a_record_near_the_limit_is_read(tmp_path: Path) -> None:
    text = "a,b\n1," + "x" * 5_000_000 + "\n2,y\n"
    found = read("csv", file(tmp_path, text), target=1000)
    assert [len(b) for b in found["b"].to_pylist()] == [5_000_000, 1]
    assert fault(tmp_path, text, max_record_bytes=1 << 20).code == "record_too_large"


def test_a_stray_quote_in_a_long_file_is_told_rather_than_the_limit(tmp_path: Path) -> None:
    text = "a,b\n" + "1,x\n" * 10 + '1,5" pipe\n' + "1,x\n" * 400_000
    wrong = fault(tmp_path, text, max_record_bytes=1 << 20, target=1 << 18)
    assert wrong.detail.startswith("in.csv:12: a stray quote"), wrong.detail


@pytest.mark.parametrize(
    ("tail", "kind", "value"),
    [
        ("2.5", pa.float64(), 2.5),
        ("x", pa.string(), "x"),
        ("", pa.int64(), None),
        ("007", pa.string(), "007"),
        ("9223372036854775808", pa.string(), "9223372036854775808"),
        ("true", pa.string(), "true"),
    ],
)
def test_a_late_value_of_another_type_is_neither_lost_nor_wrong(
    tmp_path: Path, tail: str, kind: pa.DataType, value: object
) -> None:
    text = "n,t\n" + "1,a\n" * 5000 + f"{tail},b\n"
    found = read("csv", file(tmp_path, text), head=100, target=1000)
    assert found["n"].type == kind
    assert found["n"].to_pylist()[-1] == value
    assert found["n"].to_pylist()[0] == (1 if kind != pa.string() else "1")


def test_zeros_in_front_make_a_column_text(tmp_path: Path) -> None:
    assert rows(tmp_path, "zip,n\n01234,1\n99999,2\n")[0] == {"zip": "01234", "n": 1}


def test_big_integers_beside_fractions_keep_their_digits(tmp_path: Path) -> None:
    text = "a\n9007199254740993\n0.5\n"
    for target in (1, 1000):
        found = rows(tmp_path, text, head=5, target=target)
        assert found == [{"a": "9007199254740993"}, {"a": "0.5"}]


cell = st.sampled_from(
    ["", "1", "-3", "0.5", "007", "true", "2020-01-01", "a", '"', "\n", ",", "é"]
)
record = st.lists(
    cell | st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=4),
    min_size=3,
    max_size=3,
)
csv_rows = st.lists(record, max_size=12)


def written(rows: list[list[str]], delimiter: str, quoting: int, end: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.fuzz
@RELAXED
@given(
    csv_rows,
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_any_head_and_any_split_give_the_table_of_the_whole_file(
    tmp_path: Path, records: list[list[str]], delimiter: str, end: str, target: int, head: int
) -> None:
    path = file(tmp_path, written(records, delimiter, csv.QUOTE_MINIMAL, end))
    whole = read("csv", path, delimiter=delimiter)
    assert read("csv", path, delimiter=delimiter, target=target, head=head).equals(whole)
    assert whole.num_rows == len(records)


@pytest.mark.fuzz
@RELAXED
@given(csv_rows, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]))
def test_keys_don_t_depend_on_delimiter_line_ends_or_quoting(
    tmp_path: Path, records: list[list[str]], delimiter: str, end: str
) -> None:
    filled = [[c or "-" for c in record] for record in records]
    plain = read("csv", file(tmp_path, written(filled, ",", csv.QUOTE_MINIMAL, "\n")))
    other = written(filled, delimiter, csv.QUOTE_ALL, end)
    again = read("csv", file(tmp_path, other), delimiter=delimiter)
    assert keys(plain) == keys(again)
    assert user(plain).equals(user(again))
    assert len(set(keys(plain))) == len({tuple(record) for record in filled})


@pytest.mark.fuzz
@RELAXED
@given(csv_rows)
def test_cells_are_what_python_s_csv_module_reads(tmp_path: Path, records: list[list[str]]) -> None:
    text = written(records, ",", csv.QUOTE_ALL, "\n")
    found = read("csv", file(tmp_path, text))
    for i, name in enumerate("abc"):
        if found[name].type == pa.string():
            assert found[name].to_pylist() == [record[i] for record in records]


def test_a_file_without_line_feeds_is_read_in_blocks(tmp_path: Path) -> None:
    text = "a,b\r" + "".join(f"{i},x\r" for i in range(300_000))
    found = read("csv", file(tmp_path, text), target=1 << 20)
    assert found["a"].to_pylist() == list(range(300_000))


def test_planning_cuts_at_record_ends_only(tmp_path: Path) -> None:
    text = "a,b\n" + BODY * 20
    path = file(tmp_path, text)
    for target in (1, 100, 1000):
        for piece in splits(FORMATS.get("csv"), path, target)[1:]:
            assert text[: piece.start].count('"') % 2 == 0
            assert text[piece.start - 1] == "\n"


def test_only_what_needs_quotes_is_quoted(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a,b": ["x", "", None, 'say "hi"', "line\nbreak"],
            "n": [1.5, None, float("nan"), 2.0, 1e22],
        }
    )
    path = write("csv", tmp_path / "out.csv", table)
    assert path.read_text() == ('"a,b",n\nx,1.5\n"",\n,NaN\n"say ""hi""",2\n"line\nbreak",1e+22\n')
    assert str(user(read("csv", path)).to_pylist()) == str(table.to_pylist())


def test_the_rows_of_a_single_column_are_all_kept(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([1, None, 3])})
    path = write("csv", tmp_path / "out.csv", table)
    assert user(read("csv", path)).equals(table)


def test_other_delimiters_and_no_header_can_be_written(tmp_path: Path) -> None:
    table = pa.table({"a": ["x;y", "a,b"], "b": [1, 2]})
    path = write("csv", tmp_path / "out.csv", table, delimiter=";", header=False)
    assert path.read_text() == '"x;y";1\na,b;2\n'


def test_formulas_are_written_as_they_are_unless_asked_otherwise(tmp_path: Path) -> None:
    table = pa.table({"a": ["=cmd()", "-5", "x", None, "@a,b"], "n": [-5, 1, 2, 3, 4]})
    plain = write("csv", tmp_path / "plain.csv", table).read_text()
    assert plain == 'a,n\n=cmd(),-5\n-5,1\nx,2\n,3\n"@a,b",4\n'
    safe = write("csv", tmp_path / "safe.csv", table, escape_formulas=True).read_text()
    assert safe == "a,n\n'=cmd(),-5\n'-5,1\nx,2\n,3\n\"'@a,b\",4\n"


def test_values_that_csv_has_no_form_for_are_json_or_base64(tmp_path: Path) -> None:
    table = pa.table(
        {
            "l": [[1, None], None],
            "o": [{"x": "y"}, None],
            "b": [b"\x00\xff", None],
            "d": pa.array([Decimal("1.50"), None]),
        }
    )
    found = read("csv", write("csv", tmp_path / "out.csv", table)).to_pylist()[0]
    assert (found["l"], found["o"], found["b"], found["d"]) == (
        "[1,null]",
        '{"x":"y"}',
        "AP8=",
        1.5,
    )
