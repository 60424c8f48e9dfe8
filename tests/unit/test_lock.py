"""requirements.lock: holds what the projects ask for, pinned by hash, and names no place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
LOCK = (REPOSITORY / "requirements.lock").read_text()
PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)", re.M)


def wanted() -> list[str]:
    """Every requirement of both projects, extras included."""
    found: list[str] = []
    for file in (REPOSITORY / "pyproject.toml", REPOSITORY / "libs" / "sdk" / "pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        found += project["dependencies"]
        for extra in project["optional-dependencies"].values():
            found += extra
    return sorted(set(found))


@pytest.mark.parametrize("text", wanted())
def test_what_is_asked_for_is_locked_in_a_version_that_fits(text: str) -> None:
    asked = Requirement(text)
    if asked.name in ("oneblock", "oneblock-data"):
        return  # ourselves
    locked = {(canonicalize_name(name), Version(version)) for name, version in PINNED.findall(LOCK)}
    fitting = [
        v for name, v in locked if name == canonicalize_name(asked.name) and v in asked.specifier
    ]
    assert fitting, f"{text} is not in requirements.lock; run `make lock`"


def test_the_lock_names_no_place_to_fetch_from() -> None:
    assert "://" not in LOCK


def test_everything_in_the_lock_has_hashes() -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.M)[1:]
    assert entries
    assert [e.splitlines()[0] for e in entries if "--hash=sha256:" not in e] == []
