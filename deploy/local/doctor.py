"""Looks at the machine and the stack, and says what to do about what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil
from oneblock.errors import OneBlockError
from oneblock.home import read_state

from deploy.local import parts, ports

GB = 1e9
PACKAGES = ("oneblock", "oneblock-data", "ray", "pylance", "pyarrow", "nats-py", "faststream")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    outcome: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def examine(home: Path, port: int | None) -> list[Check]:
    """Every check; none of them changes anything."""
    running = read_state(home)["state"] != "down"
    looks: list[Callable[[], Check]] = [_python, _packages, _broker, _memory, lambda: _disk(home)]
    looks += [lambda: _stack(home)] if running else [lambda: _ports(port), lambda: _stack(home)]
    return [look() for look in looks]


def _python() -> Check:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    good = sys.version_info >= (3, 11)
    return Check("python", "ok" if good else "fail", found, "" if good else "use 3.11 or newer")


def _packages() -> Check:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}", "run `make setup`")
    return Check("packages", "ok", ", ".join(found))


def _broker() -> Check:
    try:
        command = (parts.nats_server(), "--version")
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return Check("nats-server", "ok", told.stdout.strip())
    except OneBlockError as error:
        return Check("nats-server", "fail", error.detail, error.hint)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("nats-server", "fail", str(error), "run `make setup` on this machine again")


def _memory() -> Check:
    memory = psutil.virtual_memory()
    found = f"{memory.available / GB:.1f} GB free of {memory.total / GB:.1f} GB"
    if memory.available < 0.7 * GB:
        return Check("memory", "fail", found, "close something; the stack needs about 0.7 GB")
    if memory.available < 2 * GB:
        return Check("memory", "warn", found, "Ray needs about 1 GB more: `oneblock up --no-ray`")
    return Check("memory", "ok", found)


def _disk(home: Path) -> Check:
    folder = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.1f} GB free at {folder}"
    if free < 0.5 * GB:
        return Check("disk", "fail", found, "free some space, or use another folder with --home")
    if free < 5 * GB:
        return Check("disk", "warn", found, "versions are kept; free some space before long")
    return Check("disk", "ok", found)


def _ports(port: int | None) -> Check:
    try:
        found = ports.choose(port, [*parts.SERVICES, "nats", "ray"])
    except ports.PortsInUse as error:
        return Check("ports", "fail", error.detail, error.hint)
    return Check("ports", "ok", ", ".join(f"{n} {p}" for n, p in found.items()) + " are free")


def _stack(home: Path) -> Check:
    state = read_state(home)
    if state["state"] == "down":
        return Check("stack", "ok", f"down ({home})", "start it with `oneblock up`")
    ill = {
        name: s.get("detail") or s.get("state")
        for name, s in state["services"].items()
        if s.get("state") != "ready"
    }
    told = "; ".join(f"{name}: {why}" for name, why in ill.items())
    if state["state"] == "degraded":
        return Check("stack", "fail", told or "degraded", f"see the logs in {home / 'logs'}")
    return Check("stack", "ok", f"{state['state']} ({home})" + (f": {told}" if told else ""))
