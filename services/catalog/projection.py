"""What is shown of a row: its columns, worked out from its evidence alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.catalog.evidence import NOTHING, Entry, Evidence, moment
from services.catalog.record import SEEN, Key, Kind

Columns = dict[str, object]


def columns(key: Key, evidence: Evidence) -> Columns:
    """The row's columns beside `key` and `evidence`."""
    return _PROJECTIONS[key.kind](key.id, evidence)


def _dataset(name: str, evidence: Evidence) -> Columns:
    generation, deleted = evidence.most["generation"], evidence.most.get("deleted", -1)
    namespace, _, short = name.partition("/")
    return {
        "namespace": namespace,
        "name": short,
        "generation": max(generation, deleted),
        "deleted": deleted >= generation,  # a later spec brings the dataset back
        "version": evidence.most.get("version"),
        "created_at": moment(evidence.first[SEEN]),
        "updated_at": moment(evidence.last[SEEN]),
    }


def _run(_id: str, evidence: Evidence) -> Columns:
    first = evidence.first
    seen, ended = first[SEEN], first.get("ended", NOTHING)
    transformed = first.get("transformed", NOTHING)
    told = [first[slot] for slot in ("accepted", "resolved", "transformed") if slot in first]
    return {
        "namespace": _namespace(seen),
        "dataset": seen["dataset"],
        "generation": evidence.most.get("generation", 0),
        "cause": (told[0] if told else seen).get("cause", "request"),
        "state": ended.get("state") or ("running" if _started(evidence) else "accepted"),
        "attempt": evidence.most.get("attempt", 0),
        "version": ended.get("version") or transformed.get("version"),
        "into": ended.get("into"),
        "error": ended.get("error"),
        "run_dir": next((e["run_dir"] for e in told if "run_dir" in e), None),
        "created_at": moment(seen),
        "finished_at": moment(ended) if ended else None,
    }


def _started(evidence: Evidence) -> bool:
    works = {"resolved", "transformed", "delivered"}
    slots = {*evidence.first, *evidence.last}
    return bool(works & slots) or any(slot.startswith("running:") for slot in slots)


def _version(_key: str, evidence: Evidence) -> Columns:
    entry = evidence.first.get("made") or evidence.first["found"]
    made = "made" in evidence.first
    return {
        "namespace": _namespace(entry),
        "dataset": entry["dataset"],
        "number": entry["version"],
        "run": entry["run"] if made else None,
        "run_dir": entry["run_dir"] if made else None,
        "rows": entry["rows"],
        "bytes": entry["bytes"],
        "engine": entry["engine"],
        "columns": entry["columns"],
        "created_at": moment(entry),
    }


def _delivery(_key: str, evidence: Evidence) -> Columns:
    entry = evidence.last.get("made") or evidence.first["found"]
    kept = ("dataset", "version", "run", "destination", "kind", "format")
    counts = ("files", "rows", "bytes", "manifest")
    return {
        "namespace": _namespace(entry),
        **{name: entry[name] for name in kept + counts},
        "delivered_at": moment(entry),
    }


def _namespace(entry: Entry) -> str:
    return str(entry["dataset"]).partition("/")[0]


_PROJECTIONS: Mapping[Kind, Callable[[str, Evidence], Columns]] = {
    "dataset": _dataset,
    "run": _run,
    "version": _version,
    "delivery": _delivery,
}
