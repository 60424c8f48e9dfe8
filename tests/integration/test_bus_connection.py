"""The connection: clear at start, kept for ever, and never a process that hangs and looks alive."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nats.js import JetStreamContext

from libs.common.bus import Bus, BusNotMigrated, BusUnreachable, Delivery, admin
from libs.common.bus import bus as bus_module
from libs.common.bus.watchdog import EXIT_CODE
from libs.common.errors import TransientError
from libs.common.events import Fact
from libs.common.settings import CommonSettings
from tests.buses import a_bus, changed, eventually, jetstream, resolved, started
from tests.servers import NatsServer, free_port, nats_server

# nats-py abandons the sockets of reconnects that fail half-way.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _leave_no_garbage_to_others() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as running:
        yield running


@contextmanager
def worker(
    server: NatsServer, what: str, notes: Path, crashpoint: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A service in a process of its own; killed at the end if it still runs."""
    environment = {**os.environ, **({"CRASHPOINT": crashpoint} if crashpoint else {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.busworker", server.url, what, str(notes)],
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(notes: Path, line: str) -> bool:
    return notes.exists() and line in notes.read_text().splitlines()


def ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


async def test_a_server_that_is_not_there_is_named_within_ten_seconds() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    bus = Bus(CommonSettings.model_validate({"nats_url": url}), "tester")
    began = time.monotonic()
    with pytest.raises(BusUnreachable, match=r"127\.0\.0\.1:\d+.*oneblock up"):
        await bus.start()
    assert time.monotonic() - began < 10
    assert bus.state == "closed"


async def test_a_server_that_comes_a_little_late_is_waited_for(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    bus = a_bus(server)
    starting = asyncio.create_task(bus.start())
    await asyncio.sleep(0.7)
    server.start()
    try:
        with pytest.raises(BusNotMigrated, match="oneblock admin migrate"):
            await starting
    finally:
        server.kill()


async def test_a_port_where_something_else_listens_is_named() -> None:
    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(hello, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    bus = Bus(CommonSettings.model_validate({"nats_url": f"nats://127.0.0.1:{port}"}), "tester")
    with pytest.raises(BusUnreachable, match="is no NATS server"):
        await bus.start()
    other.close()


async def test_a_wrong_token_is_said_and_does_not_end_the_process(tmp_path: Path) -> None:
    with nats_server(tmp_path, token="right") as server:
        await admin.migrate(server.url, "right")
        settings = CommonSettings.model_validate({"nats_url": server.url, "nats_token": "wrong"})
        with pytest.raises(BusUnreachable, match="ONEBLOCK_NATS_TOKEN"):
            await Bus(settings, "tester").start()
        async with started(a_bus(server)) as bus:
            assert bus.state == "connected"


async def test_a_broker_killed_and_restarted_is_used_again_within_five_seconds(
    server: NatsServer,
) -> None:
    await admin.migrate(server.url)
    bus, heard = a_bus(server), []

    async def hear(fact: Fact, delivery: Delivery) -> None:
        heard.append(fact)

    bus.subscribe("catalog-facts", hear)
    async with started(bus):
        await bus.publish(changed("run-1"))
        await eventually(lambda: heard)
        for number in (2, 3):
            server.restart()
            back = time.monotonic()
            await bus.publish(changed(f"run-{number}"))
            await eventually(lambda: changed(f"run-{number}") in heard, within=6)  # noqa: B023
            assert time.monotonic() - back < 5


async def test_while_the_broker_is_away_publishing_says_so_and_reconnecting_never_ends(
    server: NatsServer,
) -> None:
    await admin.migrate(server.url)
    async with started(a_bus(server)) as bus:
        server.kill()
        await eventually(lambda: bus.state == "reconnecting")
        began = time.monotonic()
        with pytest.raises(TransientError) as caught:
            await bus.publish(changed("run-1"))
        assert caught.value.code == "bus_unavailable"
        assert time.monotonic() - began < 7
        with pytest.raises(TransientError):
            await bus.runs.get("run-1")
        server.start()
        await eventually(lambda: bus.state == "connected", within=5)
        await bus.publish(changed("run-1"))


async def test_acknowledged_facts_survive_kill_9_of_the_broker(server: NatsServer) -> None:
    await admin.migrate(server.url)
    accepted: list[str] = []
    async with started(a_bus(server)) as bus:
        for round_ in range(5):
            for number in range(20):
                run = f"run-{round_}-{number}"
                await bus.publish(changed(run))
                accepted.append(run)
            server.restart()
        async with jetstream(server) as js:
            state = (await js.stream_info("OB_EVENTS")).state
    assert state.messages == len(accepted)


async def test_a_service_changes_no_stream_and_no_consumer(server: NatsServer) -> None:
    """FastStream rewrites a stream's configuration where it is given by name."""
    await admin.migrate(server.url)

    async def nothing(fact: Fact, delivery: Delivery) -> None: ...

    async def configurations() -> list[str]:
        async with jetstream(server) as js:
            streams = await js.streams_info()
            names = [stream.config.name or "" for stream in streams]
            consumers = [one for name in names for one in await js.consumers_info(name)]
        return sorted([str(s.config) for s in streams] + [str(c.config) for c in consumers])

    before = await configurations()
    bus = a_bus(server)
    for durable in ("catalog-facts", "ingest-requests", "sink-versions"):
        bus.subscribe(durable, nothing, concurrency=2)
    async with started(bus):
        await bus.publish(changed("run-1"))
        during = await configurations()
    assert before == during == await configurations()
    assert await admin.drift(server.url) == []


async def test_a_connection_closed_for_good_ends_the_process(server: NatsServer) -> None:
    """With FastStream alone the pull loops spin and the process hangs, health checks included."""
    await admin.migrate(server.url)
    reasons: list[str] = []

    async def nothing(fact: Fact, delivery: Delivery) -> None: ...

    bus = a_bus(server, fatal=reasons.append)
    bus.subscribe("catalog-facts", nothing, concurrency=3)
    async with started(bus):
        await bus.broker.connection.close()
        began = time.monotonic()
        await asyncio.sleep(0.5)
        assert time.monotonic() - began < 1.0, "the event loop was starved"
        assert bus.state == "closed"
        assert "closed for good" in reasons[0]


async def test_a_real_process_is_gone_after_its_connection_was_closed(
    server: NatsServer, tmp_path: Path
) -> None:
    await admin.migrate(server.url)
    with worker(server, "close", tmp_path / "notes") as process:
        await eventually(lambda: ended(process), within=15)
        assert process.returncode == EXIT_CODE


async def test_a_process_whose_event_loop_hangs_is_ended(
    server: NatsServer, tmp_path: Path
) -> None:
    await admin.migrate(server.url)
    with worker(server, "hang", tmp_path / "notes") as process:
        await eventually(lambda: ended(process), within=20)
        assert process.returncode == EXIT_CODE
        assert process.stderr is not None
        assert b"busworker.py" in process.stderr.read(), "the traceback names where it hung"


async def test_a_process_that_was_frozen_and_thawed_goes_on(
    server: NatsServer, tmp_path: Path
) -> None:
    await admin.migrate(server.url)
    notes = tmp_path / "notes"
    with worker(server, "work", notes) as process:
        await eventually(lambda: said(notes, "ready"), within=15)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(4.0)  # twice its hang limit
        process.send_signal(signal.SIGCONT)
        async with started(a_bus(server)) as bus:
            await bus.publish(resolved("run-1"))
        await eventually(lambda: said(notes, "did run-1"))
        assert not ended(process)


async def test_sigterm_ends_the_process_in_time_and_loses_nothing(
    server: NatsServer, tmp_path: Path
) -> None:
    await admin.migrate(server.url)
    notes = tmp_path / "notes"
    async with started(a_bus(server)) as bus:
        with worker(server, "work", notes) as process:
            await eventually(lambda: said(notes, "ready"), within=15)
            for number in range(50):
                await bus.publish(resolved(f"run-{number}"))
            process.terminate()
            await eventually(lambda: ended(process), within=5)
            assert process.returncode == 0
        with worker(server, "work", notes):
            await eventually(lambda: len(did(notes)) == 50, within=15)


def did(notes: Path) -> set[str]:
    """Runs that were worked on to the end."""
    return {line for line in notes.read_text().splitlines() if line.startswith("did")}


@pytest.mark.parametrize("crashpoint", ["after_publish:1", "before_ack:2", "after_ack:1"])
async def test_a_service_killed_at_any_point_leaves_work_that_another_finishes(
    server: NatsServer, tmp_path: Path, crashpoint: str
) -> None:
    await admin.migrate(server.url, ack_wait=1.0)
    notes = tmp_path / "notes"
    async with started(a_bus(server)) as bus:
        for number in range(3):
            await bus.publish(changed(f"other-{number}"))
            await bus.publish(resolved(f"run-{number}"))
    with worker(server, "once", notes, crashpoint) as process:
        await eventually(lambda: ended(process), within=15)
        assert process.returncode == -signal.SIGKILL
    with worker(server, "once", notes):
        await eventually(lambda: len(did(notes)) == 3, within=15)
        async with jetstream(server) as js:
            await eventually(lambda: all_settled(js))


async def all_settled(js: JetStreamContext) -> bool:
    info = await js.consumer_info("OB_EVENTS", "transform-sources")
    return bool(info.num_ack_pending == 0 and info.num_pending == 0)


async def test_a_service_refuses_to_start_on_a_server_that_is_not_set_up(
    server: NatsServer,
) -> None:
    with pytest.raises(BusNotMigrated, match="stream OB_EVENTS is missing"):
        await a_bus(server).start()


async def test_a_consumer_removed_under_a_running_service_is_noticed(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "WATCH_EVERY", 0.5)
    await admin.migrate(server.url)

    async def nothing(fact: Fact, delivery: Delivery) -> None: ...

    bus = a_bus(server)
    bus.subscribe("catalog-facts", nothing)
    async with started(bus):
        await asyncio.sleep(0.1)
        assert bus.problem is None
        async with jetstream(server) as js:
            await js.delete_consumer("OB_EVENTS", "catalog-facts")
        await eventually(lambda: bus.problem is not None)
        assert "catalog-facts" in str(bus.problem)
        await admin.migrate(server.url)
        await eventually(lambda: bus.problem is None)


async def test_a_broker_that_freezes_is_waited_for(server: NatsServer) -> None:
    await admin.migrate(server.url)
    async with started(a_bus(server)) as bus:
        server.freeze()
        with pytest.raises(TransientError):
            await bus.publish(changed("run-1"))
        server.thaw()
        await bus.publish(changed("run-1"))


async def test_a_connection_that_stays_away_from_a_server_that_answers_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a refused token FastStream's error callback ends the driver's reconnecting for good."""
    monkeypatch.setattr(bus_module, "STUCK", 2.0)
    reasons: list[str] = []
    with nats_server(tmp_path, token="right") as server:
        await admin.migrate(server.url, "right")
        async with started(a_bus(server, fatal=reasons.append)) as bus:
            server.token = "other"
            server.restart()
            await eventually(lambda: reasons, within=15)
            assert bus.state != "connected"
