"""kill -9 of what a run on Ray lives in: its actor, and the service that waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from deploy.local import process
from tests.e2e.stack import EmbeddedStack
from tests.e2e.world import World, apply, assert_done_once, ended, open_world

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, EmbeddedStack]]:
    yield from open_world(tmp_path_factory.mktemp("kills-ray"), ray=True)


def drivers(stack: EmbeddedStack) -> list[psutil.Process]:
    """Processes of the stack in which a run's driver lives in the Ray cluster."""
    found = []
    for member in process.members(str(stack.state["stack"])):
        with suppress(psutil.Error):
            title = " ".join(member.cmdline())
            if title.startswith("ray::RunActor"):
                found.append(member)
    return found


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_a_killed_ray_actor_costs_nothing(
    on_ray: tuple[World, EmbeddedStack], delay: float
) -> None:
    """The delays spread the kills over the driver's short life; the result may not depend on it."""
    world, stack = on_ray
    name = f"actor-{int(delay * 1000)}"
    known = {p.pid for p in drivers(stack)}
    with stack.client() as client:
        run = apply(client, world, name)
        stack.wait_for(lambda: {p.pid for p in drivers(stack)} - known, "the driver")
        time.sleep(delay)
        for driver in drivers(stack):
            with suppress(psutil.Error):
                driver.kill()
        assert_done_once(world, stack, name, ended(client, run))


@pytest.mark.parametrize("point", ["after_actor_start", "before_commit", "after_tag"])
def test_a_killed_transform_service_finds_its_ray_run_again(
    on_ray: tuple[World, EmbeddedStack], point: str
) -> None:
    world, stack = on_ray
    name = "ray-" + point.replace("_", "-")
    before = stack.pid("transform")
    world.armed.write_text(point)
    with stack.client() as client:
        run = ended(client, apply(client, world, name))
        assert not world.armed.exists(), f"{point} was never reached"
        stack.wait_ready("transform", other_than=before)
        assert_done_once(world, stack, name, run)
