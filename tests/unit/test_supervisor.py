"""The supervisor: children that die come back, and nothing stays when it goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from oneblock.home import is_running, read_state

from deploy.local import ports, process
from deploy.local.child import Child, Spec, backoff
from deploy.local.home import Home, HomeTaken, stack_id

SLEEPER = "import time; time.sleep(300)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"


async def ready() -> str | None:
    return None


def child(
    folder: Path, program: str, said: list[str], *, stack: str | None = None, patience: float = 5
) -> Child:
    env = {**os.environ, process.STACK: stack or stack_id(), process.CHILD: "standin"}
    command = (sys.executable, "-c", program)
    log = folder / "standin.log"
    spec = Spec("standin", command, env, log, folder, ready, patience=patience)
    return Child(spec, said.append, lambda: None)


async def eventually(holds: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_a_child_that_is_killed_is_started_again_and_it_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    one = child(tmp_path, SLEEPER, said)
    one.start()
    await one.ready.wait()
    first = one.pid
    assert first
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: one.state == "ready" and one.pid not in (None, first))
    await one.stop()
    assert one.restarts == 1
    assert any("killed by SIGKILL" in line and "again in 0.25 s" in line for line in said)


async def test_a_child_that_ends_by_itself_tells_its_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    one = child(tmp_path, "print('no room', flush=True); raise SystemExit(3)", said)
    one.start()
    await eventually(lambda: one.restarts >= 2)
    await one.stop()
    assert any("exit code 3" in line for line in said)
    assert "no room" in "\n".join(said)


def test_starts_are_further_apart_with_every_death_up_to_a_limit() -> None:
    waits = [backoff(deaths) for deaths in range(1, 20)]
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert waits == sorted(waits)
    assert waits[-1] == 30.0


async def test_a_child_that_does_not_want_to_stop_is_killed_in_time(tmp_path: Path) -> None:
    said: list[str] = []
    one = child(tmp_path, STUBBORN, said, patience=0.3)
    one.start()
    await one.ready.wait()
    pid = one.pid
    await asyncio.sleep(0.2)  # lets it ignore the signal; either way it must be gone
    await asyncio.wait_for(one.stop(), 10)
    assert pid
    assert not psutil.pid_exists(pid)
    assert one.state == "stopped"


async def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    stack = stack_id()
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True)\n"
        "time.sleep(300)"
    )
    one = child(tmp_path, program, [], stack=stack)
    one.start()
    await eventually(lambda: len(process.members(stack)) == 2)
    await one.stop()
    assert process.members(stack) == []


async def test_clearing_a_stack_ends_nobody_elses_processes(tmp_path: Path) -> None:
    ours, theirs = stack_id(), stack_id()
    one, other = (child(tmp_path, SLEEPER, [], stack=s) for s in (ours, theirs))
    one.start()
    other.start()
    await asyncio.gather(one.ready.wait(), other.ready.wait())
    other_pid = other.pid or 0
    assert await asyncio.to_thread(process.clear, ours) == 1
    assert other.pid == other_pid
    assert psutil.pid_exists(other_pid)
    await asyncio.gather(one.stop(), other.stop())


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    stack = stack_id()
    program = f"""
import asyncio, os, pathlib, sys
from deploy.local import process
async def main():
    env = {{**os.environ, process.STACK: {stack!r}}}
    folder = pathlib.Path({str(tmp_path)!r})
    await process.start((sys.executable, "-c", {STUBBORN!r}), env, folder / "log", folder)
    print("started", flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout
    assert parent.stdout.readline() == b"started\n"
    assert process.members(stack)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while process.members(stack):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_reaper_clears_up_when_its_input_closes() -> None:
    stack = stack_id()
    env = {**os.environ, process.STACK: stack}
    orphan = subprocess.Popen([sys.executable, "-c", STUBBORN], env=env)
    reaper = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.reaper", stack], stdin=subprocess.PIPE
    )
    reaper.communicate(timeout=20)
    assert orphan.wait(timeout=10) != 0


def test_ports_in_use_are_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ports.PortsInUse) as caught:
            ports.choose(port, ["catalog"])
    assert f"{port} (catalog) by" in caught.value.detail
    assert f"pid {os.getpid()}" in caught.value.detail
    assert "--port 0" in caught.value.hint


def test_free_ports_are_different_and_really_free() -> None:
    found = ports.choose(0, ["catalog", "ingest", "nats", "ray"])
    assert len(set(found.values())) == 4
    assert all(ports.is_free(port) for port in found.values())


def test_two_stacks_never_share_a_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    with home.held():
        assert is_running(tmp_path)
        with pytest.raises(HomeTaken, match="already runs"), Home(tmp_path).held():
            pass
    assert not is_running(tmp_path)


def test_a_stack_whose_supervisor_is_gone_reads_as_down(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    services = {"ingest": {"pid": 1, "state": "ready"}}
    state = {"state": "ready", "endpoints": {"catalog": "x"}, "services": services}
    home.write_state({**state, "pid": os.getpid()})
    with home.held():
        assert read_state(tmp_path)["state"] == "ready"
    found = read_state(tmp_path)
    assert found["state"] == "down"
    assert found["endpoints"] == {}
    assert found["services"]["ingest"]["pid"] is None


def test_what_an_earlier_stack_wrote_is_not_taken_for_the_new_ones(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.write_state({"state": "ready", "endpoints": {"catalog": "x"}, "services": {}, "pid": 1})
    with home.held():
        assert read_state(tmp_path) == {"state": "starting", "endpoints": {}, "services": {}}


def test_the_state_is_replaced_whole(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.write_state({"state": "starting"})
    with home.state.open() as reader:
        home.write_state({"state": "ready", "more": "x" * 10_000})
        assert json.load(reader) == {"state": "starting"}
    assert list(tmp_path.iterdir()) == [home.state]


def test_a_log_that_grew_too_long_begins_anew_and_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT", 10)
    log = tmp_path / "ingest.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a long first line\n")
        process.rotate(log)
        writer.write(b"next\n")
    assert log.read_bytes() == b"next\n"
    assert (tmp_path / "ingest.log.1").read_bytes() == b"a long first line\n"
