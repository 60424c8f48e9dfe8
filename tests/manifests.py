"""Manifests for tests: a whole one, changed at some paths, and what is wrong with it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from libs.common.errors import Problem
from libs.common.manifest import ManifestError, parse

WHOLE: dict[str, Any] = {
    "apiVersion": "core.oneblock.ai/v1alpha1",
    "kind": "DataSet",
    "metadata": {"name": "cars", "namespace": "default"},
    "spec": {
        "source": {"type": "csv", "url": "upload://4f0c/cars.csv"},
        "destination": {"type": "local", "format": "parquet", "url": "file:///data/out"},
    },
}
GONE = object()


def manifest(**changes: object) -> dict[str, Any]:
    """WHOLE with values set at paths (`spec__source__type`); GONE removes one."""
    changed = copy.deepcopy(WHOLE)
    for path, value in changes.items():
        *outer, last = path.split("__")
        place = changed
        for name in outer:
            place = place.setdefault(name, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return changed


def problems(given: str | bytes | dict[str, Any]) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as caught:
        parse(given)
    return caught.value.problems


def only(given: str | bytes | dict[str, Any]) -> Problem:
    found = problems(given)
    assert len(found) == 1, [f"{one.code} {one}" for one in found]
    return found[0]
