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
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local.demo"],
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert re.search(r"default/weather v1: \d+ rows", said)
    assert re.search(r"default/cars v1: \d+ rows", said)
    assert re.search(r"the API +http://127\.0\.0\.1:\d+/docs", said)
    for path in re.findall(r"delivered +(\S+)", said):
        assert Path(path).is_file(), path
    assert _processes_with(str(tmp_path)) == []


def _processes_with(text: str) -> list[str]:
    """Processes of the demonstration's stack, by the data folder in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if text in process.environ().get("ONEBLOCK_HOME", ""):
                found.append(str(process))
        except psutil.Error:
            continue
    return found
