"""Faults on the local lane: killed workers, killed services, cancelled runs."""

from __future__ import annotations

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
from services.transform.engines.local import Local
from tests.plans import Bench, people, run


@pytest.fixture(scope="module")
def lane() -> Iterator[Local]:
    local = Local(workers=2, tries=3)
    local.start()
    yield local
    local.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.write_csv("a.csv", people(2000))
    return bench


def soon(look: Callable[[], object], within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.01)


def test_a_killed_worker_costs_nothing_but_time(bench: Bench, lane: Local) -> None:
    run(lane, bench.plan())  # the pool is warm
    killed: list[int] = []

    def kill_one(done: Done) -> None:
        if done.done == 3 and not killed:
            killed.append(lane.pool.pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    table = bench.commit(lane.run(bench.plan(), kill_one, Stop("run-1")))
    assert sorted(table["id"].to_pylist()) == list(range(2000))
    assert killed
    soon(lambda: len(lane.pool.pids()) == 2 and killed[0] not in lane.pool.pids())


def test_a_task_that_keeps_killing_its_worker_is_given_up(bench: Bench) -> None:
    lane = Local(workers=1, tries=2)
    lane.start()
    ended = threading.Event()

    def kill_all() -> None:
        while not ended.wait(0.01):
            for pid in lane.pool.pids():
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(TransientError) as caught:
            run(lane, bench.plan())
    finally:
        ended.set()
        killer.join()
        lane.stop()
    assert caught.value.code == "worker_died"


def test_a_cancelled_run_is_left_within_seconds_and_others_go_on(bench: Bench, lane: Local) -> None:
    run(lane, bench.plan())
    stop = Stop("run-1")
    frozen = lane.pool.pids()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.5, stop.set, ["cancelled"]).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run(lane, bench.plan(), stop)
    assert time.monotonic() - began < 5
    for pid in set(frozen) & set(lane.pool.pids()):
        os.kill(pid, signal.SIGCONT)
    assert run(lane, bench.plan()).rows == 2000


def test_two_runs_at_once_share_the_lane(tmp_path: Path, lane: Local) -> None:
    benches = [Bench(tmp_path / str(i), run=f"run-{i}") for i in range(2)]
    found: dict[int, int] = {}

    def work(at: int) -> None:
        found[at] = run(lane, benches[at].plan()).rows

    for at, bench in enumerate(benches):
        bench.write_csv("a.csv", people(500 + at))
    threads = [threading.Thread(target=work, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {0: 500, 1: 501}


def test_workers_do_not_outlive_a_killed_service() -> None:
    code = (
        "from services.transform.engines.local import Local\n"
        "import time\n"
        "lane = Local(2, 3); lane.start()\n"
        "while len(lane.pool.pids()) < 2: time.sleep(0.01)\n"
        "print(*lane.pool.pids(), flush=True)\n"
        "time.sleep(60)\n"
    )
    service = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert service.stdout is not None
    pids = [int(pid) for pid in service.stdout.readline().split()]
    service.kill()
    service.wait()
    service.stdout.close()
    soon(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert len(pids) == 2
