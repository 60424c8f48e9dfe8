"""Which run of a dataset may work: decided purely, written by `runs`."""

from __future__ import annotations

from typing import Literal

from libs.common.bus.records import RunRecord, Slot

Outcome = Literal["active", "coalesced", "duplicate"]
NOT_BEGUN = (None, "accept", "ingest")  # stages in which ingest still has to resolve the sources


def place(slot: Slot, run: RunRecord, holder_ended: bool) -> tuple[Slot, Outcome, str | None]:
    """The slot after `run` asks for it, what became of the run, and what it was coalesced into.

    Asking again changes nothing: a run in the slot is active until its sources are resolved,
    a duplicate from then on; a waiting run goes on waiting.
    """
    if slot.run == run.id:
        return slot, "active" if unresolved(run) else "duplicate", None
    if slot.pending and slot.pending.id == run.id:
        return slot, "coalesced", None
    if slot.run is None or (holder_ended and slot.pending is None):
        return Slot(dataset=run.dataset, run=run.id), "active", None
    if slot.pending is None:
        return slot.evolve(pending=run), "coalesced", None
    return slot.evolve(pending=merged(slot.pending, run)), "coalesced", slot.pending.id


def merged(waiting: RunRecord, newer: RunRecord) -> RunRecord:
    """The waiting run, doing what was asked last; its id stays, and force once asked for too."""
    force = waiting.force or newer.force
    if newer.generation < waiting.generation:
        return waiting.evolve(force=force)
    return waiting.evolve(
        generation=newer.generation,
        manifest=newer.manifest,
        cause=newer.cause,
        base=newer.base,
        force=force,
    )


def unresolved(run: RunRecord) -> bool:
    """Whether ingest has not handed the run on yet."""
    return run.stage in NOT_BEGUN and (run.attempt == 0 or run.stage == "ingest")
