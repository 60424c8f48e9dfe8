"""The admin step: makes what is declared out of whatever is there, and reads it back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js import api

from libs.common.bus import admin
from libs.common.bus.topology import DURABLES, STREAMS
from libs.common.errors import PermanentError
from tests.buses import jetstream
from tests.servers import NatsServer, nats_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as running:
        yield running


async def test_an_empty_server_gets_everything_and_the_second_time_nothing_changes(
    server: NatsServer,
) -> None:
    assert len(await admin.drift(server.url)) == len(STREAMS) + 2 + len(DURABLES)
    done = await admin.migrate(server.url)
    assert len(done) == len(STREAMS) + 2 + len(DURABLES)
    assert await admin.migrate(server.url) == []
    assert await admin.drift(server.url) == []


async def test_an_older_configuration_is_brought_up_and_keeps_its_messages(
    server: NatsServer,
) -> None:
    async with jetstream(server) as js:
        await js.add_stream(
            name="OB_EVENTS", subjects=["oneblock.event.old"], max_age=60, duplicate_window=5
        )
        await js.publish("oneblock.event.old", b"kept")
        await js.add_consumer(
            "OB_EVENTS",
            durable_name="catalog-facts",
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=3,
            max_deliver=2,
        )
        await js.create_key_value(bucket="oneblock_specs", history=1)
        kv = await js.key_value("oneblock_specs")
        await kv.put("default.cars", b"{}")
    done = await admin.migrate(server.url)
    assert any("stream OB_EVENTS: duplicate_window is 5.0" in line for line in done)
    assert any("consumer catalog-facts: max_deliver is 2.0" in line for line in done)
    assert any("stream KV_oneblock_specs: max_msgs_per_subject" in line for line in done)
    assert await admin.drift(server.url) == []
    async with jetstream(server) as js:
        assert (await js.stream_info("OB_EVENTS")).state.messages == 1
        kept = await (await js.key_value("oneblock_specs")).get("default.cars")
        assert kept.value == b"{}"
        wait = (await js.consumer_info("OB_EVENTS", "catalog-facts")).config.ack_wait
        assert wait == 30


async def test_what_the_server_cannot_change_in_place_is_said_and_left_alone(
    server: NatsServer,
) -> None:
    async with jetstream(server) as js:
        await js.add_stream(
            name="OB_EVENTS", subjects=["oneblock.event.>"], storage=api.StorageType.MEMORY
        )
    with pytest.raises(PermanentError, match="storage is memory, needed is file") as caught:
        await admin.migrate(server.url)
    assert caught.value.code == "bus_not_migratable"
    async with jetstream(server) as js:
        assert (await js.stream_info("OB_EVENTS")).config.storage == api.StorageType.MEMORY


async def test_drift_names_what_somebody_changed_by_hand(server: NatsServer) -> None:
    await admin.migrate(server.url)
    async with jetstream(server) as js:
        config = (await js.stream_info("OB_INGEST")).config
        await js.update_stream(config.evolve(max_age=1000.0))
        await js.delete_consumer("OB_EVENTS", "sink-versions")
    assert await admin.drift(server.url) == [
        "stream OB_INGEST: max_age is 1000.0, declared 2592000.0",
        "consumer sink-versions is missing",
    ]


async def test_an_operator_may_choose_the_ack_wait(server: NatsServer) -> None:
    await admin.migrate(server.url, ack_wait=10.0)
    assert await admin.drift(server.url) == []
    done = await admin.migrate(server.url)
    assert all("ack_wait is 10.0, declared 30.0" in line for line in done)
    assert len(done) == len(DURABLES)


def test_it_can_be_run_as_a_command(server: NatsServer) -> None:
    command = [sys.executable, "-m", "libs.common.bus.admin"]
    environment = {"ONEBLOCK_NATS_URL": server.url}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "created stream OB_EVENTS" in first.stdout
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert second.stdout == "nothing to change\n"
