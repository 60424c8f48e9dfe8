"""A whole stack for a test: `oneblock up` as a child, on free ports, gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from oneblock import Client
from oneblock.home import read_state

from deploy.local import process

ONEBLOCK = (sys.executable, "-P", "-m", "oneblock")
UP_PATIENCE = 120.0  # seconds; two cores that others use too
STOP_PATIENCE = 60.0


class EmbeddedStack:
    """One data folder, and the stack that runs in it now."""

    def __init__(self, home: Path, *, ray: bool, env: Mapping[str, str]) -> None:
        self.home = home
        self._ray = ray
        outside = {k: v for k, v in os.environ.items() if not k.startswith("ONEBLOCK_")}
        self.env = {**outside, "ONEBLOCK_HOME": str(home), **env}
        self._up: subprocess.Popen[bytes] | None = None
        self._ids: set[str] = set()

    # --- the stack as a whole

    def start(self, until: str = "ready") -> None:
        """`oneblock up`; returns when it accepts requests, or everything is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        arguments = ["up", "--port", "0", *([] if self._ray else ["--no-ray"])]
        with self.said.open("ab") as output:
            self._up = subprocess.Popen(
                (*ONEBLOCK, *arguments), env=self.env, stdout=output, stderr=output
            )
        self.wait_for(self._accepting if until == "accepting" else self._ready, until)
        self._ids.add(str(self.state["stack"]))

    def stop(self) -> None:
        """As Ctrl-C does; it must end well, in time, and leave no process."""
        assert self._up is not None
        self._up.send_signal(signal.SIGINT)
        code = self._up.wait(STOP_PATIENCE)
        self._up = None
        assert code == 0, f"`oneblock up` ended with {code}: {self.said.read_text()[-2000:]}"
        assert self.leftovers() == []

    def kill_everything(self) -> None:
        """kill -9 of the supervisor and of every process of the stack, all at once."""
        assert self._up is not None
        victims = process.members(str(self.state["stack"]))
        self._up.kill()
        for victim in victims:
            with suppress(psutil.Error):
                victim.kill()
        self._up.wait()
        self._up = None

    def leftovers(self) -> list[str]:
        """What still runs of any stack that this one has been."""
        deadline = time.monotonic() + 10
        while True:
            found = [str(p) for ident in self._ids for p in process.members(ident)]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def end(self) -> None:
        """Whatever state it is in, nothing of it stays."""
        if self._up is not None:
            self._up.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._up.wait(STOP_PATIENCE)
            self._up.kill()
            self._up.wait()
            self._up = None
        for ident in self._ids:
            process.clear(ident)

    # --- its parts

    @property
    def state(self) -> Mapping[str, Any]:
        """What `oneblock status -o json` prints."""
        return read_state(self.home)

    @property
    def said(self) -> Path:
        """Everything that `oneblock up` has printed."""
        return self.home / "said.log"

    def endpoint(self, name: str) -> str:
        """The address of catalog, ingest, nats or ray."""
        return str(self.state["endpoints"][name])

    def pid(self, service: str) -> int:
        """The process of a service now."""
        return int(self.state["services"][service]["pid"] or 0)

    def kill(self, service: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to a service; returns the pid that it had."""
        pid = self.pid(service)
        os.kill(pid, number)
        return pid

    def wait_ready(self, service: str, *, other_than: int | None = None) -> None:
        """Until a service works, in a process other than that one."""

        def works() -> bool:
            found = self.state["services"].get(service, {})
            return found.get("state") == "ready" and found.get("pid") != other_than

        self.wait_for(works, f"{service} to be ready")

    def wait_for(
        self, holds: Callable[[], object], what: str, seconds: float = UP_PATIENCE
    ) -> None:
        """Until something holds; fails with what the stack has said."""
        deadline = time.monotonic() + seconds
        while not holds():
            gone = self._up is not None and self._up.poll() is not None
            if gone or time.monotonic() > deadline:
                why = "the stack ended" if gone else f"not within {seconds:g} s"
                raise AssertionError(f"waited for {what}: {why}\n{self.said.read_text()[-3000:]}")
            time.sleep(0.05)

    # --- using it

    def client(self) -> Client:
        """A client of this stack."""
        return Client(self.home)

    def cli(
        self, *arguments: str, cwd: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs `oneblock …` as people do."""
        done = subprocess.run(
            (*ONEBLOCK, *arguments),
            env=self.env,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=180,
        )
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def _ready(self) -> bool:
        return self.state["state"] == "ready"

    def _accepting(self) -> bool:
        endpoints = self.state.get("endpoints") or {}
        return bool(endpoints.get("catalog") and endpoints.get("ingest"))


@contextmanager
def embedded_stack(
    home: Path,
    *,
    ray: bool = False,
    until: str = "ready",
    env: Mapping[str, str] | None = None,
) -> Iterator[EmbeddedStack]:
    """A running stack in `home`; afterwards it is stopped, and has left no process.

    `until`: "ready" (everything works) or "accepting" (requests are taken, Ray may be starting).
    """
    stack = EmbeddedStack(home, ray=ray, env=env or {})
    try:
        stack.start(until)
        yield stack
        if stack._up is not None:
            stack.stop()
    finally:
        stack.end()
