"""`make demo`, the first thing that anybody sees."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow, pytest.mark.ray]


def test_the_demonstration_ends_well_shows_rows_and_leaves_nothing_running(
    tmp_path: Path,
) -> None:
    try:
        done = _demonstration(tmp_path)
        left = [str(process) for process in _processes_with(str(tmp_path))]
    finally:  # a demonstration that had to be killed leaves its stack, which is ours to end
        for process in _processes_with(str(tmp_path)):
            process.kill()
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert re.search(r"default/weather v1: \d+ rows", said)
    assert re.search(r"default/cars v1: \d+ rows", said)
    assert re.search(r"the API +http://127\.0\.0\.1:\d+/docs", said)
    for path in re.findall(r"delivered +(\S+)", said):
        assert Path(path).is_file(), path
    assert left == []


def _demonstration(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local.demo"],
        env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=280,
    )


def _processes_with(text: str) -> list[psutil.Process]:
    """Processes of the demonstration's stack, by the data folder in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if text in process.environ().get("ONEBLOCK_HOME", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found
