"""How a run ends, and which failure is told, decided without a bus."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from libs.common.errors import Cancelled, LeaseLost, PermanentError, TransientError
from libs.common.events import DatasetTransformed
from services.sink.deliver import end_state, raise_worst
from services.sink.destinations import Receipt
from services.sink.settings import SinkSettings
from services.sink.watch import RunWatch

NEW = Receipt("csv", 1, 1, 1)
THERE = Receipt("csv", 1, 1, 1, unchanged=True)
NEWER = Receipt("csv", 1, 1, 1, superseded=True)


@pytest.mark.parametrize(
    ("unchanged", "receipts", "state"),
    [
        (False, [], "succeeded"),
        (False, [THERE], "succeeded"),
        (True, [], "skipped"),
        (True, [THERE, NEWER], "skipped"),
        (True, [THERE, NEW], "succeeded"),
    ],
)
def test_a_run_is_skipped_only_where_nothing_at_all_is_new(
    unchanged: bool, receipts: Sequence[Receipt], state: str
) -> None:
    fact = DatasetTransformed(
        run="run-1", dataset="default/f", generation=1, run_dir="d", version=1, rows=1,
        unchanged=unchanged,
    )  # fmt: skip
    assert end_state(fact, receipts) == state


def test_what_can_still_succeed_is_tried_again_before_the_run_fails() -> None:
    first, second = PermanentError("no", code="a"), PermanentError("no", code="b")
    busy = TransientError("busy", code="c")
    raise_worst([])
    with pytest.raises(PermanentError) as refused:
        raise_worst([first, second])
    assert refused.value is first
    with pytest.raises(TransientError) as again:
        raise_worst([first, busy, second])
    assert again.value is busy


def test_roots_are_read_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEBLOCK_SINK_ROOTS", "/data/out:/srv/share:")
    assert SinkSettings().sink_roots == (Path("/data/out"), Path("/srv/share"))
    monkeypatch.delenv("ONEBLOCK_SINK_ROOTS")
    assert SinkSettings().sink_roots == ()


class HeldLease:
    """A lease that is ours until a test says otherwise."""

    def __init__(self) -> None:
        self.attempt = 1
        self.lost = asyncio.Event()
        self.asked = threading.Event()

    async def check(self) -> None:
        self.asked.set()
        if self.lost.is_set():
            raise LeaseLost("run-1")


async def test_a_delivering_thread_learns_why_it_has_to_stop() -> None:
    lease, cancelled = HeldLease(), asyncio.Event()
    watch = RunWatch("run-1", lease, cancelled, lambda number, run: False)
    await asyncio.to_thread(watch.fence)
    assert lease.asked.is_set()
    watch.wrote(10, 100, 1)
    assert (watch.rows, watch.bytes, watch.files) == (10, 100, 1)
    cancelled.set()
    with pytest.raises(Cancelled):
        watch.wrote(1, 1)
    lease.lost.set()
    with pytest.raises(LeaseLost):
        await asyncio.to_thread(watch.fence)
    watch.stop()
    with pytest.raises(TransientError, match="stopping"):
        await asyncio.to_thread(watch.fence)
