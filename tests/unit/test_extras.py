"""Each service's extra alone is enough to import all of that service.

Instead of an environment per extra, one process per extra that finds only what the extra brings:
the distributions that it needs, by their installed metadata, and what those need in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVICES = ("ingest", "transform", "sink", "catalog")

CHILD = """
import importlib, pkgutil, re, sys, sysconfig
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions

site = sysconfig.get_path("purelib") + "/"
allowed = set(sys.argv[2].split(","))
homes = packages_distributions()

class OnlyTheExtra:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        brought_by = {re.sub("[-_.]+", "-", home).lower() for home in homes.get(top, ())}
        if not brought_by or brought_by & allowed or top in ("libs", "services", "deploy"):
            return None
        found = PathFinder.find_spec(name, path)  # some carry a copy: ray its psutil
        if found and found.origin and re.split("[/.]", found.origin.removeprefix(site))[0] != top:
            return found
        raise ModuleNotFoundError(f"{top} is no part of this extra", name=name)

sys.meta_path.insert(0, OnlyTheExtra())
for name in sys.argv[1].split(","):
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
        if not found.name.endswith(("__main__", ".migrations.env")):  # these run when imported
            importlib.import_module(found.name)
"""


def closure(extra: str) -> set[str]:
    """Names of the distributions that the extra brings, itself through all it needs."""
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(extra, ())]
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in declared]
    while waiting:
        needed = waiting.pop()
        name = canonicalize_name(needed.name)
        for wanted in {"", *needed.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                waiting += needs(name, wanted)
    return {name for name, _ in found}


def needs(name: str, extra: str) -> list[Requirement]:
    """What one distribution needs here, or needs more for one of its extras."""
    try:
        declared = [Requirement(text) for text in distribution(name).requires or ()]
    except PackageNotFoundError:  # declared, but for another system
        return []
    return [r for r in declared if r.marker is None or r.marker.evaluate({"extra": extra})]


def import_under(extra: str, *modules: str) -> subprocess.CompletedProcess[str]:
    """Imports these modules, and all below them, where only the extra's distributions are."""
    words = [sys.executable, "-c", CHILD, ",".join(modules), ",".join(sorted(closure(extra)))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_extra_is_enough_to_import_all_of_it(service: str) -> None:
    done = import_under(service, f"services.{service}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("extra", "foreign"),
    [
        ("ingest", "ray"),
        ("ingest", "lance"),
        ("transform", "sqlmodel"),
        ("sink", "ray"),
        ("sink", "fastapi"),
        ("catalog", "ray"),
        ("none", "pyarrow"),
    ],
)
def test_what_an_extra_does_not_bring_is_not_found(extra: str, foreign: str) -> None:
    done = import_under(extra, foreign)
    assert done.returncode != 0
    assert f"{foreign} is no part of this extra" in done.stderr


def test_the_closure_follows_extras_of_extras() -> None:
    assert {"faststream", "nats-py", "orjson"} <= closure("none")
    assert {"ray", "grpcio", "pandas"} <= closure("transform")
    assert "ray" not in closure("sink") | closure("catalog") | closure("ingest")
