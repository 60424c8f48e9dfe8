"""A local folder gets versions whole, once, and only where it is ours."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest

from libs.common.errors import LeaseLost, PermanentError, TransientError
from services.sink import switch
from services.sink.destinations import DESTINATIONS
from services.sink.destinations.local import PLUGIN
from tests.delivery import Eye, deliver, numbered, order

READ = {"parquet": pq.read_table, "csv": pc.read_csv, "jsonl": pj.read_json}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def versions(folder: Path) -> set[int]:
    return set(pq.read_table(folder / "part-00000.parquet")["version"].to_pylist())


def refused(code: str, *args: object, **options: object) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        deliver(*args, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    return caught.value


def test_local_is_a_known_destination() -> None:
    assert DESTINATIONS.get("local") is PLUGIN
    with pytest.raises(PermanentError, match="did you mean 'local'"):
        DESTINATIONS.get("locall")


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_a_version_arrives_with_its_rows_and_a_manifest_that_is_true(
    format: str, tmp_path: Path
) -> None:
    target = tmp_path / "out" / "fruit"
    receipt = deliver(order(target.as_uri(), format=format), numbered(2500), tmp_path)
    told = json.loads((target / "_manifest.json").read_text())
    assert (receipt.rows, receipt.files, receipt.unchanged) == (2500, 1, False)
    assert receipt.manifest == (target / "_manifest.json").as_uri()
    assert (told["dataset"], told["version"], told["run"], told["rows"]) == (
        "default/fruit",
        1,
        "run-1",
        2500,
    )
    assert [c["name"] for c in told["schema"]] == ["n", "version"]
    [file] = told["files"]
    content = (target / file["path"]).read_bytes()
    assert file["path"] == f"part-00000.{format}"
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert (file["bytes"], file["rows"]) == (len(content), 2500)
    assert READ[format](target / file["path"])["n"].to_pylist() == list(range(2500))
    assert names(tmp_path / "out") == ["fruit"]


def test_system_columns_are_delivered_only_when_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, options={"systemColumns": True}), numbered(3), tmp_path)
    assert pq.read_schema(target / "part-00000.parquet").names == [
        "n", "version", "_row", "_hash", "_source",
    ]  # fmt: skip


def test_a_large_version_becomes_parts_of_the_size_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    what = order(target, format="csv", options={"partSize": "20KB"})
    receipt = deliver(what, numbered(20_000), tmp_path)
    parts = sorted(target.glob("part-*.csv"))
    assert receipt.files == len(parts) > 3
    assert all(20_000 <= part.stat().st_size < 40_000 for part in parts[:-1])
    read = pa.concat_tables([pc.read_csv(part) for part in parts])
    assert read["n"].to_pylist() == list(range(20_000))


@pytest.mark.parametrize("options", [{"partsize": 1}, {"partSize": "much"}, {"partSize": 5}])
def test_a_wrong_option_is_named_with_what_is_known(
    options: dict[str, object], tmp_path: Path
) -> None:
    error = refused(
        "invalid_options", order(tmp_path / "f", options=options), numbered(1), tmp_path
    )
    assert f"spec.destination.options.{next(iter(options))}" in str(error)
    assert names(tmp_path) == []


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    error = refused("unknown_format", order(tmp_path / "f", format="xls"), numbered(1), tmp_path)
    assert "parquet" in error.detail
    assert names(tmp_path) == []


def test_the_next_version_replaces_the_last_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 1, options={"partSize": 1024}), numbered(5000, 1), tmp_path)
    deliver(order(target, 2), numbered(10, 2), tmp_path)
    assert names(target) == ["_manifest.json", "part-00000.parquet"]
    assert versions(target) == {2}
    assert names(tmp_path) == ["fruit"]


def test_the_same_version_again_changes_nothing_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    first = deliver(order(target, run="run-1"), numbered(10), tmp_path)
    inode = target.stat().st_ino
    again = deliver(order(target, run="run-1", attempt=2), numbered(10), tmp_path)
    other = deliver(order(target, run="run-9"), numbered(10), tmp_path)
    assert again == first
    assert other.unchanged
    assert target.stat().st_ino == inode


@pytest.mark.parametrize("harm", ["cut", "gone", "touched"])
def test_a_damaged_delivery_is_made_good(harm: str, tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target), numbered(10), tmp_path)
    part = target / "part-00000.parquet"
    if harm == "cut":
        os.truncate(part, 20)
    elif harm == "gone":
        part.unlink()
    else:
        later = (target / "_manifest.json").stat().st_mtime_ns + 1
        part.write_bytes(bytes(part.stat().st_size))
        os.utime(part, ns=(later, later))
    receipt = deliver(order(target, run="run-9"), numbered(10), tmp_path)
    assert not receipt.unchanged
    assert versions(target) == {1}


def test_another_format_or_option_is_delivered_anew(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target), numbered(10), tmp_path)
    receipt = deliver(order(target, format="csv", run="run-9"), numbered(10), tmp_path)
    assert not receipt.unchanged
    assert names(target) == ["_manifest.json", "part-00000.csv"]


def test_an_older_version_never_replaces_a_newer_one(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 2), numbered(10, 2), tmp_path)
    eye = Eye(versions={(1, "run-1"), (2, "run-2")})
    assert deliver(order(target, 1), numbered(10, 1), tmp_path, eye).superseded
    assert versions(target) == {2}


def test_a_newer_version_that_arrives_while_an_older_is_written_stays(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    newer: list[object] = []

    def meanwhile() -> None:
        if not newer and eye.rows:
            newer.append(deliver(order(target, 2), numbered(10, 2), tmp_path))

    eye = Eye(versions={(2, "run-2")}, on_wrote=meanwhile)
    assert deliver(order(target, 1), numbered(10, 1), tmp_path, eye).superseded
    assert versions(target) == {2}
    assert names(tmp_path) == ["fruit"]


def test_a_dataset_that_began_again_at_v1_replaces_its_former_self(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 7), numbered(10, 7), tmp_path)
    receipt = deliver(order(target, 1), numbered(10, 1), tmp_path, Eye(versions={(1, "run-1")}))
    assert not receipt.superseded
    assert versions(target) == {1}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    error = refused("destination_not_ours", order(target), numbered(10), tmp_path)
    assert "empty folder" in error.detail
    assert names(target) == ["thesis.tex"]
    assert names(tmp_path) == ["thesis"]


def test_a_manifest_of_somebody_else_does_not_make_a_folder_ours(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "_manifest.json").write_text('{"dataset": "default/fruit"}')
    refused("destination_not_ours", order(target), numbered(10), tmp_path)
    (target / "_manifest.json").write_bytes(b"\xff\x00 not json")
    refused("destination_not_ours", order(target), numbered(10), tmp_path)


def test_another_datasets_delivery_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, dataset="default/other"), numbered(10), tmp_path)
    error = refused("destination_not_ours", order(target), numbered(10), tmp_path)
    assert "default/other" in error.detail


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "fruit").write_text("mine")
    refused("destination_not_ours", order(tmp_path / "fruit"), numbered(1), tmp_path)
    refused("destination_not_ours", order(tmp_path / "fruit" / "x"), numbered(1), tmp_path)
    assert (tmp_path / "fruit").read_text() == "mine"


def test_a_folder_inside_a_delivery_is_refused(tmp_path: Path) -> None:
    deliver(order(tmp_path / "fruit", dataset="default/other"), numbered(1), tmp_path)
    refused("destination_not_ours", order(tmp_path / "fruit" / "sub"), numbered(1), tmp_path)


def test_an_empty_folder_is_taken_and_its_mode_kept(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    target.mkdir(mode=0o750)
    deliver(order(target), numbered(10), tmp_path)
    assert target.stat().st_mode & 0o777 == 0o750


def test_others_files_in_our_folder_are_taken_along(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 1), numbered(10, 1), tmp_path)
    (target / "README.txt").write_text("for my colleagues")
    (target / "notes").mkdir()
    (target / "notes" / "a.txt").write_text("a")
    deliver(order(target, 2), numbered(10, 2), tmp_path)
    assert names(target) == ["README.txt", "_manifest.json", "notes", "part-00000.parquet"]
    assert (target / "notes" / "a.txt").read_text() == "a"
    assert names(tmp_path) == ["fruit"]


def test_anothers_file_with_a_name_that_we_need_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 1, format="csv"), numbered(10, 1), tmp_path)
    (target / "part-00000.parquet").write_text("mine")
    error = refused("destination_not_ours", order(target, 2), numbered(10, 2), tmp_path)
    assert "part-00000.parquet is in the way" in error.detail
    assert (target / "part-00000.parquet").read_text() == "mine"
    assert names(tmp_path) == ["fruit"]


def test_a_manifest_cannot_make_us_remove_files_elsewhere(tmp_path: Path) -> None:
    target, victim = tmp_path / "fruit", tmp_path / "victim"
    victim.write_text("mine")
    deliver(order(target, 1), numbered(10, 1), tmp_path)
    path = target / "_manifest.json"
    path.write_text(path.read_text().replace("part-00000.parquet", "../victim"))
    refused("destination_not_ours", order(target, 2), numbered(10, 2), tmp_path)
    assert victim.read_text() == "mine"


def test_what_dead_attempts_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, neighbour = tmp_path / "fruit", tmp_path / "other"

    def dies(staging: Path, target: Path) -> None:
        raise KeyboardInterrupt

    for place in (target, neighbour):
        deliver(order(place, 1), numbered(10, 1), tmp_path)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(switch, "put_in_place", dies)
            deliver(order(place, 2), numbered(10, 2), tmp_path)
    assert len(names(tmp_path)) == 4
    deliver(order(target, 2, attempt=2), numbered(10, 2), tmp_path)
    assert len(names(tmp_path)) == 3
    assert versions(target) == {2}
    assert versions(neighbour) == {1}


def test_an_attempt_that_lost_its_lease_switches_nothing_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 1), numbered(10, 1), tmp_path)

    def lost() -> None:
        raise LeaseLost("run-2")

    with pytest.raises(LeaseLost):
        deliver(order(target, 2), numbered(10, 2), tmp_path, Eye(on_fence=lost))
    assert versions(target) == {1}
    assert names(tmp_path) == ["fruit"]


def test_rows_that_the_warehouse_did_not_give_are_noticed(tmp_path: Path) -> None:
    short = numbered(10)
    short.rows = 11
    with pytest.raises(TransientError, match="10 of 11 rows"):
        deliver(order(tmp_path / "fruit"), short, tmp_path)
    assert names(tmp_path) == []


def test_without_folder_exchange_a_symlink_is_switched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch, "_exchange_call", lambda: None)
    target = tmp_path / "fruit"
    for version in (1, 2, 3):
        deliver(order(target, version), numbered(10, version), tmp_path)
        assert target.is_symlink()
        assert versions(target) == {version}
        assert len(names(tmp_path)) == 2  # the link and what it points to
    again = deliver(order(target, 3, run="run-9"), numbered(10, 3), tmp_path)
    assert again.unchanged


def test_a_folder_moved_to_a_file_system_without_exchange_goes_on_as_a_symlink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 1), numbered(10, 1), tmp_path)
    (target / "README.txt").write_text("mine")
    monkeypatch.setattr(switch, "_exchange_call", lambda: None)
    deliver(order(target, 2), numbered(10, 2), tmp_path)
    assert target.is_symlink()
    assert names(target) == ["README.txt", "_manifest.json", "part-00000.parquet"]
    assert versions(target) == {2}
    assert len(names(tmp_path)) == 2


def test_a_destination_locked_by_a_stopped_process_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch, "LOCK_SECONDS", 0.05)
    with switch.alone(tmp_path), pytest.raises(TransientError) as caught:
        deliver(order(tmp_path / "fruit"), numbered(1), tmp_path)
    assert caught.value.code == "destination_busy"
    assert names(tmp_path) == []
