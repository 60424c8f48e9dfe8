"""Which run of a dataset may work, decided without a server."""

from __future__ import annotations

import pytest

from libs.common.bus.records import RunRecord, Slot
from libs.common.bus.slots import merged, place


def a_run(name: str, generation: int = 1, **more: object) -> RunRecord:
    return RunRecord.model_validate(
        {
            "id": name,
            "dataset": "a/b",
            "generation": generation,
            "manifest": {"generation": generation},
            **more,
        }
    )


FREE = Slot(dataset="a/b")
TAKEN = Slot(dataset="a/b", run="first")
QUEUED = TAKEN.evolve(pending=a_run("second"))


def test_a_free_slot_is_taken() -> None:
    slot, outcome, into = place(FREE, a_run("first"), holder_ended=False)
    assert (slot.run, outcome, into) == ("first", "active", None)


def test_the_second_run_waits() -> None:
    slot, outcome, into = place(TAKEN, a_run("second"), holder_ended=False)
    assert slot.run == "first"
    assert slot.pending is not None
    assert (slot.pending.id, outcome, into) == ("second", "coalesced", None)


def test_the_third_run_ends_in_the_waiting_one_which_takes_over_its_manifest() -> None:
    slot, outcome, into = place(QUEUED, a_run("third", 3, force=True), holder_ended=False)
    assert (outcome, into) == ("coalesced", "second")
    assert slot.pending is not None
    assert slot.pending.id == "second"
    assert slot.pending.manifest == {"generation": 3}
    assert slot.pending.force


def test_an_older_manifest_that_comes_late_does_not_replace_a_newer_one() -> None:
    waiting = merged(a_run("second", 5), a_run("late", 4, force=True))
    assert (waiting.generation, waiting.manifest) == (5, {"generation": 5})
    assert waiting.force


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (a_run("first"), "active"),  # nothing happened yet: go on after a crash
        (a_run("first", stage="ingest", attempt=1, state="running"), "active"),
        (a_run("first", stage="transform", attempt=1, state="running"), "duplicate"),
        (a_run("first", attempt=1, state="running"), "duplicate"),
    ],
)
def test_asking_again_starts_only_what_has_not_begun(run: RunRecord, outcome: str) -> None:
    assert place(TAKEN, run, holder_ended=False) == (TAKEN, outcome, None)


def test_asking_again_leaves_a_waiting_run_waiting() -> None:
    assert place(QUEUED, a_run("second"), holder_ended=False) == (QUEUED, "coalesced", None)


def test_a_slot_whose_run_has_ended_is_free() -> None:
    slot, outcome, _ = place(TAKEN, a_run("second"), holder_ended=True)
    assert (slot.run, outcome) == ("second", "active")


def test_nobody_overtakes_the_waiting_run() -> None:
    _, outcome, into = place(QUEUED, a_run("third"), holder_ended=True)
    assert (outcome, into) == ("coalesced", "second")
