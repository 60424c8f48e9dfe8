"""kill -9 of every part while a run works: one version, right rows, one delivery, nothing to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.stack import EmbeddedStack
from tests.e2e.world import (
    World,
    apply,
    assert_done_once,
    at_once,
    ended,
    open_world,
    when_committed,
    when_delivering,
    when_fragments,
    when_listed,
)

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.slow, pytest.mark.timeout(600)]

POINTS = {
    "ingest": (
        "after_accept_before_publish",
        "after_spec_put",
        "after_slot",
        "before_resolved",
        "after_resolved_before_ack",
    ),
    "transform": (
        "after_lease",
        "before_commit",
        "after_commit_before_tag",
        "after_tag",
        "before_publish",
    ),
    "sink": (
        "sink_before_parts",
        "sink_before_switch",
        "sink_after_switch",
        "sink_before_publish",
        "sink_before_end",
    ),
    "catalog": (
        "catalog_before_commit:1",
        "catalog_after_commit:1",
        "catalog_before_commit:2",
        "catalog_after_commit:2",
        "catalog_before_commit:3",
    ),
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, EmbeddedStack]]:
    yield from open_world(tmp_path_factory.mktemp("kills"), ray=False)


@pytest.mark.parametrize(
    ("service", "point"), [(s, p) for s, points in POINTS.items() for p in points]
)
def test_a_killed_service_costs_nothing(
    local: tuple[World, EmbeddedStack], service: str, point: str
) -> None:
    world, stack = local
    name = f"{service}-{point}".replace("_", "-").replace(":", "-")
    before = stack.pid(service)
    world.armed.write_text(point)
    with stack.client() as client:
        run = ended(client, apply(client, world, name))
        assert not world.armed.exists(), f"{point} was never reached"
        stack.wait_ready(service, other_than=before)
        assert_done_once(world, stack, name, ended(client, run.id))


@pytest.mark.parametrize(
    "moment", [at_once, when_listed, when_fragments, when_committed, when_delivering]
)
def test_a_killed_broker_costs_nothing(
    local: tuple[World, EmbeddedStack], moment: Callable[[World, EmbeddedStack, str], bool]
) -> None:
    world, stack = local
    name = "nats-" + moment.__name__.replace("_", "-")
    with stack.client() as client:
        run = apply(client, world, name)
        stack.wait_for(lambda: moment(world, stack, name), moment.__name__)
        old = stack.kill("nats")
        stack.wait_ready("nats", other_than=old)
        assert_done_once(world, stack, name, ended(client, run))


def test_everything_killed_at_once_goes_on_where_it_was(
    local: tuple[World, EmbeddedStack],
) -> None:
    world, stack = local
    with stack.client() as client:
        run = apply(client, world, "everything")
    stack.wait_for(lambda: when_listed(world, stack, "everything"), "the inventory")
    stack.kill_everything()
    stack.start()
    with stack.client() as client:
        assert_done_once(world, stack, "everything", ended(client, run))


def test_a_frozen_transform_service_writes_nothing_after_another_took_over(
    local: tuple[World, EmbeddedStack],
) -> None:
    """SIGSTOP instead of a kill: the service thaws and has to notice what it missed."""
    world, stack = local
    pid = stack.pid("transform")
    os.kill(pid, signal.SIGSTOP)
    try:
        with stack.client() as client:
            run = apply(client, world, "frozen")
            stack.wait_for(lambda: when_listed(world, stack, "frozen"), "the inventory")
    finally:
        os.kill(pid, signal.SIGCONT)
    with stack.client() as client:
        assert_done_once(world, stack, "frozen", ended(client, run))
