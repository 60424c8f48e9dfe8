"""`type: auto`: what tells the type of files, what refuses them, and how the answer travels."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import manifest
from libs.common.errors import PermanentError
from libs.common.manifest import plan_digest
from libs.formats import FORMATS
from libs.formats._detection import HEAD, SUFFIXES, by_content, by_name
from libs.stores import Access
from libs.warehouse import RunDirs
from services.ingest.detection import LOOKED_INTO
from services.ingest.inventory import prepare
from services.ingest.planning import plan
from services.transform.driver import execute
from services.transform.work import answer
from tests.archives import COMPRESS, tar_of, zip_of
from tests.formats import write
from tests.fuzz import relaxed
from tests.plans import ignore
from tests.reading import Reading

CSV = b"id,name\n1,a\n2,b\n"
JSONL = b'{"id": 1}\n{"id": 2}\n'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)
DOCS = Path(__file__).parents[2] / "docs" / "manifest.md"


def test_every_suffix_of_every_format_is_known() -> None:
    assert {key: FORMATS.get(key).suffixes for key in FORMATS.keys()} == SUFFIXES  # noqa: SIM118


def test_the_docs_name_every_ending() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for kind, suffixes in SUFFIXES.items():
        assert f"| `{kind}` | {' '.join(f'`{one}`' for one in suffixes)} |" in text


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.csv", "csv"),
        ("deep/A.B.PARQUET", "parquet"),
        ("x.csv/part-0", ""),
        ("csv", ""),
        ("a.", ""),
        ("a.csv.old", ""),
        ("", ""),
    ],
)
def test_a_name_tells_by_its_last_ending(path: str, kind: str) -> None:
    assert by_name(path) == kind


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (CSV, "csv"),
        (CSV.replace(b",", b";"), "csv"),
        (b"\xef\xbb\xbf" + CSV, "csv"),
        (CSV.decode().encode("utf-16"), "csv"),
        (b'a,b\n1,"x\ny"\n2,z\n', "csv"),
        (b"id,name\n" + b"1,\xc3\xa4\n" * 20_000, "csv"),
        (JSONL, "jsonl"),
        (b'{"a": "' + b"x" * 1000 + b'"}', "jsonl"),
        (b"<!DOCTYPE html><p>x", "text"),
        (b"%PDF-1.7\n", "text"),
        (PNG, "image"),
        (b"PAR1xxxx", "parquet"),
        (b'{\n  "a": 1\n}\n', ""),
        (b"[1, 2]\n", ""),
        (b"Dear all,\n\nas agreed, we meet,\n", ""),
        (b"2026-01-01 10:00,a\n2026-01-02 10:00,b\n2026-01-03 10:00,c\n", ""),
        (b"a,b\n1,2\n3\n", ""),
        (b"a,b\n1,2\n", ""),
        (b"a,a\n1,2\n3,4\n", ""),
        (b"\x7fELF" + bytes(9), ""),
        (bytes(100), ""),
        (b"\xff\xfe", ""),
        (b"{" * 100_000, ""),
        (b"", ""),
    ],
)
def test_content_tells_what_can_be_told(head: bytes, kind: str) -> None:
    assert by_content(head[:HEAD])[0] == kind


def test_records_are_known_by_the_checksum_of_their_length(tmp_path: Path) -> None:
    file = write("tfrecords", tmp_path / "a.tfrecord", pa.table({"a": [1, 2]}))
    whole = file.read_bytes()
    assert by_content(whole)[0] == "tfrecords"
    assert by_content(whole[:8] + bytes(4) + whole[12:])[0] == ""


@pytest.mark.fuzz
@relaxed(100)
@given(st.binary(max_size=300) | st.text(st.sampled_from('{}[]",;\n\ta1 <\ufeff'), max_size=60))
def test_any_beginning_is_a_type_or_none(head: bytes | str) -> None:
    kind, what = by_content(head.encode() if isinstance(head, str) else head)
    assert kind in ("", *SUFFIXES)
    assert what


class Place:
    """Files, and a warehouse for their inventory."""

    def __init__(self, home: Path) -> None:
        self.data, self.runs = home / "data", RunDirs((home / "wh").as_uri())
        self.data.mkdir()
        self.access = Access(
            roots=(self.data,), private=(home / "wh",), uploads=home / "wh" / "uploads"
        )

    def put(self, **files: bytes) -> None:
        for name, content in files.items():
            path = self.data / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def form(self, kind: str = "auto", **source: object) -> dict[str, object]:
        return {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": "x"},
            "spec": {"source": {"type": kind, "url": self.data.as_uri() + "/", **source}},
        }

    def found(self, run: str = "run", **source: object) -> str:
        """The type in the manifest that the run follows."""
        folder = self.runs.run_dir("default/x", run)
        summary = prepare(self.form(**source), self.access, self.runs, folder)  # type: ignore[arg-type]
        kind = manifest.parse(self.runs.read_manifest(folder)).spec.source.type
        assert summary.type == kind
        return kind

    def refused(self, **source: object) -> PermanentError:
        with pytest.raises(PermanentError) as caught:
            self.found(**source)
        assert caught.value.path == "spec.source.type"
        return caught.value

    def told(self, **source: object) -> tuple[str, list[str]]:
        """The type, and codes of problems, that a plan tells."""
        dataset = manifest.parse(self.form(**source))  # type: ignore[arg-type]
        made = plan(dataset, None, None, self.access, 1)
        return made.type, [one.code for one in made.problems]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_names_decide_and_nothing_is_read(place: Place) -> None:
    place.put(a_dot_csv=PNG, deep__b_dot_TSV=b"")
    assert (place.found(), place.told()) == ("csv", ("csv", []))


def test_names_that_say_nothing_are_looked_into(place: Place) -> None:
    place.put(a=JSONL, b_dot_json=JSONL, c_dot_jsonl=JSONL, empty=b"")
    assert (place.found(), place.told()) == ("jsonl", ("jsonl", []))


@pytest.mark.parametrize("how", COMPRESS)
def test_a_compressed_file_is_what_is_in_it(place: Place, how: str) -> None:
    (place.data / f"a.csv.{how}").write_bytes(COMPRESS[how](CSV))
    assert (place.found(), place.told()) == ("csv", ("csv", []))
    assert place.found("never", copy="never") == "csv"


@pytest.mark.parametrize(("pack", "name"), [(zip_of, "a.zip"), (tar_of, "a.tar")])
def test_members_of_archives_decide(
    place: Place, pack: Callable[[dict[str, bytes]], bytes], name: str
) -> None:
    (place.data / name).write_bytes(pack({"x.jsonl": JSONL, "y": JSONL}))
    assert place.found() == "jsonl"
    assert place.told() == ("", [])  # only the run opens them


def test_members_of_several_types_are_mixed(place: Place) -> None:
    place.put(a_dot_zip=zip_of({"x.jsonl": JSONL, "y.csv": CSV}))
    assert place.refused().code == "mixed_types"


def test_mixed_types_are_refused_with_two_files_and_what_to_do(place: Place) -> None:
    place.put(a_dot_csv=CSV, b_dot_jsonl=JSONL, c_dot_csv=CSV)
    error = place.refused()
    assert error.code == "mixed_types"
    for said in ("a.csv is csv", "b.jsonl is jsonl", "source.filter", "'*.csv'", "source.type"):
        assert said in error.detail
    assert place.told() == ("", ["mixed_types"])
    folder = place.runs.path(place.runs.run_dir("default/x", "run"))
    assert not (folder / "inventory.parquet").exists()
    assert place.found("filtered", filter="*.csv") == "csv"


def test_content_that_names_contradict_is_mixed(place: Place) -> None:
    place.put(a_dot_csv=CSV, b=PNG)
    assert place.refused().code == "mixed_types"


@pytest.mark.parametrize("content", [b"just some words\n", b"\x7fELF" + bytes(20), bytes(90)])
def test_what_cannot_be_told_is_refused_by_name(place: Place, content: bytes) -> None:
    place.put(a_dot_csv=CSV, notes=content)
    error = place.refused()
    assert error.code == "unknown_type"
    assert error.detail.startswith("notes: ")
    assert "beside a.csv, which is csv" in error.detail
    assert place.told() == ("", ["unknown_type"])


def test_files_of_nothing_alone_tell_nothing(place: Place) -> None:
    place.put(a=b"", b=b"")
    assert place.refused().code == "unknown_type"


def test_only_a_few_files_are_looked_into(place: Place) -> None:
    for number in range(LOOKED_INTO):
        place.put(**{f"a{number:02}": JSONL})
    place.put(z=PNG)
    assert place.found() == "jsonl"


def test_archives_that_stay_closed_are_not_seen_through(place: Place) -> None:
    (place.data / "a.csv.gz").write_bytes(COMPRESS["gz"](CSV))
    error = place.refused(options={"archives": False})
    assert "gzip file" in error.detail


def test_found_or_said_the_plan_is_the_same(place: Place) -> None:
    place.put(a_dot_csv=CSV)
    digests = set()
    for run, kind in (("one", "auto"), ("two", "csv")):
        folder = place.runs.run_dir("default/x", run)
        summary = prepare(place.form(kind), place.access, place.runs, folder)
        wanted = manifest.parse(place.runs.read_manifest(folder))
        digests.add((summary.digest, plan_digest(wanted)))
    assert len(digests) == 1


def test_the_first_to_list_decides_for_all_attempts(place: Place) -> None:
    place.put(a_dot_csv=CSV)
    assert place.found() == "csv"
    folder = place.runs.path(place.runs.run_dir("default/x", "run"))
    (folder / "manifest.json").unlink()  # as though the first attempt had crashed before it
    (place.data / "a.csv").rename(place.data / "a.jsonl")
    assert place.found() == "csv"


def test_the_log_says_what_was_found(place: Place) -> None:
    place.put(a_dot_csv=CSV)
    place.found()
    folder = place.runs.path(place.runs.run_dir("default/x", "run")) / "log"
    lines = [json.loads(x) for f in folder.rglob("*") for x in f.read_text().splitlines()]
    assert [line["type"] for line in lines if line["event"] == "source_resolved"] == ["csv"]


def here(lines: Sequence[str]) -> Generator[tuple[int, str]]:
    """A mapper without processes."""
    for at, line in enumerate(lines):
        yield at, answer(line)


def test_what_was_found_is_read_with_the_options_of_its_type(place: Place, tmp_path: Path) -> None:
    place.put(a_dot_csv=b"a;b\n1,5;x\n")
    source = {"type": "auto", "url": place.data.as_uri() + "/", "options": {"delimiter": ";"}}
    made = Reading(tmp_path, "fits").plan(source, place.access)
    assert (made.recipe.format, execute(made, here, ignore).rows) == ("csv", 1)


def test_options_of_another_type_are_refused_once_it_is_found(place: Place, tmp_path: Path) -> None:
    place.put(a_dot_jsonl=JSONL)
    source = {"type": "auto", "url": place.data.as_uri() + "/", "options": {"delimiter": ";"}}
    made = Reading(tmp_path, "wrong").plan(source, place.access)
    with pytest.raises(PermanentError, match="unknown option 'delimiter'") as caught:
        execute(made, here, ignore)
    assert (caught.value.code, caught.value.path) == ("invalid_option", "spec.source.options")
