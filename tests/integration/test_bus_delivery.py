"""Messages on a real nats-server: none lost, none handled for ever, none in the way of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.common import logs, trace
from libs.common.bus import Delivery, RunRecord, admin, charged
from libs.common.cloudevents import to_structured
from libs.common.errors import Cancelled, PermanentError, TransientError
from libs.common.events import Fact, IngestRequested, Progress
from libs.common.ids import run_id
from tests.buses import a_bus, changed, eventually, jetstream, resolved, started, stored
from tests.servers import NatsServer, nats_server

Handler = Callable[[Fact, Delivery], Awaitable[None]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as running:
        yield running


@pytest.fixture
async def migrated(server: NatsServer) -> NatsServer:
    await admin.migrate(server.url, ack_wait=1.0)
    return server


class Heard:
    """A handler that remembers, and raises what it is told to, in turn."""

    def __init__(self, *raising: Exception | None) -> None:
        self.facts: list[Fact] = []
        self.deliveries: list[Delivery] = []
        self._raising = list(raising)

    async def __call__(self, fact: Fact, delivery: Delivery) -> None:
        self.facts.append(fact)
        self.deliveries.append(delivery)
        if self._raising and (error := self._raising.pop(0)):
            raise error


async def send_raw(server: NatsServer, subject: str, body: bytes) -> None:
    async with jetstream(server) as js:
        await js.publish(subject, body)


async def the_dead(server: NatsServer) -> list[dict[str, Any]]:
    async with jetstream(server) as js:
        return [orjson.loads(body)["data"] for _, body in await stored(js, "OB_DEAD")]


async def test_a_fact_arrives_with_its_id_and_trace(migrated: NatsServer) -> None:
    bus, heard = a_bus(migrated), Heard()
    bus.subscribe("catalog-facts", heard)
    async with started(bus):
        with trace.bind(None) as here:
            await bus.publish(changed("run-1"))
        await eventually(lambda: heard.facts)
    assert heard.facts == [changed("run-1")]
    assert heard.deliveries[0].id == changed("run-1").id()
    assert here.id in heard.deliveries[0].trace


async def test_the_same_fact_published_five_times_is_stored_and_handled_once(
    migrated: NatsServer,
) -> None:
    bus, heard = a_bus(migrated), Heard()
    bus.subscribe("catalog-facts", heard, concurrency=3)
    async with started(bus):
        for _ in range(5):
            await bus.publish(changed("run-1"))
        await bus.publish(changed("run-2"))
        await eventually(lambda: len(heard.facts) >= 2)
        await asyncio.sleep(0.2)
    assert sorted(fact.id() for fact in heard.facts) == sorted(
        changed(run).id() for run in ("run-1", "run-2")
    )


async def test_a_handler_that_raises_does_not_lose_its_message(migrated: NatsServer) -> None:
    """FastStream's default terminates a message at the first exception."""
    bus, heard = a_bus(migrated), Heard(ValueError("a bug"))
    bus.subscribe("catalog-facts", heard)
    async with started(bus):
        await bus.publish(changed("run-1"))
        await eventually(lambda: len(heard.facts) == 2)
    assert [delivery.deliveries for delivery in heard.deliveries] == [1, 2]


async def test_a_transient_error_is_retried_after_a_delay_not_at_once(
    migrated: NatsServer,
) -> None:
    """FastStream's NACK_ON_ERROR uses up five deliveries within milliseconds."""
    bus, heard = a_bus(migrated), Heard(TransientError("503", code="unavailable"))
    bus.subscribe("catalog-facts", heard)
    async with started(bus):
        await bus.publish(changed("run-1"))
        await eventually(lambda: heard.facts)
        began = time.monotonic()
        await eventually(lambda: len(heard.facts) == 2)
    assert time.monotonic() - began > 0.8


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"\xff\xfe\x00", b"[1]", b'{"specversion":"1.0","type":"x","id":"1"}'],
)
async def test_a_poisonous_message_becomes_a_dead_letter_and_the_next_is_handled(
    migrated: NatsServer, body: bytes
) -> None:
    bus, heard = a_bus(migrated), Heard()
    bus.subscribe("catalog-facts", heard)
    async with started(bus):
        await send_raw(migrated, "oneblock.event.run.changed", body)
        await bus.publish(changed("run-1"))
        await eventually(lambda: heard.facts)
        letters = await eventually(lambda: the_dead(migrated))
        async with jetstream(migrated) as js:
            info = await js.consumer_info("OB_EVENTS", "catalog-facts")
    assert [letter["error"]["code"] for letter in letters] == ["invalid_event"]
    assert letters[0]["sequence"] == 1
    assert info.num_ack_pending == 0


async def test_a_permanent_error_fails_the_run_and_says_so(migrated: NatsServer) -> None:
    bus, told = a_bus(migrated), Heard()
    bus.subscribe("transform-sources", Heard(PermanentError("no such file", code="not_found")))
    bus.subscribe("catalog-facts", told)
    async with started(bus):
        await bus.runs.accept(RunRecord(id="run-1", dataset="default/cars"))
        await bus.publish(resolved("run-1"))
        fact = (await eventually(lambda: [f for f in told.facts if f.TYPE.endswith("changed")]))[0]
        record = await bus.runs.get("run-1")
    assert record is not None
    assert (record.state, record.stage) == ("failed", "transform")
    assert record.error is not None
    assert record.error.code == "not_found"
    assert fact == record.changed()
    assert await the_dead(migrated) == []


async def test_a_failing_projection_does_not_fail_the_run(migrated: NatsServer) -> None:
    bus = a_bus(migrated)
    bus.subscribe("catalog-facts", Heard(PermanentError("can't fold", code="bad")))
    async with started(bus):
        await bus.runs.accept(RunRecord(id="run-1", dataset="default/cars"))
        await bus.publish(resolved("run-1"))
        await eventually(lambda: the_dead(migrated))
        record = await bus.runs.get("run-1")
    assert record is not None
    assert record.state == "accepted"


async def test_a_request_that_was_accepted_and_then_fails_fails_its_run(
    migrated: NatsServer,
) -> None:
    bus = a_bus(migrated)

    async def accept(fact: Fact, delivery: Delivery) -> None:
        await bus.runs.accept(RunRecord(id=run_id(delivery.id), dataset="default/cars"))
        raise PermanentError("no files match", code="no_files")

    bus.subscribe("ingest-requests", accept)
    async with started(bus):
        await bus.publish(IngestRequested(manifest={}), id="request-1")

        async def failed() -> bool:
            record = await bus.runs.get(run_id("request-1"))
            return record is not None and record.state == "failed"

        await eventually(failed)


async def test_a_request_that_was_never_accepted_becomes_a_dead_letter(
    migrated: NatsServer,
) -> None:
    bus = a_bus(migrated)
    bus.subscribe("ingest-requests", Heard(PermanentError("bad", code="invalid_manifest")))
    async with started(bus):
        await bus.publish(IngestRequested(manifest={}), id="request-1")
        letters = await eventually(lambda: the_dead(migrated))
    assert letters[0]["error"]["code"] == "invalid_manifest"


async def test_an_error_is_charged_to_the_run_the_handler_names(migrated: NatsServer) -> None:
    bus = a_bus(migrated)

    async def start_the_waiting_one(fact: Fact, delivery: Delivery) -> None:
        with charged("run-2"):
            raise PermanentError("no files match", code="no_files")

    bus.subscribe("ingest-runs", start_the_waiting_one)
    async with started(bus):
        for run in ("run-1", "run-2"):
            await bus.runs.accept(RunRecord(id=run, dataset=f"default/{run}"))
        await bus.publish(changed("run-1", "succeeded"))

        async def failed() -> bool:
            record = await bus.runs.get("run-2")
            return record is not None and record.state == "failed"

        await eventually(failed)
        first = await bus.runs.get("run-1")
    assert first is not None
    assert first.state == "accepted"


async def test_a_cancelled_run_ends_as_cancelled(migrated: NatsServer) -> None:
    bus, told = a_bus(migrated), Heard()
    bus.subscribe("transform-sources", Heard(Cancelled("run-1")))
    bus.subscribe("ingest-runs", told)
    async with started(bus):
        await bus.runs.accept(RunRecord(id="run-1", dataset="default/cars"))
        await bus.publish(resolved("run-1"))
        facts = await eventually(lambda: told.facts)
    assert facts == [
        changed("run-1").model_copy(update={"state": "cancelled", "stage": "transform"})
    ]


async def test_an_end_that_was_written_but_not_told_is_told_at_the_redelivery(
    migrated: NatsServer,
) -> None:
    bus, told = a_bus(migrated), Heard()

    async def work(fact: Fact, delivery: Delivery) -> None:
        async with await bus.runs.lease("run-1", "me"):
            pass

    bus.subscribe("transform-sources", work)
    bus.subscribe("ingest-runs", told)
    async with started(bus):
        await bus.runs.accept(RunRecord(id="run-1", dataset="default/cars"))
        record = await bus.runs.finish("run-1", "succeeded", version=3)
        await bus.publish(resolved("run-1"))
        assert await eventually(lambda: told.facts) == [record.changed()]


async def test_a_job_three_times_as_long_as_the_ack_wait_is_not_given_to_another(
    migrated: NatsServer,
) -> None:
    bus, deliveries, done = a_bus(migrated), [], asyncio.Event()

    async def long_work(fact: Fact, delivery: Delivery) -> None:
        deliveries.append(delivery.deliveries)
        await asyncio.sleep(3.0)
        done.set()

    bus.subscribe("transform-sources", long_work, concurrency=3)
    async with started(bus):
        await bus.publish(resolved("run-1"))
        await asyncio.wait_for(done.wait(), 5)
        await asyncio.sleep(0.3)
    assert deliveries == [1]


async def test_a_long_job_does_not_hold_up_other_work(migrated: NatsServer) -> None:
    bus, quick, release = a_bus(migrated), Heard(), asyncio.Event()

    async def work(fact: Fact, delivery: Delivery) -> None:
        if getattr(fact, "run", "") == "slow":
            await release.wait()
        else:
            await quick(fact, delivery)

    bus.subscribe("transform-sources", work, concurrency=2)
    async with started(bus):
        await bus.publish(resolved("slow"))
        for number in range(20):
            await bus.publish(resolved(f"run-{number}"))
        await eventually(lambda: len(quick.facts) == 20)
        release.set()


async def test_a_message_too_large_for_the_server_is_refused_with_a_clear_error(
    migrated: NatsServer,
) -> None:
    bus = a_bus(migrated)
    async with started(bus):
        for size in (2_000_000, 1024 * 1024 - 300):
            with pytest.raises(PermanentError, match="larger than NATS takes") as caught:
                await bus.publish(IngestRequested(manifest={"x": "y" * size}))
            assert caught.value.code == "message_too_large"
        await bus.publish(changed("run-1"))
        assert bus.state == "connected"


async def test_a_stop_lets_the_handler_finish(migrated: NatsServer) -> None:
    bus, finished, began = a_bus(migrated), [], asyncio.Event()

    async def work(fact: Fact, delivery: Delivery) -> None:
        began.set()
        await asyncio.sleep(0.7)
        finished.append(fact)

    bus.subscribe("transform-sources", work)
    async with started(bus):
        await bus.publish(resolved("run-1"))
        await asyncio.wait_for(began.wait(), 5)
    assert len(finished) == 1
    async with jetstream(migrated) as js:
        info = await js.consumer_info("OB_EVENTS", "transform-sources")
    assert (info.num_ack_pending, info.num_pending) == (0, 0)


async def test_a_stop_hands_back_what_does_not_finish_in_time(server: NatsServer) -> None:
    await admin.migrate(server.url)  # an ack wait of 30 s: only handing back is quicker
    first, second, began, heard = a_bus(server, stop_timeout=0.3), a_bus(server), [], Heard()

    async def endless(fact: Fact, delivery: Delivery) -> None:
        began.append(fact)
        await asyncio.Event().wait()

    first.subscribe("transform-sources", endless)
    second.subscribe("transform-sources", heard)
    async with started(first):
        await first.publish(resolved("run-1"))
        await eventually(lambda: began)
    async with started(second):
        await eventually(lambda: heard.facts, within=3)
    assert heard.deliveries[0].deliveries == 2


async def test_progress_reaches_who_listens_and_bothers_nobody_else(
    migrated: NatsServer,
) -> None:
    bus, seen = a_bus(migrated), []

    async def see(progress: Progress) -> None:
        seen.append(progress)
        raise ValueError("a bug in the listener")

    bus.on_progress(see)
    sent = Progress(run="run-1", dataset="a/b", stage="transform", rows=5, at=None)
    await bus.progress(sent)  # not even connected
    async with started(bus):
        await bus.progress(sent)
        await bus.progress(sent)
        await eventually(lambda: len(seen) == 2)
    assert seen == [sent, sent]


async def test_lines_logged_by_a_handler_name_run_and_trace(
    migrated: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    import structlog

    bus = a_bus(migrated)
    logs.configure(bus._settings, "tester")

    async def work(fact: Fact, delivery: Delivery) -> None:
        structlog.get_logger("x").info("working")

    bus.subscribe("transform-sources", work)
    async with started(bus):
        with trace.bind(None) as here:
            await bus.publish(resolved("run-7"))
        lines = await eventually(
            lambda: [line for line in capsys.readouterr().err.splitlines() if "working" in line]
        )
    line = orjson.loads(lines[0])
    assert (line["run"], line["trace"], line["service"]) == ("run-7", here.id, "tester")


async def test_a_redelivered_poison_is_buried_once(migrated: NatsServer) -> None:
    bus = a_bus(migrated)
    async with started(bus):
        from libs.common.bus.deadletters import Original

        original = Original("OB_EVENTS", 1, "oneblock.event.x", {}, b"x")
        for _ in range(3):
            await bus.bury(original, PermanentError("x", code="invalid_event"))
    assert len(await the_dead(migrated)) == 1


async def test_facts_from_others_are_understood(migrated: NatsServer) -> None:
    from datetime import UTC, datetime

    bus, heard = a_bus(migrated), Heard()
    bus.subscribe("catalog-facts", heard)
    body = to_structured(changed("run-9"), source="them", time=datetime.now(UTC))
    async with started(bus):
        await send_raw(migrated, "oneblock.event.run.changed", body)
        await eventually(lambda: heard.facts)
    assert heard.facts == [changed("run-9")]
