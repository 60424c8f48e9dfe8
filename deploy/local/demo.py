"""`make demo`: real files become datasets, from nothing to rows, with the commands shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from oneblock.home import read_state

REPOSITORY = Path(__file__).parents[2]
ONEBLOCK = (sys.executable, "-P", "-m", "oneblock")


class Failed(Exception):
    """A command of the demonstration did not do what it should."""


def main() -> int:
    """Runs the demonstration; leaves the results, and nothing running."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="oneblock-demo-"))
    env = {**os.environ, "ONEBLOCK_HOME": str(folder / "home")}
    for stray in ("ONEBLOCK_CATALOG_URL", "ONEBLOCK_INGEST_URL", "ONEBLOCK_TOKENS_FILE"):
        env.pop(stray, None)
    try:
        _prepare(folder)
        _tell_story(env, folder)
    except (Failed, KeyboardInterrupt) as error:
        print(f"\nThe demonstration ended early: {error or 'interrupted'}", file=sys.stderr)
        return 1
    finally:
        _run(env, folder, "down", quiet=True)
    print(f"\nThat took {time.monotonic() - begun:.0f} s; nothing runs any more, the results stay.")
    print("`make up` starts a stack that stays; README.md says what to do with it.")
    return 0


def _tell_story(env: Mapping[str, str], folder: Path) -> None:
    _say(
        "OneBlock Data turns files into datasets: processed, versioned, readable, delivered.",
        f"This runs the whole stack for a minute: one broker, four services, Ray, in {folder}.",
    )
    _run(env, folder, "up", "--detach", "--port", "0")
    _say("A manifest says what a dataset is made from, how, and where it goes:")
    print(_indented((folder / "weather.yaml").read_text()))
    _run(env, folder, "apply", "-f", "weather.yaml", "--wait")
    _say("Its rows, from the catalog's API:")
    _run(env, folder, "rows", "weather", "--limit", "5")
    _say("The same with JSON lines, this time on Ray (which may still be starting):")
    _run(env, folder, "apply", "-f", "cars.yaml", "--wait")
    _run(env, folder, "rows", "cars", "--limit", "5")
    _say("Applying it again changes nothing, because nothing changed:")
    _run(env, folder, "apply", "-f", "cars.yaml", "--wait")
    _say("What there is now:")
    _run(env, folder, "get", "datasets")
    _where(folder)


def _where(folder: Path) -> None:
    endpoints = read_state(folder / "home").get("endpoints") or {}
    delivered = sorted(p for p in (folder / "out").rglob("*") if p.is_file())
    _say("Where everything is:")
    print(f"  the API     {endpoints.get('catalog')}/docs  (while the stack runs)")
    print(f"  versions    {folder / 'home' / 'warehouse'}")
    for path in delivered:
        print(f"  delivered   {path}")


def _prepare(folder: Path) -> None:
    """The manifests of examples/ and the data they name, from the wheel `vega-datasets`."""
    (folder / "data").mkdir(parents=True)
    for manifest in ("weather.yaml", "cars.yaml"):
        shutil.copy(REPOSITORY / "examples" / manifest, folder)
    data = files("vega_datasets") / "_data"
    weather = (data / "seattle-weather.csv").read_bytes()
    (folder / "data" / "seattle-weather.csv").write_bytes(weather)
    cars = json.loads((data / "cars.json").read_text())
    lines = "".join(json.dumps(car) + "\n" for car in cars)
    (folder / "data" / "cars.jsonl").write_text(lines)


def _run(env: Mapping[str, str], folder: Path, *arguments: str, quiet: bool = False) -> None:
    """Runs one command and shows it. Raises Failed."""
    if quiet:
        subprocess.run((*ONEBLOCK, *arguments), env=env, capture_output=True, check=False)
        return
    print(f"$ oneblock {' '.join(arguments)}", flush=True)
    done = subprocess.run((*ONEBLOCK, *arguments), env=env, cwd=folder, check=False)
    if done.returncode:
        raise Failed(f"`oneblock {' '.join(arguments)}` exited with {done.returncode}")


def _say(*lines: str) -> None:
    print()
    for line in lines:
        print(f"# {line}")
    print(flush=True)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
