"""A folder as a registry: keys are file names, plug-ins are imported when asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from libs.common.errors import PermanentError
from libs.common.registry import Registry

FILES = {
    "__init__.py": "",
    "csv.py": "PLUGIN = 'comma'",
    "parquet.py": "PLUGIN = object()",
    "_shared.py": "raise RuntimeError('not a plug-in')",
    "broken.py": "raise ImportError('its driver is not installed')",
    "empty.py": "",
    "notes.txt": "no module",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of plug-ins on the path, under a name of its own."""
    name = f"plugins_{uuid4().hex}"
    (tmp_path / name).mkdir()
    for file, text in FILES.items():
        (tmp_path / name / file).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.fixture
def registry(package: str, tmp_path: Path) -> Registry[object]:
    return Registry(package, lambda: [str(tmp_path / package)], noun="format")


def test_keys_are_the_files_names(registry: Registry[object]) -> None:
    assert registry.keys() == ["broken", "csv", "empty", "parquet"]


def test_naming_the_keys_imports_nothing(registry: Registry[object], package: str) -> None:
    assert registry.keys()
    assert not [module for module in sys.modules if module.startswith(package)]


def test_only_what_is_asked_for_is_imported(registry: Registry[object], package: str) -> None:
    assert registry.get("csv") == "comma"
    assert f"{package}.parquet" not in sys.modules


def test_a_plug_in_is_made_once(registry: Registry[object]) -> None:
    assert registry.get("parquet") is registry.get("parquet")


@pytest.mark.parametrize(
    "key", ["cvs", "CSV", "", "_shared", "__init__", "notes", "csv.x", "../csv"]
)
def test_an_unknown_key_is_answered_with_all_known(registry: Registry[object], key: str) -> None:
    with pytest.raises(PermanentError) as caught:
        registry.get(key)
    assert caught.value.code == "unknown_format"
    assert caught.value.detail.endswith("known: broken, csv, empty, parquet")


def test_the_nearest_name_is_offered(registry: Registry[object]) -> None:
    with pytest.raises(PermanentError, match=r"unknown format 'cvs' \(did you mean 'csv'\?\)"):
        registry.get("cvs")


def test_a_plug_in_that_cannot_be_imported_says_why(registry: Registry[object]) -> None:
    with pytest.raises(ImportError, match="its driver is not installed"):
        registry.get("broken")


def test_a_file_without_a_plug_in_is_a_bug(registry: Registry[object]) -> None:
    with pytest.raises(AttributeError, match="PLUGIN"):
        registry.get("empty")
