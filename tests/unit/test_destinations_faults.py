"""Full disks, read-only places and death in the middle: told, survived, and nothing half there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.csv as pc
import pytest

from tests.delivery import deliver, numbered, order

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]
CHILD = """
import sys
from pathlib import Path
from libs.common.errors import OneBlockError
from tests.delivery import deliver, numbered, order

root, version, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
try:
    what = order(root / "fruit", version, attempt=int(sys.argv[4]), format="csv")
    deliver(what, numbered(rows, version), root)
except OneBlockError as error:
    print(type(error).__name__, error.code, error.detail)
    print("left:", sorted(p.name for p in root.iterdir()))
"""


def run(*before: object, arguments: tuple[object, ...] = (), **environment: str) -> Done:
    """CHILD in a process of its own, after the words of another command, if any."""
    words = [*before, sys.executable, "-c", CHILD, *arguments]
    return subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def standing(folder: Path) -> set[int]:
    """The versions that a reader sees."""
    return set(pc.read_csv(folder / "part-00000.csv")["version"].to_pylist())


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """Runs a command where it may mount: `[*namespace, script]`."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    probe = subprocess.run([*command, "mount -t tmpfs t /mnt"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("this system gives no namespace to mount in")
    return command


def test_a_full_disk_is_told_frees_its_space_and_keeps_the_old_version(
    namespace: list[str], tmp_path: Path
) -> None:
    script = """
        root=$1; shift
        mount -t tmpfs -o size=1m t "$root"
        "$@" "$root" 1 100 1
        "$@" "$root" 2 300000 1
        ls "$root/fruit"
        head -2 "$root/fruit/part-00000.csv"
    """
    done = run(*namespace, script, "sh", tmp_path)
    assert "TransientError storage_full" in done.stdout, done.stderr
    assert "left: ['fruit']" in done.stdout
    assert "_manifest.json\npart-00000.csv\n" in done.stdout
    assert done.stdout.endswith("\n0,1\n")  # version 1's first row


def test_a_read_only_place_is_told_with_what_to_do(namespace: list[str], tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o ro t "$1"; root=$1; shift; "$@" "$root" 1 100 1'
    done = run(*namespace, script, "sh", tmp_path)
    assert "PermanentError destination_forbidden" in done.stdout, done.stderr
    assert "let the sink's user write in" in done.stdout


@pytest.mark.parametrize(
    ("point", "stands"), [("sink_before_switch", {1}), ("sink_after_switch", {2})]
)
def test_a_process_killed_around_the_switch_leaves_one_version_and_the_next_cleans_up(
    point: str, stands: set[int], tmp_path: Path
) -> None:
    target = tmp_path / "fruit"
    deliver(order(target, 1, format="csv"), numbered(50, 1), tmp_path)
    (target / "README.txt").write_text("mine")
    died = run(arguments=(tmp_path, 2, 50, 1), CRASHPOINT=point)
    assert died.returncode == -signal.SIGKILL
    assert standing(target) == stands
    assert len(list(tmp_path.iterdir())) == 2
    again = deliver(order(target, 2, attempt=2, format="csv"), numbered(50, 2), tmp_path)
    assert not again.unchanged
    assert standing(target) == {2}
    assert sorted(p.name for p in target.iterdir()) == [
        "README.txt", "_manifest.json", "part-00000.csv",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["fruit"]
