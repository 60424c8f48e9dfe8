"""Where a Ray head keeps its sockets."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from deploy.local.ray_head import LONGEST, session_folder


def test_a_session_folder_is_short_enough_for_sockets_however_long_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * LONGEST)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = session_folder(long / "home")
    try:
        assert len(str(folder)) <= LONGEST
    finally:
        folder.rmdir()
