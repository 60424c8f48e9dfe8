"""Whoever reads a destination while versions come sees one version, never two."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq

from tests.delivery import Eye, deliver, numbered, order

VERSIONS = 20
PARTS: dict[str, object] = {"partSize": 2048}


class Reader(threading.Thread):
    """Looks at the folder again and again, and keeps what it saw."""

    def __init__(self, look: Callable[[], set[int]]) -> None:
        super().__init__(daemon=True)
        self._look = look
        self.done = threading.Event()
        self.seen: list[set[int]] = []
        self.gone = 0
        self.wrong: list[BaseException] = []

    def run(self) -> None:
        while not self.done.is_set():
            try:
                self.seen.append(self._look())
            except FileNotFoundError:  # listed before a switch, opened after it: look again
                self.gone += 1
            except BaseException as error:
                self.wrong.append(error)
                return


def size_of(version: int) -> int:
    return 1000 + 97 * (version % 5)


def deliver_all(target: Path, look: Callable[[], set[int]], options: dict[str, object]) -> Reader:
    """Twenty versions of changing size; the first before anybody looks."""
    eye = Eye()
    reader = Reader(look)
    for version in range(1, VERSIONS + 1):
        rows = numbered(size_of(version), version)
        deliver(order(target, version, format="csv", options=options), rows, target.parent, eye)
        if version == 1:
            reader.start()
    reader.done.set()
    reader.join(30)
    return reader


def test_a_reader_of_all_parts_never_sees_two_versions(tmp_path: Path) -> None:
    target = tmp_path / "fruit"

    def look() -> set[int]:
        tables = [pc.read_csv(part) for part in sorted(target.glob("part-*.csv"))]
        assert len(tables) > 1
        found = {v for table in tables for v in table["version"].to_pylist()}
        rows = [n for table in tables for n in table["n"].to_pylist()]
        assert rows == list(range(len(rows)))
        assert all(len(rows) == size_of(version) for version in found)
        return found

    reader = deliver_all(target, look, PARTS)
    assert not reader.wrong
    assert all(len(versions) == 1 for versions in reader.seen)
    assert len({min(versions) for versions in reader.seen}) > 1


def test_a_reader_that_follows_the_manifest_finds_exactly_what_it_says(tmp_path: Path) -> None:
    target = tmp_path / "fruit"

    def look() -> set[int]:
        told = json.loads((target / "_manifest.json").read_text())
        found = {told["version"]}
        for file in told["files"]:
            content = (target / file["path"]).read_bytes()
            assert len(content) == file["bytes"]
        return found

    reader = deliver_all(target, look, PARTS)
    assert not reader.wrong
    assert len({min(versions) for versions in reader.seen}) > 1


def test_the_only_part_of_a_small_delivery_is_always_there_by_its_plain_name(
    tmp_path: Path,
) -> None:
    target = tmp_path / "fruit"
    reader = deliver_all(
        target, lambda: set(pc.read_csv(target / "part-00000.csv")["version"].to_pylist()), {}
    )
    assert (reader.wrong, reader.gone) == ([], 0)
    assert all(len(versions) == 1 for versions in reader.seen)


def test_a_file_that_a_reader_has_open_stays_readable_to_its_end(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 1), numbered(500, 1), tmp_path)
    with pq.ParquetFile(target / "part-00000.parquet") as opened:
        deliver(order(target, 2), numbered(10, 2), tmp_path)
        assert set(opened.read()["version"].to_pylist()) == {1}
