"""Runs on a real bucket: one active, none lost, one end, and an old attempt can't win."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from libs.common.bus import LeaseHeld, RunEnded, RunRecord, Runs, Specs, admin
from libs.common.bus.bucket import Bucket
from libs.common.errors import Cancelled, LeaseLost, PermanentError, TransientError
from libs.common.events import ErrorInfo
from libs.common.manifest.model import DataSet
from tests.buses import a_bus, eventually, resolved, started
from tests.servers import NatsServer, nats_server

DATASET = "default/cars"


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


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    await admin.migrate(server.url, ack_wait=1.0)
    connection = await nats.connect(server.url)
    yield connection
    await connection.close()


@pytest.fixture
def bucket(client: Client) -> Bucket:
    return Bucket(client, "oneblock_runs")


@pytest.fixture
def runs(bucket: Bucket) -> Runs:
    return Runs(bucket)


def a_run(name: str, generation: int = 1) -> RunRecord:
    return RunRecord(
        id=name, dataset=DATASET, generation=generation, manifest={"generation": generation}
    )


async def state_of(runs: Runs, run: str) -> str:
    record = await runs.get(run)
    return record.state if record else "unknown"


async def test_the_first_run_is_active_the_second_waits_the_third_ends_in_the_second(
    runs: Runs,
) -> None:
    first = await runs.accept(a_run("first"))
    second = await runs.accept(a_run("second", 2))
    third = await runs.accept(a_run("third", 3))
    assert (first.outcome, second.outcome, third.outcome) == ("active", "coalesced", "coalesced")
    assert (second.into, second.run.state) == (None, "accepted")
    assert (third.into, third.run.state, third.run.into) == ("second", "coalesced", "second")

    await runs.finish("first", "succeeded", version=1)
    promoted = await runs.release(DATASET, "first")
    assert promoted is not None
    assert (promoted.id, promoted.manifest, promoted.generation) == ("second", {"generation": 3}, 3)


async def test_five_requests_at_once_leave_one_active_run_and_one_that_waits(runs: Runs) -> None:
    answers = await asyncio.gather(*(runs.accept(a_run(f"run-{n}", n)) for n in range(5)))
    outcomes = sorted(answer.outcome for answer in answers)
    assert outcomes == ["active", "coalesced", "coalesced", "coalesced", "coalesced"]
    slot = (await runs.active())[0]
    assert slot.pending is not None
    waiting = [answer for answer in answers if answer.run.id == slot.pending.id]
    assert [answer.into for answer in waiting] == [None]
    ended = [answer for answer in answers if answer.into]
    assert {answer.into for answer in ended} == {slot.pending.id}
    assert all(answer.run.state == "coalesced" for answer in ended)


async def test_the_same_run_asked_for_five_times_at_once_is_one_run(runs: Runs) -> None:
    answers = await asyncio.gather(*(runs.accept(a_run("first")) for _ in range(5)))
    assert {answer.outcome for answer in answers} == {"active"}
    await runs.advance("first", "transform")
    again = await runs.accept(a_run("first"))
    assert again.outcome == "duplicate"
    assert (await runs.active())[0].pending is None


async def test_a_run_ends_once_and_the_first_end_stands(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    error = ErrorInfo(code="not_found", detail="no such file")
    failed = await runs.finish("first", "failed", error=error, stage="ingest")
    assert await runs.finish("first", "succeeded", version=3) == failed
    assert await runs.advance("first", "sink") == failed
    assert (failed.changed().id()) == ((await runs.finish("first", "cancelled")).changed().id())


async def test_ends_written_by_many_at_once_are_one_end(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    ends = await asyncio.gather(*(runs.finish("first", "succeeded", version=n) for n in range(8)))
    assert len({end.version for end in ends}) == 1


async def test_an_unknown_run_cannot_end_and_an_active_state_is_no_end(runs: Runs) -> None:
    with pytest.raises(PermanentError) as caught:
        await runs.finish("nobody", "failed")
    assert caught.value.code == "run_unknown"
    await runs.accept(a_run("first"))
    with pytest.raises(ValueError, match="no end of a run"):
        await runs.finish("first", "running")


async def test_releasing_a_slot_of_another_run_changes_nothing(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    assert await runs.release(DATASET, "other") is None
    assert [slot.run for slot in await runs.active()] == ["first"]
    assert await runs.release(DATASET, "first") is None
    assert await runs.active() == []


async def test_a_slot_left_behind_by_an_ended_run_is_taken_over(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    await runs.finish("first", "failed")
    assert (await runs.accept(a_run("second"))).outcome == "active"


async def test_only_one_owner_gets_the_lease_and_the_other_is_told_when_to_ask(
    runs: Runs,
) -> None:
    await runs.accept(a_run("first"))
    async with await runs.lease("first", "one") as lease:
        assert lease.attempt == 1
        with pytest.raises(LeaseHeld) as caught:
            await runs.lease("first", "two")
        assert 25 < caught.value.retry_after <= 30
        assert await runs.held("first")
    assert not await runs.held("first")
    async with await runs.lease("first", "two") as lease:  # given back: at once
        assert lease.attempt == 2
    record = await runs.get("first")
    assert record is not None
    assert (record.attempt, record.state) == (2, "running")


async def test_two_who_take_the_lease_at_once_never_both_have_it(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    taken = await asyncio.gather(
        *(runs.lease("first", f"owner-{n}") for n in range(6)), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in taken) == 1
    assert all(isinstance(one, LeaseHeld) for one in taken if isinstance(one, BaseException))


async def test_a_lease_is_kept_for_as_long_as_the_work_takes(bucket: Bucket) -> None:
    runs = Runs(bucket, lease_ttl=0.6)
    await runs.accept(a_run("first"))
    async with await runs.lease("first", "one") as lease:
        await asyncio.sleep(1.5)
        await lease.check()
        with pytest.raises(LeaseHeld):
            await runs.lease("first", "two")


async def test_an_overtaken_attempt_learns_it_before_it_commits(bucket: Bucket) -> None:
    runs = Runs(bucket, lease_ttl=0.3)
    await runs.accept(a_run("first"))
    frozen = await runs.lease("first", "frozen")  # never renews, as a stopped process
    await asyncio.sleep(0.4)
    async with await runs.lease("first", "winner") as winner:
        assert winner.attempt == 2
        with pytest.raises(LeaseLost):
            await frozen.check()
        await winner.check()


async def test_whatever_an_overtaken_attempt_fails_with_says_nothing_about_the_run(
    bucket: Bucket,
) -> None:
    runs = Runs(bucket, lease_ttl=0.3)
    await runs.accept(a_run("first"))
    frozen = await runs.lease("first", "frozen")
    await asyncio.sleep(0.4)
    async with await runs.lease("first", "winner") as winner:
        with pytest.raises(LeaseLost):
            async with frozen:
                await frozen.lost.wait()
                raise PermanentError("the file is gone", code="not_found")
        assert not winner.lost.is_set()


async def test_a_lease_that_cannot_be_renewed_in_time_is_lost(
    server: NatsServer, bucket: Bucket
) -> None:
    runs = Runs(bucket, lease_ttl=0.5)
    await runs.accept(a_run("first"))
    async with await runs.lease("first", "one") as lease:
        server.freeze()
        await asyncio.wait_for(lease.lost.wait(), 12)
        with pytest.raises(LeaseLost):
            await lease.check()
        server.thaw()


async def test_nobody_gets_the_lease_of_a_run_that_ended(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    ended = await runs.finish("first", "succeeded", version=1)
    with pytest.raises(RunEnded) as caught:
        await runs.lease("first", "one")
    assert caught.value.record == ended


async def test_a_frozen_process_fences_itself_after_another_won(
    server: NatsServer, client: Client, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    runs = Runs(Bucket(client, "oneblock_runs"), lease_ttl=2.0)
    await runs.accept(a_run("run-1"))
    command = [sys.executable, "-m", "tests.busworker", server.url, "lease"]
    process = subprocess.Popen(  # noqa: ASYNC220
        [*command, str(notes)], env=dict(os.environ)
    )
    try:
        async with started(a_bus(server)) as bus:
            await bus.publish(resolved("run-1"))
        await eventually(lambda: notes.exists() and "leased run-1 1" in notes.read_text(), 15)
        process.send_signal(signal.SIGSTOP)

        async def take_over() -> bool:
            try:
                async with await runs.lease("run-1", "winner") as lease:
                    await lease.check()
                    await runs.finish("run-1", "succeeded", version=1)
                return True
            except LeaseHeld:
                return False

        assert await eventually(take_over, within=6)
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: "LeaseLost" in notes.read_text(), 10)
        assert "committed" not in notes.read_text()
    finally:
        process.kill()
        process.wait()


async def test_a_run_nobody_works_on_is_cancelled_at_once(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    record = await runs.cancel("first")
    assert record is not None
    assert (record.state, record.cancel) == ("cancelled", True)
    assert await runs.cancel("nobody") is None


async def test_a_waiting_run_that_is_cancelled_leaves_the_queue(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    await runs.accept(a_run("second"))
    assert await runs.cancel("second") is not None
    assert await state_of(runs, "second") == "cancelled"
    third = await runs.accept(a_run("third"))
    assert (third.outcome, third.into) == ("coalesced", None)
    assert third.run.state == "accepted"


async def test_who_works_on_a_cancelled_run_notices(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    async with await runs.lease("first", "one"), runs.watch_cancel("first") as cancelled:
        record = await runs.cancel("first")
        assert record is not None
        assert record.state == "running"
        await asyncio.wait_for(cancelled.wait(), 3)
    with pytest.raises(Cancelled):
        await runs.lease("first", "two")


async def test_an_end_that_came_before_the_cancel_stands(runs: Runs) -> None:
    await runs.accept(a_run("first"))
    await runs.finish("first", "succeeded", version=1)
    record = await runs.cancel("first")
    assert record is not None
    assert (record.state, record.cancel) == ("succeeded", False)
    assert not await runs.cancelled("first")


class Dying(Bucket):
    """A bucket of a process that is killed before, or right after, its k-th write."""

    def __init__(self, client: Client, dies_at: int, after: bool) -> None:
        super().__init__(client, "oneblock_runs")
        self._left = dies_at
        self._after = after

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise asyncio.CancelledError
        answer = await super().update(key, value, revision)
        if self._left == 0:
            raise asyncio.CancelledError
        return answer


async def cut_off(client: Client, step: Callable[[Runs], Awaitable[object]]) -> int:
    """Do the step again and again, each time killed one write later; returns how many there were.

    After the last, uncut one the state has to be as if nothing had happened.
    """
    for number in range(1, 20):
        for after in (False, True):
            try:
                await step(Runs(Dying(client, number, after)))
            except asyncio.CancelledError:
                continue
            return number
    raise AssertionError("it never came to its end")


async def test_a_kill_between_any_two_steps_loses_no_run(client: Client, runs: Runs) -> None:
    writes = await cut_off(client, lambda dying: dying.accept(a_run("first")))
    assert (await runs.accept(a_run("first"))).outcome == "active"
    writes += await cut_off(client, lambda dying: dying.accept(a_run("second", 2)))
    writes += await cut_off(client, lambda dying: dying.accept(a_run("third", 3)))
    assert await state_of(runs, "third") == "coalesced"
    writes += await cut_off(client, lambda dying: dying.finish("first", "succeeded", version=1))
    writes += await cut_off(client, lambda dying: dying.release(DATASET, "first"))
    assert writes > 5
    promoted = await runs.release(DATASET, "first")
    assert promoted is not None
    assert (promoted.id, promoted.manifest) == ("second", {"generation": 3})
    slot = (await runs.active())[0]
    assert (slot.run, slot.pending) == ("second", None)


async def test_a_kill_between_any_two_steps_of_a_cancel_leaves_no_half_of_it(
    client: Client, runs: Runs
) -> None:
    await runs.accept(a_run("first"))
    await runs.accept(a_run("second"))
    await cut_off(client, lambda dying: dying.cancel("second"))
    assert await state_of(runs, "second") == "cancelled"
    assert (await runs.active())[0].pending is None
    assert (await runs.accept(a_run("second"))).outcome == "duplicate"


async def test_the_slot_survives_a_broker_that_is_killed_all_the_time(
    server: NatsServer, runs: Runs
) -> None:
    async def kill_it_now_and_then() -> None:
        for _ in range(3):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(server.restart)

    killing = asyncio.create_task(kill_it_now_and_then())
    for number in range(30):
        await again(lambda number=number: runs.accept(a_run(f"run-{number}", number)))  # type: ignore[misc]
    await killing
    slot = (await runs.active())[0]
    assert slot.pending is not None
    states = [await state_of(runs, f"run-{number}") for number in range(30)]
    assert states == ["accepted", "accepted", *["coalesced"] * 28]
    assert slot.pending.manifest == {"generation": 29}


async def again(step: Callable[[], Awaitable[object]]) -> object:
    """As a redelivery would."""
    for _ in range(10):
        try:
            return await step()
        except TransientError:
            await asyncio.sleep(0.2)
    raise AssertionError("it never came to its end")


def a_manifest(url: str = "file:///a.csv", **metadata: object) -> DataSet:
    return DataSet.model_validate(
        {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": "cars", **metadata},
            "spec": {"source": {"type": "csv", "url": url}},
        }
    )


async def test_the_generation_grows_only_when_the_spec_changes(client: Client) -> None:
    specs = Specs(Bucket(client, "oneblock_specs"))
    assert await specs.get("default/cars") is None
    first = await specs.put(a_manifest())
    assert (first.generation, await specs.put(a_manifest())) == (1, first)
    assert (await specs.put(a_manifest(labels={"team": "x"}))).generation == 1
    assert (await specs.put(a_manifest("file:///b.csv"))).generation == 2
    assert [desired.dataset for desired in await specs.list()] == ["default/cars"]


async def test_a_deleted_spec_is_remembered_and_can_come_back(client: Client) -> None:
    specs = Specs(Bucket(client, "oneblock_specs"))
    assert await specs.delete("default/cars") is None
    await specs.put(a_manifest())
    gone = await specs.delete("default/cars")
    assert gone is not None
    assert (gone.deleted, gone.generation) == (True, 2)
    assert await specs.delete("default/cars") == gone
    assert await specs.list() == []
    back = await specs.put(a_manifest())
    assert (back.deleted, back.generation) == (False, 3)


async def test_specs_written_at_once_all_count(client: Client) -> None:
    specs = Specs(Bucket(client, "oneblock_specs"))
    await asyncio.gather(*(specs.put(a_manifest(f"file:///{n}.csv")) for n in range(6)))
    latest = await specs.get("default/cars")
    assert latest is not None
    assert latest.generation == 6
