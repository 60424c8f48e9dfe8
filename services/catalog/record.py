"""The fold: what each fact says about datasets, runs, versions and deliveries.

Pure, and indifferent to order and repetition (see `evidence`): the rows after a set of facts
depend on the set alone. The app applies it in one transaction and acknowledges after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import singledispatch
from typing import Literal, NamedTuple

from libs.common.events import (
    TERMINAL,
    DatasetDeleted,
    DatasetDelivered,
    DatasetEdited,
    DatasetTransformed,
    Fact,
    LabelsApplied,
    RunChanged,
    SourceResolved,
)
from libs.common.ids import digest
from services.catalog.evidence import Entry, Evidence, stamp

Kind = Literal["dataset", "run", "version", "delivery"]
SEEN = "seen"  # the slot for whichever fact was first, or last
ENDS = TERMINAL - {"coalesced", "duplicate"}


class Key(NamedTuple):
    """Which row: `ns/name`, a run's id, `ns/name@7`, or a delivery's digest."""

    kind: Kind
    id: str


@dataclass(frozen=True)
class Event:
    """A fact and when it happened, by the clock of who published it."""

    fact: Fact
    time: datetime


def fold(rows: Mapping[Key, Evidence], events: Iterable[Event]) -> dict[Key, Evidence]:
    """The rows that the events touch, as they are afterwards; `rows` holds the known ones."""
    after: dict[Key, Evidence] = {}
    for event in events:
        for key, said in says(event).items():
            known = after.get(key) or rows.get(key) or Evidence()
            after[key] = known.merge(said)
    return after


def says(event: Event) -> dict[Key, Evidence]:
    """What one fact says, by the row that it says it of."""
    return _says(event.fact, event)


def version_key(dataset: str, number: int) -> Key:
    return Key("version", f"{dataset}@{number}")


@singledispatch
def _says(_fact: Fact, _event: Event) -> dict[Key, Evidence]:
    """A request, or a fact of a newer release: nothing that the catalog keeps."""
    return {}


@_says.register
def _run_changed(fact: RunChanged, event: Event) -> dict[Key, Evidence]:
    if fact.state == "duplicate" and fact.into in (None, fact.run):
        return {}  # the same request again: its run goes on as it was
    entry = _entry(event, "dataset", "cause", "state", "stage", "version", "into", "error")
    slot = _slot(fact)
    run = Evidence(
        {SEEN: _entry(event, "dataset", "cause"), slot: entry},
        {SEEN: _entry(event)},
        {"generation": fact.generation, "attempt": fact.attempt},
    )
    return {Key("run", fact.run): run} | _dataset(event, fact.dataset, fact.generation)


def _slot(fact: RunChanged) -> str:
    """Waiting to be the next run is no end: that run becomes active later, under its own id."""
    waits = fact.state == "coalesced" and fact.into in (None, fact.run)
    if fact.state == "accepted" or waits:
        return "accepted"
    return "ended" if fact.state in TERMINAL else f"running:{fact.stage or 'accept'}"


@_says.register
def _source_resolved(fact: SourceResolved, event: Event) -> dict[Key, Evidence]:
    run = _stage(event, "resolved", "files", "bytes", "run_dir", "cause", "dataset")
    return {Key("run", fact.run): run} | _dataset(event, fact.dataset, fact.generation)


@_says.register
def _transformed(fact: DatasetTransformed, event: Event) -> dict[Key, Evidence]:
    run = _stage(event, "transformed", "version", "rows", "bytes", "run_dir", "cause", "dataset")
    version = Evidence(
        {
            # A run that changed nothing only repeats what it found; who made it knows better.
            "found" if fact.unchanged else "made": _entry(
                event, "dataset", "version", "run", "run_dir", "rows", "bytes", "columns", "engine"
            )
        }
    )
    return {
        Key("run", fact.run): run,
        version_key(fact.dataset, fact.version): version,
        **_dataset(event, fact.dataset, fact.generation, {"version": fact.version}),
    }


@_says.register
def _delivered(fact: DatasetDelivered, event: Event) -> dict[Key, Evidence]:
    entry = _entry(
        event, "dataset", "version", "run", "destination", "kind", "format",
        "files", "rows", "bytes", "manifest",
    )  # fmt: skip
    delivery = Evidence({"found": entry}) if fact.unchanged else Evidence(last={"made": entry})
    run = Evidence(
        {SEEN: _entry(event, "dataset")},
        {SEEN: _entry(event), "delivered": _entry(event, "version", "rows", "bytes", "files")},
    )
    return {
        Key("run", fact.run): run,
        Key("delivery", digest([fact.dataset, fact.version, fact.destination])): delivery,
        **_dataset(event, fact.dataset),
    }


@_says.register
def _deleted(fact: DatasetDeleted, event: Event) -> dict[Key, Evidence]:
    return _dataset(event, fact.dataset, most={"deleted": fact.generation})


@_says.register(LabelsApplied)
@_says.register(DatasetEdited)
def _touched(fact: LabelsApplied | DatasetEdited, event: Event) -> dict[Key, Evidence]:
    return _dataset(event, fact.dataset)


def _stage(event: Event, slot: str, *names: str) -> Evidence:
    """What the end of a stage says of its run."""
    return Evidence(
        {SEEN: _entry(event, "dataset", "cause"), slot: _entry(event, *names)},
        {SEEN: _entry(event)},
        {"generation": int(getattr(event.fact, "generation", 0))},
    )


def _dataset(
    event: Event, dataset: str, generation: int = 0, most: Mapping[str, int] | None = None
) -> dict[Key, Evidence]:
    """Any fact of a dataset says that it is there; one without a name says nothing."""
    if not all(dataset.partition("/")):
        return {}
    greatest = {"generation": generation, **(most or {})}
    seen = {SEEN: _entry(event)}
    return {Key("dataset", dataset): Evidence(seen, seen, greatest)}


def _entry(event: Event, *names: str) -> Entry:
    """Time and id of the fact, and some of its fields."""
    said = event.fact.model_dump(mode="json", include=set(names))
    clean = {name: _printable(value) for name, value in said.items()}
    return {"time": stamp(event.time), "id": event.fact.id(), **clean}


def _printable(value: object) -> object:
    """Without NUL, which Postgres can't keep in text: data quoted in an error may hold one."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {str(_printable(k)): _printable(v) for k, v in value.items()}
    return [_printable(v) for v in value] if isinstance(value, list) else value
