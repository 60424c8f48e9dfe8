"""Bringing a stack up, in this process or beside it, and taking it down."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from oneblock.errors import OneBlockError
from oneblock.home import is_running, read_state

from deploy.local import parts, ports, process, supervisor
from deploy.local.home import Home, stack_id
from deploy.local.options import Options, default_roots

DETACH_PATIENCE = 90.0  # seconds until a stack must accept requests
DOWN_PATIENCE = 60.0  # seconds that a whole stack gets to stop


class StartFailed(OneBlockError):
    """The stack in the background did not come up."""

    code = "start_failed"


@dataclass(frozen=True)
class Wish:
    """How somebody wants their stack."""

    home: Path
    port: int | None = None  # None: the defaults; 0: any free ones; else the first of them
    ray: bool = True
    host: str = "127.0.0.1"
    roots: tuple[Path, ...] = ()

    def arguments(self) -> list[str]:
        """The same wish as arguments of `oneblock up`."""
        found = ["--home", str(self.home), "--host", self.host]
        found += [] if self.port is None else ["--port", str(self.port)]
        found += [] if self.ray else ["--no-ray"]
        return found + [part for root in self.roots for part in ("--root", str(root))]


def say(line: str) -> None:
    """One line with the time; nobody listening is no reason to stop."""
    with suppress(OSError):
        print(f"{datetime.now():%H:%M:%S}  {line}", flush=True)


def up(wish: Wish) -> None:
    """Runs the stack in this process until it is stopped. Raises HomeTaken, PortsInUse."""
    home = Home(wish.home)
    home.prepare()
    with home.held():
        if count := process.clear(str(_raw_state(home).get("stack") or "")):
            say(f"ended {count} processes that the previous stack had left behind")
        names = [*parts.SERVICES, "nats", *(["ray"] if wish.ray else [])]
        options = Options(
            home,
            ports.choose(wish.port, names),
            stack_id(),
            ray=wish.ray,
            host=wish.host,
            roots=wish.roots or default_roots(),
        )
        supervisor.run(options, say)


def up_detached(wish: Wish, tell: Callable[[str], None] = print) -> Mapping[str, Any]:
    """Starts the stack beside us; returns its state when it accepts requests."""
    home = Home(wish.home)
    home.prepare()
    if is_running(wish.home):
        tell(f"a stack already runs in {wish.home}")
        return _wait_accepting(wish.home, None, home.log("stack"), tell, 0)
    log = home.log("stack")
    process.rotate(log)
    begin = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-P", "-m", "oneblock", "up", *wish.arguments()]
    with log.open("ab") as output:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return _wait_accepting(wish.home, started, log, tell, begin)


def down(folder: Path) -> bool:
    """Stops the stack of a folder and waits until it is gone; False when none ran."""
    if not is_running(folder):
        return False
    state = _raw_state(Home(folder))
    if (found := _supervisor(state)) is None:
        raise OneBlockError(
            f"{folder} is held by a process that is not known from its state.json",
            hint="stop that process; `oneblock doctor` may help to find it",
        )
    found.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + DOWN_PATIENCE
    while is_running(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    if is_running(folder):
        found.kill()
        process.clear(str(state.get("stack") or ""))
        raise OneBlockError(
            f"the stack did not stop within {DOWN_PATIENCE:g} s and was killed; nothing is lost",
            hint=f"what it waited for is in {Home(folder).log('stack')}",
        )
    return True


def _wait_accepting(
    folder: Path,
    started: subprocess.Popen[bytes] | None,
    log: Path,
    tell: Callable[[str], None],
    position: int,
) -> Mapping[str, Any]:
    deadline = time.monotonic() + DETACH_PATIENCE
    while time.monotonic() < deadline:
        state = read_state(folder)
        gone = started is not None and started.poll() is not None
        position = _pass_on(log, position, tell)
        if gone or (started is None and state["state"] == "down"):
            raise StartFailed(f"the stack did not start; see {log}", hint="try `oneblock doctor`")
        endpoints = state.get("endpoints") or {}
        if endpoints.get("catalog") and endpoints.get("ingest"):
            return state
        time.sleep(0.05)
    raise StartFailed(
        f"the stack accepts no requests after {DETACH_PATIENCE:g} s",
        hint=f"see `oneblock status` and {log}; stop it with `oneblock down`",
    )


def _pass_on(log: Path, position: int, tell: Callable[[str], None]) -> int:
    """Tells the whole lines that a log has got since `position`."""
    with log.open("rb") as file:
        file.seek(position)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    for line in whole.decode("utf-8", "replace").splitlines():
        tell(line)
    return position + len(whole)


def _raw_state(home: Home) -> Mapping[str, Any]:
    """`state.json` as written, also by a stack that was killed."""
    try:
        found: Mapping[str, Any] = json.loads(home.state.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _supervisor(state: Mapping[str, Any]) -> psutil.Process | None:
    """The process that wrote the state, if it is that one still and not a later one's pid."""
    try:
        found = psutil.Process(int(state["pid"]))
        began = datetime.fromisoformat(str(state["started_at"])).timestamp()
        return found if found.create_time() <= began + 1 else None
    except (KeyError, ValueError, psutil.Error):
        return None
