"""Faults on Ray: whatever is killed, the run ends with every row once, or says why not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from libs.common.errors import Cancelled, TransientError
from services.transform.driver import Done
from services.transform.engines import Stop
from services.transform.engines._ray_link import Link
from services.transform.engines._ray_words import Call, Terms
from services.transform.engines.ray import Ray
from services.transform.plan import Plan
from tests.plans import Bench, people
from tests.ray_head import Running, ray_head

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]
ROWS = 15_000
TERMS = Terms(deadline=120, linger=60, tries=3)


@pytest.fixture(scope="module")
def head() -> Iterator[Running]:
    with ray_head() as running:
        yield running


@pytest.fixture(scope="module")
def engine(head: Running) -> Iterator[Ray]:
    ray = Ray(link_to(head), 60, TERMS)
    yield ray
    ray.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, run=f"run-{tmp_path.name[-30:]}")
    bench.write_csv("a.csv", people(ROWS))
    return bench


def link_to(head: Running) -> Link:
    return Link(head.address, lambda: head.token)


def after(tasks: int, act: Callable[[], None]) -> Callable[[Done], None]:
    """A report that acts once, when so many tasks are done."""
    acted: list[int] = []

    def report(done: Done) -> None:
        if done.done >= tasks and done.done < done.total and not acted:
            acted.append(done.done)
            act()

    report.acted = acted  # type: ignore[attr-defined]
    return report


def check(bench: Bench, engine: Ray, plan: Plan, report: Callable[[Done], None]) -> None:
    table = bench.commit(engine.run(plan, report, Stop(plan.run)))
    assert sorted(table["id"].to_pylist()) == list(range(ROWS))


def workers(head: Running) -> list[psutil.Process]:
    """Processes of this very head that do a task now; never those of another on the machine."""
    found = []
    for process in psutil.Process(head.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("ray::") and ("task" in title or "work" in title):
                found.append(process)
    return found


def test_a_killed_actor_is_replaced_and_nothing_is_doubled(bench: Bench, engine: Ray) -> None:
    def kill() -> None:
        engine._link.ask(Call(do="end", run=bench.run))

    report = after(5, kill)
    check(bench, engine, bench.plan(), report)
    assert report.acted  # type: ignore[attr-defined]


def test_a_killed_worker_is_retried(bench: Bench, engine: Ray, head: Running) -> None:
    killed: list[int] = []

    def kill_one(done: Done) -> None:
        if done.done >= 5 and not killed:
            for process in workers(head)[:1]:
                process.kill()
                killed.append(process.pid)

    check(bench, engine, bench.plan(), kill_one)
    assert killed


def test_a_killed_client_process_is_replaced_and_finds_the_run(bench: Bench, engine: Ray) -> None:
    seen: list[int] = []

    def kill() -> None:
        assert engine._link._child is not None
        os.kill(engine._link._child.pid, signal.SIGKILL)

    acting = after(5, kill)

    def report(done: Done) -> None:
        seen.append(done.done)
        acting(done)

    check(bench, engine, bench.plan(), report)
    assert seen == sorted(seen)  # never started anew


def test_a_killed_service_s_run_is_found_by_the_next_attempt(
    bench: Bench, engine: Ray, head: Running, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(bench.plan().model_dump_json())
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE, head.address, head.token, str(plan)],
        stdout=subprocess.PIPE,
    )
    assert service.stdout is not None
    assert service.stdout.readline() == b"under way\n"
    service.kill()
    service.wait()
    service.stdout.close()
    seen: list[Done] = []
    check(bench, engine, bench.plan(attempt=2), seen.append)
    assert seen[0].done > 0


SERVICE = """
import sys
from pathlib import Path
from services.transform.engines import Stop
from services.transform.engines._ray_link import Link
from services.transform.engines._ray_words import Terms
from services.transform.engines.ray import Ray
from services.transform.plan import Plan

address, token, path = sys.argv[1:]
plan = Plan.model_validate_json(Path(path).read_text())
engine = Ray(Link(address, lambda: token), 60, Terms(deadline=120, linger=60, tries=3))
told = []

def report(done):
    if done.done > 3 and not told:
        told.append(print("under way", flush=True))

engine.run(plan, report, Stop(plan.run))
"""


def test_other_work_under_the_same_run_replaces_what_runs(bench: Bench, engine: Ray) -> None:
    engine._link.ask(begin(bench.plan([{"select": ["id"]}])))
    assert engine._link.ask(Call(do="look", run=bench.run)).state is not None
    check(bench, engine, bench.plan([{"select": ["id", "name"]}]), lambda _: None)


def begin(plan: Plan, terms: Terms = TERMS) -> Call:
    return Call(
        do="begin", run=plan.run, plan=plan.model_dump_json(), terms=terms.model_dump_json()
    )


def test_a_cancelled_run_ends_within_seconds_and_its_actor_with_it(
    bench: Bench, engine: Ray
) -> None:
    stop, cancelled = Stop(bench.run), [0.0]

    def cancel() -> None:
        cancelled[0] = time.monotonic()
        stop.set("cancelled")

    with pytest.raises(Cancelled):
        engine.run(bench.plan(), after(5, cancel), stop)
    assert time.monotonic() - cancelled[0] < 5
    assert engine._link.ask(Call(do="look", run=bench.run)).trouble == "gone"


def test_a_run_that_was_left_goes_on_without_us(bench: Bench, engine: Ray) -> None:
    stop = Stop(bench.run)
    with pytest.raises(TransientError):
        engine.run(bench.plan(), after(2, lambda: stop.set("stopping")), stop)
    found = engine._link.ask(Call(do="look", run=bench.run))
    assert found.state is not None
    check(bench, engine, bench.plan(attempt=2), lambda _: None)


def test_a_finished_run_that_nobody_asks_for_leaves_the_cluster(bench: Bench, engine: Ray) -> None:
    bench.files.clear()
    bench.write("b.csv", "a\n1\n")
    terms = Terms(deadline=60, linger=2, tries=1)
    engine._link.ask(begin(bench.plan(), terms))
    deadline = time.monotonic() + 60
    while engine._link.ask(Call(do="look", run=bench.run)).trouble is None:
        assert time.monotonic() < deadline
        time.sleep(2 * terms.linger)


def test_without_a_cluster_the_run_is_tried_again_later(bench: Bench) -> None:
    nobody = Ray(Link("ray://127.0.0.1:1", lambda: None), 1.5, TERMS)
    began = time.monotonic()
    with pytest.raises(TransientError) as caught:
        nobody.run(bench.plan(), lambda _: None, Stop(bench.run))
    assert caught.value.code == "ray_unavailable"
    assert time.monotonic() - began < 10


def test_without_the_token_there_is_no_way_in(bench: Bench, head: Running) -> None:
    stranger = Ray(Link(head.address, lambda: "not-the-token"), 3, TERMS)
    threading.Timer(30, stranger.stop).start()
    with pytest.raises(TransientError) as caught:
        stranger.run(bench.plan(), lambda _: None, Stop(bench.run))
    stranger.stop()
    assert caught.value.code == "ray_unavailable"


@pytest.mark.slow
def test_a_head_that_goes_and_comes_back_costs_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, run="run-head")
    bench.write_csv("a.csv", people(ROWS))
    with ray_head() as first:
        port = int(first.address.rpartition(":")[2])
        engine = Ray(link_to(first), 60, TERMS)
        started = threading.Event()
        again = threading.Thread(target=_again, args=(first, port, started))

        def kill() -> None:
            again.start()
            started.wait(90)

        try:
            check(bench, engine, bench.plan(), after(5, kill))
        finally:
            engine.stop()
            _again_ends.set()
            again.join(60)


_again_ends = threading.Event()


def _again(first: Running, port: int, started: threading.Event) -> None:
    first.process.kill()
    first.process.wait()
    with ray_head(port=port):
        started.set()
        _again_ends.wait(120)
