"""The stack as people run it: up, a file becomes rows, down, and again."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.e2e.stack import EmbeddedStack, embedded_stack
from tests.formats import read, write

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.slow]

ROWS = [{"id": str(i), "name": f"name {i}", "price": str(i * 1.5)} for i in range(500)]
MANIFEST = """\
apiVersion: core.oneblock.ai/v1alpha1
kind: DataSet
metadata: {{name: {name}}}
spec:
  source: {{type: csv, url: ./things.csv, key: [id]}}
  transform:
    - filter: "price >= 30"
  destination: {{type: local, format: csv, url: ./out-{name}}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    with embedded_stack(tmp_path_factory.mktemp("stack") / "home") as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "things.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    return tmp_path


def manifest(folder: Path, name: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(MANIFEST.format(name=name))
    return path


def expected() -> list[dict[str, str]]:
    return [row for row in ROWS if float(row["price"]) >= 30]


QUARANTINE = """\
apiVersion: core.oneblock.ai/v1alpha1
kind: DataSet
metadata: {name: bad-records}
spec:
  source: {type: tfrecords, url: ./things.tfrecord}
  onError: quarantine
  destination: {type: local, format: tfrecords, url: ./out}
"""


def test_a_bad_record_is_in_quarantine_and_the_good_ones_are_the_version(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    table = pa.table({"id": range(1000), "name": [f"name {i}" for i in range(1000)]})
    path = write("tfrecords", tmp_path / "things.tfrecord", table)
    path.write_bytes(path.read_bytes().replace(b"name 500", b"nama 500"))
    (tmp_path / "bad.yaml").write_text(QUARANTINE)
    done = stack.cli("apply", "-f", "bad.yaml", "--wait", "-o", "json", cwd=tmp_path)
    assert json.loads(done.stdout)["state"] == "succeeded"
    told = json.loads(stack.cli("rows", "bad-records", "--limit", "1", "-o", "json").stdout)
    assert told["num_rows_total"] == 999
    listed = stack.cli("quarantine", "list", "bad-records", "-o", "json").stdout
    (item,) = json.loads(listed)["items"]
    assert (item["path"], item["code"]) == ("things.tfrecord", "checksum_mismatch")
    assert "things.tfrecord" in stack.cli("quarantine", "list", "bad-records").stdout
    with stack.client() as client:
        assert b"nama 500" in client.quarantined_bytes("bad-records", 0)
    (delivered,) = (tmp_path / "out").rglob("*.tfrecord")
    ids = [i for i in range(1000) if i != 500]
    assert read("tfrecords", delivered)["id"].to_pylist() == ids


def test_a_csv_becomes_rows_and_files_with_every_value_right(
    stack: EmbeddedStack, folder: Path
) -> None:
    manifest(folder, "values")
    done = stack.cli("apply", "-f", "values.yaml", "--wait", "-o", "json", cwd=folder)
    assert json.loads(done.stdout)["state"] == "succeeded"
    text = stack.cli("rows", "values", "--limit", "1000", "-o", "csv").stdout
    rows = sorted(csv.DictReader(io.StringIO(text)), key=lambda row: int(row["id"]))
    assert [{**row, "price": float(row["price"])} for row in rows] == [
        {**row, "price": float(row["price"])} for row in expected()
    ]
    delivered = list((folder / "out-values").rglob("*.csv"))
    read = [row for p in delivered for row in csv.DictReader(io.StringIO(p.read_text()))]
    assert {row["id"] for row in read} == {row["id"] for row in expected()}


def test_the_same_again_changes_nothing(stack: EmbeddedStack, folder: Path) -> None:
    manifest(folder, "again")
    with stack.client() as client:
        first = client.apply(folder / "again.yaml", wait=True, timeout=60)
        second = client.apply(folder / "again.yaml", wait=True, timeout=60)
        versions = client.versions("again")
    assert (first.state, first.version) == ("succeeded", 1)
    assert (second.state, second.version) == ("skipped", 1)
    assert [v.number for v in versions] == [1]


def test_what_is_wrong_with_a_file_is_told_with_its_line(
    stack: EmbeddedStack, folder: Path
) -> None:
    manifest(folder, "broken")
    (folder / "things.csv").write_text("id,name,price\n1,a,40\n2,b\n")
    done = stack.cli("apply", "-f", "broken.yaml", "--wait", cwd=folder, check=False)
    assert done.returncode == 1
    assert "things" in done.stderr
    assert "3" in done.stderr
    assert "oneblock logs run-" in done.stderr


def test_what_the_stack_knows_is_listed(stack: EmbeddedStack, folder: Path) -> None:
    manifest(folder, "listed")
    run = json.loads(
        stack.cli("apply", "-f", "listed.yaml", "--wait", "-o", "json", cwd=folder).stdout
    )["id"]
    assert "default/listed" in stack.cli("get", "datasets").stdout
    assert "v1" in stack.cli("get", "versions", "listed").stdout
    assert run in stack.cli("get", "runs", "listed").stdout
    assert json.loads(stack.cli("describe", run, "-o", "json").stdout)["state"] == "succeeded"
    stages = {json.loads(line)["stage"] for line in _lines(stack, "logs", run, "-o", "json")}
    assert {"transform", "sink"} <= stages
    assert "default/listed" in stack.cli("describe", "listed").stdout


def test_a_service_that_is_killed_comes_back_and_it_is_said(stack: EmbeddedStack) -> None:
    killed = stack.kill("sink")
    stack.wait_for(lambda: stack.pid("sink") not in (0, killed), "another process")
    stack.wait_ready("sink", other_than=killed)
    assert "sink ended (killed by SIGKILL); starting it again" in stack.said.read_text()
    stack.wait_for(lambda: stack.state["state"] == "ready", "ready again")


def test_doctor_finds_nothing_wrong(stack: EmbeddedStack) -> None:
    checks = json.loads(stack.cli("doctor", "-o", "json").stdout)["items"]
    assert {check["name"] for check in checks} >= {"python", "memory", "disk", "stack"}
    assert all(check["outcome"] != "fail" for check in checks)


def test_a_second_stack_in_the_same_folder_is_refused(stack: EmbeddedStack) -> None:
    done = stack.cli("up", "--port", "0", "--no-ray", check=False)
    assert done.returncode == 1
    assert "a stack already runs in" in done.stderr
    assert "oneblock down" in done.stderr


def test_what_was_there_is_there_after_everything_was_killed(tmp_path: Path, folder: Path) -> None:
    manifest(folder, "kept")
    with embedded_stack(tmp_path / "home") as stack:
        stack.cli("apply", "-f", "kept.yaml", "--wait", cwd=folder)
        before = json.loads(stack.cli("rows", "kept", "-o", "json").stdout)
        stack.kill_everything()
        assert stack.state["state"] == "down"
        stack.start("accepting")
        assert json.loads(stack.cli("rows", "kept", "-o", "json").stdout) == before
        again = stack.cli("apply", "-f", "kept.yaml", "--wait", cwd=folder)
        assert "up to date" in again.stdout


def test_killing_the_supervisor_alone_leaves_no_process(tmp_path: Path) -> None:
    with embedded_stack(tmp_path / "home", until="accepting") as stack:
        assert stack._up is not None
        stack._up.send_signal(signal.SIGKILL)
        stack._up.wait()
        stack._up = None
        assert stack.leftovers() == []


def test_up_detached_returns_when_requests_are_accepted_and_down_ends_it(
    tmp_path: Path, folder: Path
) -> None:
    manifest(folder, "quick")
    stack = EmbeddedStack(tmp_path / "home", ray=False, env={})
    begun = time.monotonic()
    state = json.loads(stack.cli("up", "--detach", "--port", "0", "--no-ray", "-o", "json").stdout)
    try:
        assert state["endpoints"]["ingest"]
        stack.cli("apply", "-f", "quick.yaml", "--wait", cwd=folder)
        assert time.monotonic() - begun < 120
    finally:
        done = stack.cli("down", check=False)
    assert done.returncode == 0, done.stderr + (stack.home / "logs" / "stack.log").read_text()
    assert stack.state["state"] == "down"
    assert "no stack runs" in stack.cli("down").stdout


def _lines(stack: EmbeddedStack, *arguments: str) -> list[str]:
    return [line for line in stack.cli(*arguments).stdout.splitlines() if line]
