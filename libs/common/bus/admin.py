"""The admin step: makes streams, consumers and buckets as declared, and reads them back.

Services only use what is here. `python -m libs.common.bus.admin` does it from the environment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from libs.common.bus import connection
from libs.common.bus.faults import TIMEOUT, BusNotMigrated, translated
from libs.common.bus.topology import (
    ACK_WAIT,
    BUCKETS,
    DUPLICATE_WINDOW,
    DURABLES,
    MAX_MESSAGE,
    STREAMS,
    BucketSpec,
    Durable,
    Stream,
)
from libs.common.errors import OneBlockError, PermanentError
from libs.common.settings import CommonSettings

FREE = frozenset({"num_replicas", "ack_wait"})  # an operator's choice: no drift
Wanted = dict[str, object]


async def migrate(
    nats_url: str, token: str | None = None, replicas: int = 1, ack_wait: float = ACK_WAIT
) -> list[str]:
    """Create or change what differs from the declaration; returns what was done, a line each.

    Idempotent. Raises BusUnreachable, PermanentError `bus_not_migratable` where the server can't
    change something in place, BusNotMigrated when what it reads back isn't what it set.
    """
    async with _connected(nats_url, token) as js:
        with translated("setting up NATS"):
            done: list[str] = []
            for name, config in _streams(replicas).items():
                done += await _put_stream(js, name, config)
            for durable in DURABLES.values():
                done += await _put_consumer(js, durable, replicas, ack_wait)
        if drift := await differences(js):
            raise BusNotMigrated(drift)
        return done


async def drift(nats_url: str, token: str | None = None) -> list[str]:
    """What differs on the server from the declaration, a line each."""
    async with _connected(nats_url, token) as js:
        return await differences(js)


async def differences(js: JetStreamContext) -> list[str]:
    """The same on an open connection."""
    found: list[str] = []
    with translated("reading the set-up of NATS"):
        for name, wanted in _streams(1).items():
            actual = await _stream_config(js, name)
            found += _compare(f"stream {name}", wanted, actual)
        for durable in DURABLES.values():
            config = await _consumer_config(js, durable)
            found += _compare(f"consumer {durable.name}", _consumer(durable, 1, 0), config)
    return found


async def ack_wait(js: JetStreamContext, durable: Durable) -> float:
    """The seconds that the server gives this durable's messages."""
    with translated(f"reading consumer {durable.name}"):
        config = await _consumer_config(js, durable)
    return (config.ack_wait if config else None) or ACK_WAIT


def _streams(replicas: int) -> dict[str, Wanted]:
    """Streams, and the streams that buckets are made of."""
    configs = {stream.name: _stream(stream, replicas) for stream in STREAMS}
    return configs | {f"KV_{bucket.name}": _bucket(bucket, replicas) for bucket in BUCKETS}


def _stream(stream: Stream, replicas: int) -> Wanted:
    return {
        "subjects": list(stream.subjects),
        "retention": api.RetentionPolicy.LIMITS,
        "storage": api.StorageType.FILE,
        "discard": api.DiscardPolicy.OLD,
        "max_age": stream.max_age,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": MAX_MESSAGE,
        "max_msgs_per_subject": -1,
        "duplicate_window": DUPLICATE_WINDOW,
        "num_replicas": replicas,
    }


def _bucket(bucket: BucketSpec, replicas: int) -> Wanted:
    """As the driver's `create_key_value` would, so that other clients see a bucket."""
    return {
        "subjects": [f"$KV.{bucket.name}.>"],
        "retention": api.RetentionPolicy.LIMITS,
        "storage": api.StorageType.FILE,
        "discard": api.DiscardPolicy.NEW,
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": MAX_MESSAGE,
        "max_msgs_per_subject": bucket.history,
        "duplicate_window": 120.0,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "num_replicas": replicas,
    }


def _consumer(durable: Durable, replicas: int, wait: float) -> Wanted:
    return {
        "durable_name": durable.name,
        "filter_subject": durable.subject,
        "deliver_policy": api.DeliverPolicy.ALL,
        "ack_policy": api.AckPolicy.EXPLICIT,
        "replay_policy": api.ReplayPolicy.INSTANT,
        "max_deliver": -1,
        "max_ack_pending": durable.max_ack_pending,
        "ack_wait": wait,
        "num_replicas": replicas,
    }


async def _put_stream(js: JetStreamContext, name: str, wanted: Wanted) -> list[str]:
    actual = await _stream_config(js, name)
    changes = _compare(f"stream {name}", wanted, actual, free=frozenset())
    if not changes:
        return []
    if actual is None:
        await js.add_stream(api.StreamConfig(name=name).evolve(**wanted))
        return [f"created stream {name}"]
    _changeable(name, wanted, actual, ("retention", "storage"))
    await js.update_stream(actual.evolve(**wanted))
    return [f"changed {change}" for change in changes]


async def _put_consumer(
    js: JetStreamContext, durable: Durable, replicas: int, wait: float
) -> list[str]:
    wanted = _consumer(durable, replicas, wait)
    actual = await _consumer_config(js, durable)
    changes = _compare(f"consumer {durable.name}", wanted, actual, free=frozenset())
    if not changes:
        return []
    if actual is None:
        config = api.ConsumerConfig(name=durable.name).evolve(**wanted)
        await js.add_consumer(durable.stream, config)
        return [f"created consumer {durable.name} on {durable.stream}"]
    _changeable(durable.name, wanted, actual, ("deliver_policy", "ack_policy", "replay_policy"))
    config = actual.evolve(**wanted, name=durable.name, filter_subjects=None)
    await js.add_consumer(durable.stream, config)
    return [f"changed {change}" for change in changes]


def _changeable(
    name: str,
    wanted: Wanted,
    actual: api.StreamConfig | api.ConsumerConfig,
    fixed: tuple[str, ...],
) -> None:
    """Refuse what the server can't change in place, before half of the rest is changed."""
    for field in fixed:
        if getattr(actual, field) != wanted[field]:
            raise PermanentError(
                f"{name}: {field} is {_plain(getattr(actual, field))}, needed is "
                f"{_plain(wanted[field])}, and "
                "NATS can't change that in place: save what is in it, delete it "
                f"(`nats stream rm` or `nats consumer rm`), migrate again",
                code="bus_not_migratable",
            )


def _compare(
    what: str,
    wanted: Wanted,
    actual: api.StreamConfig | api.ConsumerConfig | None,
    free: frozenset[str] = FREE,
) -> list[str]:
    if actual is None:
        return [f"{what} is missing"]
    return [
        f"{what}: {field} is {_plain(getattr(actual, field))}, declared {_plain(value)}"
        for field, value in wanted.items()
        if field not in free and _plain(getattr(actual, field)) != _plain(value)
    ]


def _plain(value: object) -> object:
    """Values as the server means them: absent is 0 or off, enums are their names."""
    if isinstance(value, (list, tuple)):
        return sorted(str(item) for item in value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if value is None or value is False:
        return 0.0
    return str(getattr(value, "value", value))


async def _stream_config(js: JetStreamContext, name: str) -> api.StreamConfig | None:
    try:
        return (await js.stream_info(name)).config
    except NotFoundError:
        return None


async def _consumer_config(js: JetStreamContext, durable: Durable) -> api.ConsumerConfig | None:
    try:
        config: api.ConsumerConfig = (await js.consumer_info(durable.stream, durable.name)).config
        return config
    except NotFoundError:
        return None


@asynccontextmanager
async def _connected(nats_url: str, token: str | None) -> AsyncIterator[JetStreamContext]:
    settings = CommonSettings.model_validate({"nats_url": nats_url, "nats_token": token})

    async def ignore() -> None: ...

    broker = connection.make_broker(
        settings, "admin", closed=ignore, reconnected=ignore, middlewares=[]
    )
    client = await connection.connect(broker, settings, 8.0)
    try:
        yield client.jetstream(timeout=TIMEOUT)
    finally:
        await broker.stop()


def main() -> int:
    """Migrate what the environment names, and say what was done."""
    settings = CommonSettings()
    token = settings.nats_token.get_secret_value() if settings.nats_token else None
    try:
        done = asyncio.run(migrate(settings.nats_url, token))
    except OneBlockError as error:
        print(error.detail, file=sys.stderr)
        return 1
    print("\n".join(done) or "nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main())
