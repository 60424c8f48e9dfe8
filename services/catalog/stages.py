"""The stages of a run as people see them, from the run's evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.catalog.evidence import NOTHING, Entry, Evidence, moment
from services.catalog.record import SEEN

StageName = Literal["ingest", "transform", "sink"]
StageState = Literal["pending", "running", "succeeded", "failed", "cancelled", "not_run"]
NAMES: tuple[StageName, ...] = ("ingest", "transform", "sink")
DONE = {"succeeded", "skipped"}


@dataclass(frozen=True)
class Stage:
    """How far one stage of a run is."""

    name: StageName
    state: StageState
    started_at: datetime | None = None
    finished_at: datetime | None = None
    files: int | None = None
    rows: int | None = None
    bytes: int | None = None


def stages(evidence: Evidence) -> list[Stage]:
    """All three in order; none for a run that another one stands for."""
    first, ended = evidence.first, evidence.first.get("ended", NOTHING)
    if ended.get("state") in {"coalesced", "duplicate"}:
        return []
    done = ended.get("state") in DONE
    ends: dict[StageName, Entry] = {
        "ingest": first.get("resolved", NOTHING),
        "transform": first.get("transformed", NOTHING),
        "sink": {**evidence.last.get("delivered", NOTHING), **_time(ended)} if done else NOTHING,
    }
    starts: dict[StageName, Entry] = {
        "ingest": first.get("accepted") or first[SEEN],
        "transform": first.get("running:transform") or ends["ingest"],
        "sink": first.get("running:sink") or ends["transform"],
    }
    broken = _broken(ends, ended)
    return [_stage(name, starts[name], ends[name], ended, broken) for name in NAMES]


def _broken(ends: dict[StageName, Entry], ended: Entry) -> StageName | None:
    """The stage in which a run failed or was cancelled: as told, else the first without an end."""
    if not ended or ended.get("state") in DONE:
        return None
    told = "ingest" if ended.get("stage") == "accept" else ended.get("stage")
    unfinished: StageName = next((name for name in NAMES if not ends[name]), "sink")
    return next((name for name in NAMES if name == told), unfinished)


def _stage(
    name: StageName, start: Entry, end: Entry, ended: Entry, broken: StageName | None
) -> Stage:
    if name == broken:
        state: StageState = "cancelled" if ended["state"] == "cancelled" else "failed"
        return Stage(name, state, _at(start), moment(ended))
    if end:
        return Stage(name, "succeeded", _at(start), _at(end), *_counts(end))
    if ended:
        return Stage(name, "not_run")
    return Stage(name, "running" if start else "pending", _at(start))


def _counts(end: Entry) -> tuple[int | None, ...]:
    return tuple(
        v if isinstance(v := end.get(n), int) else None for n in ("files", "rows", "bytes")
    )


def _time(entry: Entry) -> Entry:
    return {"time": entry["time"]}


def _at(entry: Entry) -> datetime | None:
    return moment(entry) if entry else None
